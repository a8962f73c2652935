"""MessagePack: an object, or several maps one after the other, which are a list.

`bin` is base64url without padding; a timestamp is its RFC 3339 text with all its digits; any other extension
is `{"type": 5, "data": "…"}` with its bytes in base64url. Keys that are no texts become their text: `1`.

msgspec reads what most devices send. It lets a key given twice win over the first, rounds timestamps to the
microsecond, does not say which floats had 32 bits, and takes arrays as keys, of which many can be made that
Python's dictionaries hold for alike. So what is not plain, or is large, is read here, in Python.

Source: the MessagePack specification, https://github.com/msgpack/msgpack/blob/master/spec.md.
"""

from __future__ import annotations

import math
import struct
from base64 import urlsafe_b64encode
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateway.decode.formats.cbor import looks_like_json
from gateway.decode.formats.form import Format
from gateway.decode.formats.singles import of_double, of_single
from gateway.decode.limits import MAX_DEPTH, check_count, lines_allowed, too_many_values
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runtime.settings import Route

MALFORMED: Final = "malformed_msgpack"

_decode = msgspec.msgpack.Decoder().decode
_encode = msgspec.msgpack.Encoder(enc_hook=lambda value: float(value.text)).encode

_PLAIN: Final = frozenset({str, int, bool, type(None)})
_LARGE: Final = 8192  # of smaller payloads even the worst keys cost little
_FLOAT32: Final = b"\xca"  # one that is none is only read a little slower
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001  # all is UTC here
_NANOSECONDS: Final = 10**9
_TIMESTAMP: Final = -1
_MOST_OBJECTS: Final = 70_000  # of a payload, keys among them
_SLOW: Final = 3  # as many take as long as one of those of which a text is made

_FIXED: Final = {
    0xCA: struct.Struct(">f"),
    0xCB: struct.Struct(">d"),
    0xCC: struct.Struct(">B"),
    0xCD: struct.Struct(">H"),
    0xCE: struct.Struct(">I"),
    0xCF: struct.Struct(">Q"),
    0xD0: struct.Struct(">b"),
    0xD1: struct.Struct(">h"),
    0xD2: struct.Struct(">i"),
    0xD3: struct.Struct(">q"),
}
_LENGTHS: Final = {
    0xC4: 1, 0xC5: 2, 0xC6: 4,  # bin
    0xC7: 1, 0xC8: 2, 0xC9: 4,  # ext
    0xD9: 1, 0xDA: 2, 0xDB: 4,  # str
    0xDC: 2, 0xDD: 4,  # array
    0xDE: 2, 0xDF: 4,  # map
}  # fmt: skip
_ARRAYS: Final = frozenset({*range(0x90, 0xA0), 0xDC, 0xDD})
_CONSTANTS: Final = {0xC0: None, 0xC2: False, 0xC3: True}


def make(_route: Route, _where: str) -> Format:
    """The format of a route."""
    return Format(parse, elements, join, write)


def parse(payload: bytes) -> Any:  # noqa: ANN401  # MessagePack is any value
    """Parse a payload.

    Raises:
        Reject: with the reason and, where there is one, the position.
    """
    if len(payload) <= _LARGE and _FLOAT32 not in payload:
        try:
            value = _decode(payload)
        except (
            msgspec.DecodeError,
            ValueError,
            OverflowError,
            RecursionError,
        ):  # what is wrong is found below, and said
            value = ()
        if _is_plain(value, payload):
            return value
    reader, most = _Reader(payload), lines_allowed(len(payload))
    found = [reader.value(0)]
    while reader.at < len(payload):
        if type(found[-1]) not in {dict, list}:
            raise reader.trailing()
        found.append(reader.value(0))
        check_count(len(found), most, "objects")
    if len(found) > 1 and type(found[-1]) not in {dict, list}:
        raise reader.trailing()
    return found if len(found) > 1 else found[0]


def elements(payload: bytes) -> Sequence[bytes | memoryview]:
    """The bytes of each element of a list, a payload each; an array among them stands in an array of one."""
    if payload[0] in _ARRAYS:
        count, at = _array(payload)
        found, end = _each(payload, at, count)
        if end == len(payload):
            return found
    return _each(payload, 0, -1)[0]


def join(elements_: Sequence[bytes | memoryview]) -> bytes:
    """An array payload of elements."""
    raws = [bytes(raw) for raw in elements_]
    head = _encode([None] * len(raws))[: -len(raws) or None]
    return head + b"".join(raw[1:] if raw[0] == 0x91 else raw for raw in raws)  # noqa: PLR2004  # an array of one


def write(value: Any) -> bytes:  # noqa: ANN401  # MessagePack is any value
    """A payload of a value."""
    return _encode(value)


def _is_plain(value: Any, payload: bytes) -> bool:  # noqa: ANN401  # MessagePack is any value
    """Whether a value is as it is to be and no key came twice: by its size, or by its bytes."""
    kind = type(value)
    if kind is dict and _is_flat(value):
        first = payload[0]
        count = first & 15 if first < 0x90 else int.from_bytes(payload[1 : 1 + _LENGTHS[first]], "big")  # noqa: PLR2004  # fixmap
        return count == len(value)
    if kind is dict or kind is list:
        return _is_plain_within(value, 1) and _encode(value) == payload
    return kind in _PLAIN or (kind is float and math.isfinite(value))


def _is_flat(value: dict[Any, Any]) -> bool:
    for key, member in value.items():
        kind = type(member)
        if type(key) is not str or not (kind in _PLAIN or (kind is float and math.isfinite(member))):
            return False
    return True


def _is_plain_within(value: Any, depth: int) -> bool:  # noqa: ANN401  # likewise
    members = value
    if type(value) is dict:
        if not {str}.issuperset(map(type, value)):
            return False
        members = value.values()
    for member in members:
        kind = type(member)
        if kind is dict or kind is list:
            if depth == MAX_DEPTH or not _is_plain_within(member, depth + 1):
                return False
        elif not (kind in _PLAIN or (kind is float and math.isfinite(member))):
            return False
    return True


class _Reader:
    """Reads a payload from its beginning, an object at a time.

    Attributes:
        at: where the next one begins.
    """

    def __init__(self, payload: bytes) -> None:
        self.at = 0
        self._payload = payload
        self._left = _MOST_OBJECTS

    def value(self, depth: int) -> Any:  # noqa: ANN401, C901, PLR0911, PLR0912  # a case a format of the specification
        """The next object.

        Raises:
            Reject: it is none.
        """
        self._left -= 1
        if self._left < 0:
            raise too_many_values(_MOST_OBJECTS, "objects")
        first = self._take(1)[0]
        if first < 0x80:  # noqa: PLR2004  # the specification's numbers, here and below
            return first
        if first >= 0xE0:  # noqa: PLR2004  # heads of the specification
            return first - 256
        if first < 0x90:  # noqa: PLR2004  # heads of the specification
            return self._map(first & 15, depth)
        if first < 0xA0:  # noqa: PLR2004  # heads of the specification
            return self._list(first & 15, depth)
        if first < 0xC0:  # noqa: PLR2004  # heads of the specification
            return self._text(first & 31)
        if form := _FIXED.get(first):
            self._left -= 2
            value = form.unpack(self._take(form.size))[0]
            return of_single(value) if first == 0xCA else of_double(value) if first == 0xCB else value  # noqa: PLR2004  # heads of the specification
        if first in _CONSTANTS:
            return _CONSTANTS[first]
        if 0xD4 <= first <= 0xD8:  # noqa: PLR2004  # heads of the specification
            return self._extension(1 << first - 0xD4)
        if first not in _LENGTHS:
            raise Reject(MALFORMED, f"byte {self.at - 1} is {first:#04x}, which is never used{self._hint()}")
        length = int.from_bytes(self._take(_LENGTHS[first]), "big")
        if first <= 0xC6:  # noqa: PLR2004  # heads of the specification
            self._left -= _SLOW
            return _base64url(self._take(length))
        if first <= 0xC9:  # noqa: PLR2004  # heads of the specification
            return self._extension(length)
        if first <= 0xDB:  # noqa: PLR2004  # heads of the specification
            return self._text(length)
        return self._list(length, depth) if first <= 0xDD else self._map(length, depth)  # noqa: PLR2004  # heads of the specification

    def trailing(self) -> Reject:
        """What is said of objects that follow each other and are no maps."""
        size = len(self._payload)
        return Reject(
            MALFORMED,
            f"{size} bytes are several objects: by byte {self.at}, not all are maps{self._hint()}",
        )

    def _take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self._payload):
            detail = (
                f"it ends too soon: {count} bytes are to follow at byte {self.at} of {len(self._payload)}"
            )
            raise Reject(MALFORMED, detail + self._hint())
        found = self._payload[self.at : end]
        self.at = end
        return found

    def _hint(self) -> str:
        if looks_like_json(self._payload):
            return '; it looks like JSON, for which its route says format = "json"'
        return ""

    def _text(self, length: int) -> str:
        start = self.at
        try:
            return self._take(length).decode()
        except UnicodeDecodeError as error:
            raise Reject("not_utf8", f"byte {start + error.start} is not UTF-8") from None

    def _list(self, count: int, depth: int) -> list[Any]:
        self._check(count, depth)
        return [self.value(depth + 1) for _ in range(count)]

    def _map(self, count: int, depth: int) -> dict[str, Any]:
        self._check(2 * count, depth)
        found: dict[str, Any] = {}
        for _ in range(count):
            start = self.at
            name = self._name(self.value(depth + 1), start)
            if name in found:
                raise Reject(
                    "duplicate_key", f"key {name[:40]!r} appears twice in one map, again at byte {start}"
                )
            found[name] = self.value(depth + 1)
        return found

    def _name(self, key: Any, start: int) -> str:  # noqa: ANN401  # likewise
        if type(key) is str:
            return key
        if type(key) in {dict, list}:
            raise Reject(
                MALFORMED,
                f"the key at byte {start} is an array or a map, which has no text: send texts as keys",
            )
        return "null" if key is None else str(key).lower() if type(key) is bool else str(key)

    def _check(self, items: int, depth: int) -> None:
        if depth == MAX_DEPTH:
            raise Reject("too_deep", f"nested deeper than {MAX_DEPTH}")
        if items > len(self._payload) - self.at:
            raise Reject(
                MALFORMED,
                f"it ends too soon: {items} objects are to follow byte {self.at - 1}{self._hint()}",
            )

    def _extension(self, length: int) -> Any:  # noqa: ANN401  # likewise
        self._left -= _SLOW
        kind = int.from_bytes(self._take(1), "big", signed=True)
        data = self._take(length)
        if kind == _TIMESTAMP:
            return _timestamp(data)
        return {"type": kind, "data": _base64url(data)}


def _each(payload: bytes, at: int, count: int) -> tuple[list[bytes | memoryview], int]:
    """The bytes of so many objects that begin there, or of all, a payload each; and where they end."""
    reader = _Reader(payload)
    reader.at = at
    found: list[bytes | memoryview] = []
    while len(found) < count if count >= 0 else reader.at < len(payload):
        start = reader.at
        is_array = type(reader.value(0)) is list
        raw = payload[start : reader.at]
        found.append(b"\x91" + raw if is_array else raw)
    return found, reader.at


def _array(payload: bytes) -> tuple[int, int]:
    """How many elements an array has, and where they begin."""
    length = _LENGTHS.get(payload[0], 0)
    return int.from_bytes(payload[1 : 1 + length], "big") if length else payload[0] & 15, 1 + length


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _timestamp(data: bytes) -> str:
    if len(data) == 4:  # noqa: PLR2004  # timestamp 32, and 64 and 96 below
        nanoseconds, seconds = 0, int.from_bytes(data, "big")
    elif len(data) == 8:  # noqa: PLR2004  # bytes of a timestamp
        both = int.from_bytes(data, "big")
        nanoseconds, seconds = both >> 34, both & (1 << 34) - 1
    elif len(data) == 12:  # noqa: PLR2004  # bytes of a timestamp
        nanoseconds, seconds = int.from_bytes(data[:4], "big"), int.from_bytes(data[4:], "big", signed=True)
    else:
        raise Reject(MALFORMED, f"a timestamp has {len(data)} bytes, where 4, 8 or 12 are")
    if nanoseconds >= _NANOSECONDS:
        raise Reject(MALFORMED, f"a timestamp has {nanoseconds} nanoseconds, which is a second and more")
    return text_of_time(seconds, nanoseconds)


def text_of_time(seconds: int, nanoseconds: int) -> str:
    """The RFC 3339 text of a time since 1970, with all its digits.

    Raises:
        Reject: it is outside the calendar.
    """
    try:
        moment = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        raise Reject("number_out_of_range", f"a time of {seconds} seconds is outside the calendar") from None
    fraction = f".{nanoseconds:09}".rstrip("0") if nanoseconds else ""
    return f"{moment.isoformat()}{fraction}Z"
