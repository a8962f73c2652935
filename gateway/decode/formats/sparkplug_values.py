"""Values of Sparkplug B as their datatypes mean them (Eclipse Sparkplug 3.0.0 §6.4.16). Pure."""

from __future__ import annotations

from base64 import b64decode, b64encode
from struct import Struct
from typing import Any, Final

from gateway.decode.fields import NoNumber
from gateway.decode.formats.singles import of_double, of_single
from gateway.decode.limits import MAX_VALUES, too_many_values
from runtime.errors import Reject

_UINT64: Final = 64  # bits
_SHORT: Final = 32  # bits of `int_value`

_SIGNED: Final = {1: 8, 2: 16, 3: 32, 4: 64}  # datatype → bits
_UNSIGNED: Final = {5: 8, 6: 16, 7: 32, 8: 64}
_ARRAYS: Final = {
    22: "b", 23: "h", 24: "i", 25: "q", 26: "B", 27: "H", 28: "I", 29: "Q", 30: "f", 31: "d", 34: "Q",
}  # fmt: skip
INTEGERS: Final = frozenset({*_SIGNED, *_UNSIGNED})
_FLOATS: Final = 30
_DOUBLES: Final = 31
_BOOLEANS: Final = 32
_STRINGS: Final = 33
_BITS_OF: Final = [tuple(bool(byte & 0x80 >> i) for i in range(8)) for byte in range(256)]
_OF_ARRAYS: Final = frozenset({*_ARRAYS, _BOOLEANS, _STRINGS})
_read_count = Struct("<I").unpack_from


def typed(value: Any, datatype: int) -> Any:  # noqa: ANN401  # of any datatype
    """What a value that came without a datatype says as of this one, which was said at birth.

    Raises:
        Reject: it is no such array.
    """
    kind = type(value)
    if kind is int:
        return as_integer(value, datatype)
    if kind is str and datatype in _OF_ARRAYS:
        try:
            return as_bytes(b64decode(value, validate=True), datatype)
        except ValueError:
            raise Reject(
                "malformed_sparkplug", f"a text stands where an array of datatype {datatype} was"
            ) from None
    return value


def as_integer(value: int, datatype: int) -> int | NoNumber:
    """An integer with the sign that its datatype says; all of them arrive as two's complement."""
    bits = _SIGNED.get(datatype)
    if bits is None:
        bits = _UNSIGNED.get(datatype, _UINT64)
        return value if not value >> bits else _beyond(value, f"UInt{bits}")
    half = 1 << bits - 1
    if value < half:
        return value
    if value < 2 * half:
        return value - 2 * half
    for wide in (_SHORT, _UINT64):  # some keep the sign in all bits of the field
        if 0 < (1 << wide) - value <= half:
            return value - (1 << wide)
    return _beyond(value, f"Int{bits}")


def _beyond(value: int, name: str) -> NoNumber:
    return NoNumber("number_out_of_range", f"{value}, beyond {name}")


def as_bytes(raw: bytes, datatype: int) -> Any:  # noqa: ANN401  # of any datatype
    """Bytes in base64; of an array type, the list of its elements.

    Raises:
        Reject: it is no such array.
    """
    if datatype == _BOOLEANS and 8 * len(raw) > MAX_VALUES:
        raise too_many_values(MAX_VALUES, "elements of an array")
    if datatype == _BOOLEANS:
        return _booleans(raw)
    if datatype == _STRINGS:
        return _strings(raw)
    form = _ARRAYS.get(datatype)
    if form is None:
        return b64encode(raw).decode()
    size = Struct(f"<{form}").size
    if len(raw) % size:
        raise Reject(
            "malformed_sparkplug",
            f"an array of datatype {datatype} has {size} bytes an element, and {len(raw)} bytes in all",
        )
    if len(raw) // size > MAX_VALUES:
        raise too_many_values(MAX_VALUES, "elements of an array")
    found = list(Struct(f"<{len(raw) // size}{form}").unpack(raw))
    if datatype == _FLOATS:
        return [of_single(each) for each in found]
    return [of_double(each) for each in found] if datatype == _DOUBLES else found


def _booleans(raw: bytes) -> list[bool]:
    """Four bytes say how many there are; the highest bit of a byte is the first of its eight."""
    if len(raw) < 4 or (count := _read_count(raw)[0]) > 8 * (len(raw) - 4) or count <= 8 * (len(raw) - 5):  # noqa: PLR2004  # bytes of the count, bits of a byte
        raise Reject(
            "malformed_sparkplug", f"a BooleanArray of {len(raw)} bytes does not hold as many as it says"
        )
    found: list[bool] = []
    for byte in raw[4:]:
        found += _BITS_OF[byte]
    return found[:count]


def _strings(raw: bytes) -> list[str]:
    """A NUL ends each."""
    if not raw:
        return []
    if raw.count(0) > MAX_VALUES:
        raise too_many_values(MAX_VALUES, "elements of an array")
    try:
        return raw.removesuffix(b"\x00").decode().split("\x00")
    except UnicodeDecodeError:
        raise Reject("not_utf8", "a StringArray is not UTF-8") from None
