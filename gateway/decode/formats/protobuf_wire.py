"""What protocol buffers look like on the wire, for what the library does not say of it.

It lets the last of a field that comes twice win, cuts numbers to the bits of their type, and keeps what it
does not know apart. Source: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.descriptor import FieldDescriptor as Kind

from gateway.decode.limits import MAX_ELEMENTS, MAX_VALUES, too_many_values
from runtime.errors import Reject

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, FieldDescriptor
    from google.protobuf.unknown_fields import UnknownFieldSet

MALFORMED: Final = "malformed_protobuf"

VARINT, FIXED64, BYTES, GROUP, GROUP_END, FIXED32 = range(6)

WIRES: Final = {
    Kind.TYPE_DOUBLE: FIXED64,
    Kind.TYPE_FIXED64: FIXED64,
    Kind.TYPE_SFIXED64: FIXED64,
    Kind.TYPE_FLOAT: FIXED32,
    Kind.TYPE_FIXED32: FIXED32,
    Kind.TYPE_SFIXED32: FIXED32,
    Kind.TYPE_STRING: BYTES,
    Kind.TYPE_BYTES: BYTES,
    Kind.TYPE_MESSAGE: BYTES,
    Kind.TYPE_GROUP: GROUP,
}
"""The wire type of each type; of all others a varint."""

_NARROW: Final = frozenset({Kind.TYPE_UINT32, Kind.TYPE_SINT32, Kind.TYPE_INT32, Kind.TYPE_ENUM})
_SIGNED: Final = frozenset({Kind.TYPE_INT32, Kind.TYPE_ENUM})
_UINT32: Final = 2**32
_LOWEST: Final = 2**64 - 2**31  # of a negative number of 32 bits, which is sent with 64


class Left:
    """Counts the fields of a payload down that are looked at one by one."""

    __slots__ = ("_count",)

    def __init__(self) -> None:
        self._count = MAX_VALUES

    def take(self) -> None:
        """Count one.

        Raises:
            Reject: there are too many.
        """
        self._count -= 1
        if self._count < 0:
            raise too_many_values(MAX_VALUES, "fields")


def check_lossless(payload: bytes, descriptor: Descriptor) -> None:
    """Look through a payload that the library has read.

    Raises:
        Reject: a field comes twice of which only one is kept, or a number has more bits than its type, or it
            has too many fields to be looked through.
    """
    _check(payload, 0, descriptor, Left())


def _check(payload: bytes, at: int, descriptor: Descriptor | None, left: Left) -> int:
    """Check a message from a byte on; returns where it ends."""
    seen: set[Any] = set()
    while at < len(payload):
        start = at
        left.take()
        tag, at = _varint(payload, at)
        number, wire = tag >> 3, tag & 7
        if wire == GROUP_END:
            return at
        field = descriptor.fields_by_number.get(number) if descriptor is not None else None
        if field is not None:
            _check_once(field, seen, start)
        if wire == VARINT:
            value, at = _varint(payload, at)
            if field is not None:
                _check_bits(field, value, start)
        elif wire == BYTES:
            size, at = _varint(payload, at)
            if field is not None:
                _check_within(field, payload[at : at + size], seen, start, left)
            at += size
        elif wire == GROUP:
            at = _check(payload, at, field.message_type if field is not None else None, left)
        else:
            at += 8 if wire == FIXED64 else 4
    return at


def _check_once(field: FieldDescriptor, seen: set[Any], start: int) -> None:
    if field.is_repeated:
        return
    oneof = field.containing_oneof
    key = field.number if oneof is None else oneof.full_name
    if key in seen:
        what = (
            f"field {field.name}"
            if oneof is None
            else f"of {oneof.name}, which is one of several fields, another"
        )
        raise Reject("duplicate_key", f"{what} comes again at byte {start}, where it may come once")
    seen.add(key)


def _check_within(field: FieldDescriptor, within: bytes, seen: set[Any], start: int, left: Left) -> None:
    message = field.message_type
    if message is not None and field.type == Kind.TYPE_MESSAGE:
        _check(within, 0, message, left)
        if message.GetOptions().map_entry:
            key = (field.number, _key_of(within, left))
            if key in seen:
                raise Reject("duplicate_key", f"a key of {field.name} comes again at byte {start}")
            seen.add(key)
    elif field.is_repeated and WIRES.get(field.type, VARINT) == VARINT:
        at = 0
        while at < len(within):
            left.take()
            value, at = _varint(within, at)
            _check_bits(field, value, start)


def _key_of(entry: bytes, left: Left) -> bytes | int:
    """What tells the key of a map from others; it is absent when it is zero or empty."""
    at = 0
    while at < len(entry):
        tag, at = _varint(entry, at)
        number, wire = tag >> 3, tag & 7
        size = 0
        if wire == VARINT:
            value, at = _varint(entry, at)
            if number == 1:
                return value
        elif wire == BYTES:
            size, at = _varint(entry, at)
        elif wire == GROUP:
            at = _check(entry, at, None, left)
        else:
            size = 8 if wire == FIXED64 else 4
        if number == 1 and wire == BYTES:
            return entry[at : at + size] or 0
        if number == 1 and wire != VARINT:
            return int.from_bytes(entry[at : at + size], "little")
        at += size
    return 0


def _check_bits(field: FieldDescriptor, value: int, start: int) -> None:
    kind = field.type
    if kind in _NARROW and value >= _UINT32 and not (kind in _SIGNED and value >= _LOWEST):
        raise Reject(
            "number_out_of_range",
            f"field {field.name} at byte {start} has more than 32 bits: is the descriptor an old one?",
        )


def _varint(payload: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = payload[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:  # noqa: PLR2004  # the last byte of a varint
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7


def read_unknown(unknown: UnknownFieldSet, descriptor: Descriptor | None) -> dict[str, Any]:
    """Fields that a descriptor does not know, by number; bytes in base64, numbers as integers without a sign.

    Raises:
        Reject: it knows one of them, as of another type.
    """
    found: dict[str, Any] = {}
    several: set[str] = set()
    if len(unknown) > MAX_ELEMENTS:
        raise too_many_values(MAX_ELEMENTS, "fields that its descriptor does not know")
    for each in (unknown[i] for i in range(len(unknown))):
        number, data = each.field_number, each.data
        field = descriptor.fields_by_number.get(number) if descriptor is not None else None
        if field is not None and each.wire_type != WIRES.get(field.type, VARINT):
            raise Reject(MALFORMED, f"field {field.name} is of another type than its descriptor says")
        value = read_unknown(data, None) if each.wire_type == GROUP else data
        if type(value) is bytes:
            value = b64encode(value).decode()
        name = str(number)
        if name not in found:
            found[name] = value
        elif name in several:
            found[name].append(value)
        else:
            found[name] = [found[name], value]
            several.add(name)
    return found


def write_unknown(value: dict[str, Any]) -> bytes:
    """The bytes of such fields, so that they are read as the same again."""
    found = b""
    for number, each in value.items():
        for one in each if type(each) is list else [each]:
            tag = int(number) << 3
            if type(one) is int:
                found += _write_varint(tag | VARINT) + _write_varint(one)
            elif type(one) is dict:
                found += _write_varint(tag | GROUP) + write_unknown(one) + _write_varint(tag | GROUP_END)
            else:
                data = b64decode(one)
                found += _write_varint(tag | BYTES) + _write_varint(len(data)) + data
    return found


def _write_varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:  # noqa: PLR2004  # what fits into the last byte
        found.append(value & 127 | 128)
        value >>= 7
    return bytes((*found, value))
