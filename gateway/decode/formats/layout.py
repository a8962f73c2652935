"""Values at fixed places of a payload, as a route lists them, or of a preset.

The layout says what the values of a message are. Bytes that no field names are no values: left out by
configuration, as the fields of a datasheet that a site has no use for. Fields may overlap, as bits of a byte
do.

The bytes may stand in a message of JSON, as base64 or hex: there the values take the place of that text, and
all else stays as it was.
"""

from __future__ import annotations

import binascii
import math
import re
from decimal import Decimal
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gateway.decode.fields import Refused
from gateway.decode.formats import cayenne, ruuvi, strict_json
from gateway.decode.formats.form import Format
from gateway.decode.formats.singles import of_double, of_half, of_single
from gateway.decode.limits import check_count, readings_allowed
from gateway.decode.paths import alternatives, compile_find, is_plain
from runtime.errors import ConfigurationError, Reject

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.decode.fields import NoNumber
    from gateway.decode.paths import Place
    from runtime.settings import Route
    from runtime.settings.route import Bytes, Field

_STRUCTS: Final = {
    "uint8": "B", "int8": "b", "uint16": "H", "int16": "h", "uint32": "I", "int32": "i",
    "uint64": "Q", "int64": "q", "float16": "e", "float32": "f", "float64": "d", "bool": "B",
}  # fmt: skip
_LONG: Final = {"uint24": 3, "int24": 3}  # struct has none of these
_TEXTS: Final = frozenset({"text", "hex"})
_BITS: Final = 2  # first and count
_SPACE: Final = re.compile(r"\s+")
_BETWEEN_HEX: Final = re.compile(r"(?:(?<![0-9A-Fa-f])0[xX])|[\s:,-]+")
_NO_HEX: Final = re.compile(r"[^0-9A-Fa-f]")
_NO_BASE64: Final = re.compile(r"[^A-Za-z0-9+/]")
_URL_SAFE: Final = str.maketrans("-_", "+/")


class _Reader(NamedTuple):
    """How a field is read.

    Attributes:
        name: its own.
        at: its first byte; negative from the end.
        size: in bytes.
        read: its value, of the payload and the first byte counted from the beginning.
    """

    name: str
    at: int
    size: int
    read: Callable[[bytes, int], Any]


def make(route: Route, where: str) -> Format:
    """The format of a route.

    Raises:
        ConfigurationError: the layout means nothing, or there is none.
    """
    layout, where = route.bytes, f"{where}.bytes"
    if layout.preset and layout.field:
        raise ConfigurationError(
            f"{where}.preset: {layout.preset} says what the fields are, so take one or the other"
        )
    if not layout.preset and not layout.field:
        raise ConfigurationError(f"{where}.field: is needed to say what stands where, or a preset")
    read = _PRESETS[layout.preset] if layout.preset else _reader_of(layout, where)
    unwrap = _DECODERS[layout.encoding]
    if not layout.inside:
        return Format(lambda payload: _known(read(unwrap(payload))), lambda payload: [payload], b"".join)
    if layout.encoding == "raw":
        raise ConfigurationError(f'{where}.encoding: bytes in JSON are a text, so say "base64" or "hex"')
    inside = _Inside(
        layout.inside,
        f"{where}.inside",
        lambda text: read(unwrap(text)),
        apart=not route.each,
        optional=layout.preset == "ruuvi",
    )
    return Format(inside.parse, strict_json.elements, strict_json.join)


def _known(values: dict[str, Any] | None) -> dict[str, Any]:
    if values is None:
        raise Reject("malformed_bytes", "this is no advertisement of a RuuviTag in data format 3 or 5")
    return values


def _reader_of(layout: Bytes, where: str) -> Callable[[bytes], dict[str, Any]]:
    readers: list[_Reader] = []
    for i, field in enumerate(layout.field):
        if any(field.name == each.name for each in readers):
            raise ConfigurationError(
                f"{where}.field[{i}].name: {field.name!r} is the name of another field too"
            )
        readers.append(_reader(field, layout.order, f"{where}.field[{i}]"))
    needed = max(each.at + each.size if each.at >= 0 else -each.at for each in readers)

    def read(payload: bytes) -> dict[str, Any]:
        size = len(payload)
        if size < needed:
            raise _too_short(readers, size)
        return {
            name: read_field(payload, at if at >= 0 else size + at) for name, at, _, read_field in readers
        }

    return read


def _too_short(readers: list[_Reader], size: int) -> Reject:
    first = next(each for each in readers if (each.at + each.size if each.at >= 0 else -each.at) > size)
    place = f"byte {first.at}" if first.at >= 0 else f"byte {first.at}, from the end,"
    return Reject(
        "malformed_bytes",
        f"field {first.name[:40]!r} has {first.size} bytes from {place} on, and the payload has {size}",
    )


def _reader(field: Field, order: str, where: str) -> _Reader:
    """Make a field ready.

    Raises:
        ConfigurationError: it means nothing.
    """
    if not field.name:
        raise ConfigurationError(f"{where}.name: is needed")
    if field.type in _TEXTS:
        size, read = field.size, _read_text if field.type == "text" else _read_hex
        if not size:
            raise ConfigurationError(f"{where}.size: is needed of {field.type}: how many bytes it has")
        for setting, is_given in (
            ("bits", field.bits), ("scale", field.scale != 1), ("add", field.add), ("order", field.order)
        ):  # fmt: skip
            if is_given:
                raise ConfigurationError(f"{where}.{setting}: is of numbers, and {field.type} is none")
        reader = _Reader(field.name, field.at, size, _sized(field.name, size, read))
    else:
        if field.size:
            raise ConfigurationError(f"{where}.size: is of text and hex; {field.type} says it itself")
        reader = _number_reader(field, (field.order or order), where)
    if reader.at < 0 < reader.at + reader.size:
        raise ConfigurationError(
            f"{where}.at: {field.type} has {reader.size} bytes, and {-field.at} are left there from the end"
        )
    return reader


def _number_reader(field: Field, order: str, where: str) -> _Reader:
    read: Callable[[bytes, int], Any]
    if field.type in _LONG:
        size = _LONG[field.type]
        read = _long(size, order, signed=field.type.startswith("int"))
    else:
        form = Struct((">" if order == "big" else "<") + _STRUCTS[field.type])
        size, read = form.size, _first(form)
    if field.bits:
        read = _bits(read, field, 8 * size, where)
    if field.type == "bool":
        if field.scale != 1 or field.add:
            raise ConfigurationError(
                f"{where}.{'add' if field.scale == 1 else 'scale'}: is of numbers, not of bool"
            )
        return _Reader(field.name, field.at, size, _made(read, bool))
    if field.type.startswith("float"):
        read = _made(read, {2: of_half, 4: of_single, 8: of_double}[size])
    return _Reader(field.name, field.at, size, _scaled(read, field, where))


def _bits(
    read: Callable[[bytes, int], int], field: Field, width: int, where: str
) -> Callable[[bytes, int], int]:
    if not field.type.startswith(("uint", "bool")):
        raise ConfigurationError(f"{where}.bits: are of an unsigned integer or bool, not of {field.type}")
    if len(field.bits) != _BITS:
        raise ConfigurationError(f"{where}.bits: expected two integers, the lowest bit and how many")
    first, count = field.bits
    if first < 0 or count < 1 or first + count > width:
        raise ConfigurationError(
            f"{where}.bits: {field.type} has bits 0 to {width - 1}, not {count} from {first} on"
        )
    mask = (1 << count) - 1
    return lambda payload, at: read(payload, at) >> first & mask


def _scaled(read: Callable[[bytes, int], Any], field: Field, where: str) -> Callable[[bytes, int], Any]:
    for setting, value in (("scale", field.scale), ("add", field.add)):
        if not math.isfinite(value):
            raise ConfigurationError(f"{where}.{setting}: {value} is no number")
    if not field.scale:
        raise ConfigurationError(f"{where}.scale: 0 would make 0 of everything")
    if field.scale == 1 and not field.add:
        return read
    # In decimal, as a datasheet means it: 215 times 0.1 is 21.5, and 21.500000000000004 in binary.
    scale, add = Decimal(repr(field.scale)), Decimal(repr(field.add))
    whole = not (field.scale % 1 or field.add % 1)

    def scaled(payload: bytes, at: int) -> float | NoNumber:
        value = read(payload, at)
        if type(value) is int:
            result = value * scale + add
            return int(result) if whole else float(result)
        return of_double(float(Decimal(repr(value)) * scale + add)) if type(value) is float else value

    return scaled


def _first(form: Struct) -> Callable[[bytes, int], Any]:
    unpack = form.unpack_from
    return lambda payload, at: unpack(payload, at)[0]


def _long(size: int, order: Any, *, signed: bool) -> Callable[[bytes, int], int]:  # noqa: ANN401  # one of two words
    return lambda payload, at: int.from_bytes(payload[at : at + size], order, signed=signed)


def _made(read: Callable[[bytes, int], Any], make_of: Callable[[Any], Any]) -> Callable[[bytes, int], Any]:
    return lambda payload, at: make_of(read(payload, at))


def _sized(name: str, size: int, read: Callable[[str, bytes], str]) -> Callable[[bytes, int], str]:
    return lambda payload, at: read(name, payload[at : at + size])


def _read_text(name: str, raw: bytes) -> str:
    try:
        return raw.rstrip(b"\x00").decode()  # NUL fills up what is shorter
    except UnicodeDecodeError as error:
        raise Reject(
            "not_utf8", f"field {name[:40]!r} is a text, and its byte {error.start} is not UTF-8"
        ) from None


def _read_hex(_name: str, raw: bytes) -> str:
    return raw.hex()


class _Inside:
    """Reads the bytes that a message of JSON holds in a text.

    Args:
        path: of the text; the first of several that is there.
        where: the setting, for errors.
        read: the values of such a text; None leaves it as it is.
        apart: whether elements of an array are messages of their own, so that one that cannot be read is
            refused alone.
        optional: whether a message without such a text is one too.

    Raises:
        ConfigurationError: the path means nothing, or nothing can take its place.
    """

    def __init__(
        self,
        path: str,
        where: str,
        read: Callable[[str], dict[str, Any] | None],
        *,
        apart: bool,
        optional: bool,
    ) -> None:
        if not is_plain(path):
            raise ConfigurationError(
                f"{where}: {path!r} is an expression; the values take the place of what a plain path names"
            )
        self._path = path
        self._finds = [(each, compile_find(each, where)) for each in alternatives(path)]
        self._read = read
        self._apart = apart
        self._optional = optional

    def parse(self, payload: bytes) -> Any:  # noqa: ANN401  # JSON is any value
        """The message, with the values where the text was; each of the elements of an array.

        Raises:
            Reject: it is no JSON, there is no such text, or it cannot be read.
        """
        value = strict_json.parse(payload)
        if type(value) is not list:
            self._put(value)
            return value
        check_count(len(value), readings_allowed(len(payload)), "readings")
        for i, each in enumerate(value):
            try:
                self._put(each)
            except Reject as reject:
                if not self._apart:
                    raise
                value[i] = Refused(reject.reason, reject.detail)
        return value

    def _put(self, message: Any) -> None:  # noqa: ANN401  # JSON is any value
        for path, find in self._finds:
            if found := find(message):
                text, place = found
                if type(text) is not str:
                    raise Reject(
                        "malformed_bytes", f"{path!r} is no text, and should hold the bytes of the message"
                    )
                if (values := self._read(text)) is not None and place:
                    _replace(message, place, values)
                return
        if self._optional:
            return
        raise Reject(
            "malformed_bytes",
            f"nothing stands at {self._path!r}, where bytes.inside of its route has the bytes of the message",
        )


def _replace(message: Any, place: Place, value: dict[str, Any]) -> None:  # noqa: ANN401  # JSON is any value
    *way, last = place
    for step in way:
        message = message[step]
    message[last] = value


def _of_base64(text: str | bytes) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:  # it may still be base64 as others write it
        pass
    rest = _SPACE.sub("", _ascii(text, "base64")).rstrip("=").translate(_URL_SAFE)
    if wrong := _NO_BASE64.search(rest):
        raise Reject("malformed_bytes", f"this is no base64: {wrong.group()!r} stands in it ({_shown(text)})")
    if len(rest) % 4 == 1:
        raise Reject(
            "malformed_bytes",
            f"this is no base64: with {len(rest)} characters it was cut ({_shown(text)})",
        )
    return binascii.a2b_base64(rest + "=" * (-len(rest) % 4))


def _of_hex(text: str | bytes) -> bytes:
    plain = _BETWEEN_HEX.sub("", _ascii(text, "hex"))
    if wrong := _NO_HEX.search(plain):
        raise Reject("malformed_bytes", f"this is no hex: {wrong.group()!r} stands in it ({_shown(text)})")
    if len(plain) % 2:
        raise Reject(
            "malformed_bytes",
            f"this is no hex: {len(plain)} digits are an odd number, half a byte is missing ({_shown(text)})",
        )
    return bytes.fromhex(plain)


def _ascii(text: str | bytes, name: str) -> str:
    try:
        return text.decode("ascii") if isinstance(text, bytes) else text.encode("ascii").decode()
    except UnicodeError:
        raise Reject(
            "malformed_bytes", f"this is no {name}, which has ASCII letters and digits: {_shown(text)}"
        ) from None


def _shown(text: str | bytes) -> str:
    return repr(text[:24]).removeprefix("b") + ("…" if len(text) > 24 else "")  # noqa: PLR2004  # characters


_PRESETS: Final[dict[str, Callable[[bytes], dict[str, Any] | None]]] = {
    "cayenne-lpp": cayenne.parse,
    "ruuvi": ruuvi.parse,
}
_DECODERS: Final[dict[str, Callable[[Any], bytes]]] = {
    "raw": lambda payload: payload,
    "base64": _of_base64,
    "hex": _of_hex,
}
