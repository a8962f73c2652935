"""The payload of Sparkplug B (Eclipse Sparkplug 3.0.0 §6.4) as plain values.

    {"timestamp": ms, "seq": 3, "metrics": [{"name": "Temp", "timestamp": ms, "datatype": 9, "value": 21.5}]}

What a payload does not have is not there, but for `metrics`, and the `value` of a metric, which is None then.
A metric that has an alias and no name comes out so: who it is was said at birth.

- Integers have the sign that their datatype says: they arrive as two's complement in unsigned fields. One
  that its datatype cannot hold is a `NoNumber`. Without a datatype, as after a birth, they are what stands
  there, and `typed` reads them later.
- Bytes are base64; of an array type, the list of its elements. A date is milliseconds since 1970.
- A data set is a list of its rows, each an object by column. A template is an object of its members by name;
  what else is said of it stands beside the value under `template`, and of its members under `members`; those
  that have an alias and no name are under `unnamed`, as metrics. A
  property set is an object too. Types of columns, parameters and properties are how values are written, and
  say no more.
- A field of a number that the standard leaves to others comes out as `field_6`.
- A payload that is compressed inside another, as Eclipse Tahu and Ignition do it, is that inner one.

The wire format (https://protobuf.dev/programming-guides/encoding/) is read here, so that nothing unknown
and nothing said twice is overlooked, as libraries do.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from math import isfinite
from struct import Struct, error
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gateway.decode.formats.compression import ANY_PACKED, Unpacking
from gateway.decode.formats.form import Format
from gateway.decode.formats.singles import of_double, of_single
from gateway.decode.formats.sparkplug_usual import look
from gateway.decode.formats.sparkplug_values import INTEGERS, as_bytes, as_integer
from gateway.decode.limits import MAX_DEPTH, MAX_ELEMENTS, check_count, elements_allowed
from gateway.decode.steps import finish
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from gateway.decode.fields import NoNumber
    from runtime.settings import Route

_VARINT, _FIXED64, _SIZED, _FIXED32 = 0, 1, 2, 5
_TOP: Final = 0x80  # of a byte: another one follows
_OF_SIX: Final = 0x808080808080  # the highest bits of six bytes
_SIX: Final = 0x008080808080  # the same of an integer that has so many: the last has none
_UINT64: Final = 64
_SHORT: Final = 32  # bits of `int_value`
_STEP: Final = 8192  # bytes that are read at once, of a payload that is read in steps
_PAYLOAD_DEPTH: Final = 2  # metrics stand in an array in it

_FIRST: Final = frozenset({0x08, 0x12, 0x18, 0x22, 0x2A})  # tags of the fields of a payload
_ENVELOPE: Final = b"SPBV1.0_COMPRESSED"
_ALGORITHM: Final = "algorithm"
_ZEROS: Final = (0, "", b"")  # what may stand beside is_null, as a placeholder

_read_float = Struct("<f").unpack_from
_read_double = Struct("<d").unpack_from


# A field of a message: its name; what makes its value, of a number, or of payload, beginning, end and depth
# for what has a size (None leaves a number as it is, and reads a text); and whether there may be several.
_Field = tuple[str, "Callable[..., Any] | None", bool]


class _Message(NamedTuple):
    """A kind of message.

    Attributes:
        name: its own.
        fields: by their tags, which are field number and wire type.
        numbers: of the fields.
        open: whether fields of other numbers come out too.
    """

    name: str
    fields: dict[int, _Field]
    numbers: frozenset[int]
    open: bool


class _Template(NamedTuple):
    """The value of a metric that is a template, and what else is said of it."""

    value: dict[str, Any]
    template: dict[str, Any]
    members: dict[str, dict[str, Any]]
    unnamed: list[dict[str, Any]]


def make(_route: Route, _where: str) -> Format:
    """The format of a route."""
    return Format(
        parse,
        lambda payload: [payload],
        b"".join,
        unpacking=Unpacking(_FIRST, unwrap),
        look=look,
        steps=in_steps,
    )


def parse(payload: bytes) -> dict[str, Any]:
    """The values of a payload.

    Raises:
        Reject: `malformed_sparkplug` with the byte at which it goes wrong, `not_utf8`, `duplicate_key`,
            `too_deep`.
    """
    if (found := look(payload)) is not None:
        return found.value
    return read_slowly(payload)


def read_slowly(payload: bytes) -> dict[str, Any]:
    """The same of any payload, field by field."""
    return finish(in_steps(payload))


def in_steps(payload: bytes) -> Generator[None, None, dict[str, Any]]:
    """The same in steps, between which others may have their turn."""
    found: dict[str, Any] = {}
    at, end = 0, len(payload)
    try:
        while True:
            at = _fields(payload, at, min(at + _STEP, end), end, _PAYLOAD, _PAYLOAD_DEPTH, found)
            if at >= end:
                break
            yield
        _check_end(payload, at, end, _PAYLOAD)
    except (IndexError, error):
        raise _malformed(payload, len(payload), "it ends in the middle of a field") from None
    except UnicodeDecodeError as wrong:
        at = payload.index(wrong.object) + wrong.start
        raise Reject("not_utf8", f"byte {at} is in a text, and is not UTF-8") from None
    found.setdefault("metrics", [])
    return found


def unwrap(payload: bytes, most: int) -> bytes:
    """The payload in the body of one that says it is an envelope; the payload itself when it is none.

    Args:
        payload: whatever came.
        most: bytes of what is in it.

    Raises:
        Reject: it cannot be unpacked, or the envelope says more than how to.
    """
    if _ENVELOPE not in payload or (found := parse(payload)).get("uuid") != _ENVELOPE.decode():
        return payload
    metrics = {each.get("name"): each["value"] for each in found["metrics"]}
    if metrics.keys() - {_ALGORITHM} or "body" not in found:
        raise Reject(
            "malformed_sparkplug", f"{_ENVELOPE.decode()} has a body and its {_ALGORITHM}, and no more"
        )
    body = b64decode(found["body"])
    inner = ANY_PACKED.unpack(body, most) if body else body
    if inner is body:
        algorithm = metrics.get(_ALGORITHM, "none")
        raise Reject(
            "malformed_compression",
            f"the body is no gzip and no zlib; its {_ALGORITHM} is {str(algorithm)[:40]!r}",
        )
    return inner


def _read(payload: bytes, at: int, end: int, message: _Message, depth: int) -> dict[str, Any]:
    """The fields of a message that stands between two bytes; see `_fields`."""
    found: dict[str, Any] = {}
    at = _fields(payload, at, end, end, message, depth, found)
    if at != end:
        _check_end(payload, at, end, message)
    return found


def _check_end(payload: bytes, at: int, end: int, message: _Message) -> None:
    if at != end:
        raise _malformed(payload, end, f"the last field of {message.name} goes beyond its end")


def _fields(  # noqa: C901, PLR0912, PLR0915, PLR0917  # calls are what it costs
    payload: bytes, at: int, until: int, end: int, message: _Message, depth: int, found: dict[str, Any]
) -> int:
    """Find the fields of a message that begin between two bytes; returns the byte after the last of them.

    Args:
        payload: all of it.
        at: the first byte.
        until: no field that begins here or later is looked at.
        end: the byte after the message.
        message: what it is.
        depth: of the object that is made of it, in all that is given out.
        found: takes them.

    Raises:
        Reject: it is none.
        IndexError, struct.error: the payload ends too soon.
    """
    if depth > MAX_DEPTH:
        raise Reject("too_deep", f"byte {at}: nested deeper than {MAX_DEPTH}")
    fields = message.fields
    while at < until:
        start = at
        tag = payload[at]
        if tag < _TOP:
            at += 1
        else:
            tag, at = _varint(payload, at)
        field = fields.get(tag)
        if field is None:
            field = _other(payload, start, tag, message)
        name, read, repeated = field
        wire = tag & 7
        value: Any
        if wire == _VARINT:
            value = payload[at]
            if value < _TOP:
                at += 1
            else:
                value, at = _varint(payload, at)
            if read is not None:
                value = read(value)
        elif wire == _SIZED:
            size = payload[at]
            if size < _TOP:
                at += 1
            else:
                size, at = _varint(payload, at)
            if at + size > end:
                raise _malformed(payload, start, f"{name} has {size} bytes, and {end - at} are left")
            if read is None:
                value = payload[at : at + size].decode()
            else:
                value = read(payload, at, at + size, depth + 1)
            at += size
        else:
            assert read is not None
            value = read(payload, at)
            at += 4 if wire == _FIXED32 else 8
        if repeated:
            if name in found:
                found[name].append(value)
                if len(found[name]) > MAX_ELEMENTS:
                    check_count(len(found[name]), elements_allowed(len(payload)), name)
            else:
                found[name] = [value]
        elif name in found:
            raise _malformed(payload, start, f"{message.name} has {name} twice")
        else:
            found[name] = value
    return at


def _varint(payload: bytes, at: int) -> tuple[int, int]:
    """An integer of seven bits a byte, the lowest first, and the byte after it."""
    six = int.from_bytes(payload[at : at + 6], "little")
    if six & _OF_SIX == _SIX and at + 6 <= len(payload):  # milliseconds since 1970 have so many
        low = six & 0x7F | six >> 1 & 0x3F80 | six >> 2 & 0x1FC000
        return low | six >> 3 & 0xFE00000 | six >> 4 & 0x7F0000000 | six >> 5 & 0x3F800000000, at + 6
    start = at
    value = payload[at] & 0x7F
    shift = 7
    while True:
        at += 1
        byte = payload[at]
        value |= (byte & 0x7F) << shift
        if byte < _TOP:
            break
        shift += 7
        if shift >= _UINT64 + 6:
            raise _malformed(payload, start, "an integer has more than ten bytes")
    if value >> _UINT64:
        raise _malformed(payload, start, "an integer has more than 64 bits")
    return value, at + 1


def _other(payload: bytes, at: int, tag: int, message: _Message) -> _Field:
    """A field that the standard does not have."""
    number, wire = tag >> 3, tag & 7
    if number in message.numbers:
        raise _malformed(
            payload, at, f"field {number} of {message.name} is of another kind (wire type {wire})"
        )
    if not message.open or not 0 < number < 1 << 29 or wire not in _OTHERS:
        raise _malformed(payload, at, f"{message.name} has no field {number} of wire type {wire}")
    return f"field_{number}", _OTHERS[wire], True


def _malformed(payload: bytes, at: int, detail: str) -> Reject:
    if payload[:1] in {b"{", b"["}:
        detail = f"{detail}; it begins as JSON does, as STATE messages are: they need a route of their own"
    return Reject("malformed_sparkplug", f"byte {at}: {detail}")


def _uint32(value: int) -> int:
    """The low half of what has more bits, as of a negative integer with all its signs."""
    return value & 0xFFFFFFFF if value >> _SHORT == 0xFFFFFFFF else value  # noqa: PLR2004  # bits


def _float(payload: bytes, at: int) -> float | NoNumber:
    return of_single(_read_float(payload, at)[0])


def _double(payload: bytes, at: int) -> float | NoNumber:
    value: float = _read_double(payload, at)[0]
    return value if isfinite(value) else of_double(value)


def _raw(payload: bytes, at: int, end: int, _depth: int) -> bytes:
    return payload[at:end]


def _base64(payload: bytes, at: int, end: int, _depth: int) -> str:
    return b64encode(payload[at:end]).decode()


def _integers(payload: bytes, at: int, end: int, _depth: int) -> list[int]:
    """Repeated integers in one field, as newer writers pack them."""
    found = []
    while at < end:
        value, at = _varint(payload, at) if payload[at] >= _TOP else (payload[at], at + 1)
        found.append(value)
    if at != end:
        raise _malformed(payload, end, "an integer goes beyond the end of its field")
    return found


def _metric(payload: bytes, at: int, end: int, depth: int) -> dict[str, Any]:
    found = _read(payload, at, end, _METRIC, depth)
    if type(found.get("value")) is float and "is_null" not in found:
        return found
    value = _value(payload, at, found, found.get("datatype", 0))
    if isinstance(value, _Template):
        found["value"] = value.value
        if value.template:
            found["template"] = value.template
        if value.members:
            found["members"] = value.members
        if value.unnamed:
            found["unnamed"] = value.unnamed
    else:
        found["value"] = value
    return found


def _value(payload: bytes, at: int, found: dict[str, Any], datatype: int) -> Any:  # noqa: ANN401  # of any datatype
    """The value among the fields of a metric, property or parameter; None when there is none."""
    value = found.get("value")
    if found.get("is_null") and value is not None:
        if value not in _ZEROS:
            raise _malformed(payload, at, "a value is said to be null, and is there")
        return None
    if type(value) is int:
        return as_integer(value, datatype)
    return as_bytes(value, datatype) if type(value) is bytes else value


def _metadata(payload: bytes, at: int, end: int, depth: int) -> dict[str, Any]:
    return _read(payload, at, end, _METADATA, depth)


def _properties(payload: bytes, at: int, end: int, depth: int) -> dict[str, Any]:
    found = _read(payload, at, end, _PROPERTIES, depth)
    return _by_name(payload, at, found.get("keys", []), found.get("values", []), "property set")


def _property(payload: bytes, at: int, end: int, depth: int) -> Any:  # noqa: ANN401  # of any datatype
    found = _read(payload, at, end, _PROPERTY, depth - 1)  # it is no object itself
    return _value(payload, at, found, found.get("type", 0))


def _property_sets(payload: bytes, at: int, end: int, depth: int) -> list[dict[str, Any]]:
    sets: list[dict[str, Any]] = _read(payload, at, end, _PROPERTY_SETS, depth).get("sets", [])
    return sets


def _data_set(payload: bytes, at: int, end: int, depth: int) -> list[dict[str, Any]]:
    found = _read(payload, at, end, _DATA_SET, depth)
    columns: list[str] = found.get("columns", [])
    types: list[int] = found.get("types", []) + [each for pack in found.get("packed", []) for each in pack]
    stated = found.get("num_of_columns", len(columns))
    if stated != len(columns) or (types and len(types) != len(columns)):
        raise _malformed(
            payload,
            at,
            f"a data set has {len(columns)} names of columns, {len(types)} types, and says it has {stated}",
        )
    _by_name(payload, at, columns, columns, "data set")
    signed = [(i, of) for i, of in enumerate(types) if of in INTEGERS]
    rows = []
    for row in found.get("rows", []):
        if len(row) != len(columns) or not row:
            raise _malformed(
                payload, at, f"a row has {len(row)} values, and there are {len(columns)} columns"
            )
        for i, of in signed:
            if type(row[i]) is int:
                row[i] = as_integer(row[i], of)
        rows.append(dict(zip(columns, row, strict=True)))
    return rows


def _row(payload: bytes, at: int, end: int, depth: int) -> list[Any]:
    if at == end:
        return []
    elements: list[Any] = _read(payload, at, end, _ROW, depth).get("elements", [])
    return elements


def _element(payload: bytes, at: int, end: int, depth: int) -> Any:  # noqa: ANN401  # of any datatype
    return _read(payload, at, end, _ELEMENT, depth - 1).get("value")


def _template(payload: bytes, at: int, end: int, depth: int) -> _Template:
    found = _read(payload, at, end, _TEMPLATE, depth)
    names, values, members, unnamed = [], [], {}, []
    for member in found.pop("metrics", []):
        if "name" not in member:
            if "alias" not in member:
                raise _malformed(payload, at, "a member of a template has neither name nor alias")
            unnamed.append(member)
            continue
        name = member.pop("name")
        names.append(name)
        values.append(member.pop("value"))
        if member:
            members[name] = member
    parameters = found.pop("parameters", None)
    if parameters:
        named, said = zip(*parameters, strict=True)
        found["parameters"] = _by_name(payload, at, named, said, "list of parameters")
    return _Template(_by_name(payload, at, names, values, "template"), found, members, unnamed)


def _parameter(payload: bytes, at: int, end: int, depth: int) -> tuple[str, Any]:
    found = _read(payload, at, end, _PARAMETER, depth)
    if "name" not in found:
        raise _malformed(payload, at, "a parameter of a template has no name")
    return found["name"], _value(payload, at, found, found.get("type", 0))


def _by_name(payload: bytes, at: int, names: Any, values: Any, what: str) -> dict[str, Any]:  # noqa: ANN401  # lists or tuples
    if len(names) != len(values):
        raise _malformed(payload, at, f"a {what} has {len(names)} names and {len(values)} values")
    found = dict(zip(names, values, strict=True))
    if len(found) != len(names):
        raise Reject("duplicate_key", f"byte {at}: a {what} has a name twice")
    return found


_OTHERS: Final[dict[int, Callable[..., Any] | None]] = {
    _VARINT: None,
    _FIXED64: lambda payload, at: int.from_bytes(_whole(payload, at, 8), "little"),
    _SIZED: _base64,
    _FIXED32: lambda payload, at: int.from_bytes(_whole(payload, at, 4), "little"),
}


def _whole(payload: bytes, at: int, size: int) -> bytes:
    if at + size > len(payload):
        raise IndexError
    return payload[at : at + size]


def _message(
    name: str, *fields: tuple[int, int, str, Callable[..., Any] | None], more: str = "", open_: bool = False
) -> _Message:
    """A kind of message, of field numbers, wire types, names and what reads them."""
    names = more.split()
    by_tag = {number << 3 | wire: (field, read, field in names) for number, wire, field, read in fields}
    return _Message(name, by_tag, frozenset(number for number, *_ in fields), open_)


def _values(first: int) -> list[tuple[int, int, str, Callable[..., Any] | None]]:
    """The fields of which one is the value."""
    return [
        (first, _VARINT, "value", _uint32),
        (first + 1, _VARINT, "value", None),
        (first + 2, _FIXED32, "value", _float),
        (first + 3, _FIXED64, "value", _double),
        (first + 4, _VARINT, "value", bool),
        (first + 5, _SIZED, "value", None),
    ]


_METADATA: Final = _message(
    "metadata",
    (1, _VARINT, "is_multi_part", bool),
    (2, _SIZED, "content_type", None),
    (3, _VARINT, "size", None),
    (4, _VARINT, "seq", None),
    (5, _SIZED, "file_name", None),
    (6, _SIZED, "file_type", None),
    (7, _SIZED, "md5", None),
    (8, _SIZED, "description", None),
    open_=True,
)
_PROPERTY: Final = _message(
    "a property",
    (1, _VARINT, "type", None),
    (2, _VARINT, "is_null", bool),
    *_values(3),
    (9, _SIZED, "value", _properties),
    (10, _SIZED, "value", _property_sets),
    (11, _SIZED, "value", _base64),
)
_PROPERTIES: Final = _message(
    "a property set", (1, _SIZED, "keys", None), (2, _SIZED, "values", _property), more="keys values"
)
_PROPERTY_SETS: Final = _message("a list of property sets", (1, _SIZED, "sets", _properties), more="sets")
_ELEMENT: Final = _message("an element of a data set", *_values(1), (7, _SIZED, "value", _base64))
_ROW: Final = _message("a row", (1, _SIZED, "elements", _element), more="elements")
_DATA_SET: Final = _message(
    "a data set",
    (1, _VARINT, "num_of_columns", None),
    (2, _SIZED, "columns", None),
    (3, _VARINT, "types", None),
    (3, _SIZED, "packed", _integers),
    (4, _SIZED, "rows", _row),
    more="columns types packed rows",
)
_PARAMETER: Final = _message(
    "a parameter",
    (1, _SIZED, "name", None),
    (2, _VARINT, "type", None),
    *_values(3),
    (9, _SIZED, "value", _base64),
)
_TEMPLATE: Final = _message(
    "a template",
    (1, _SIZED, "version", None),
    (2, _SIZED, "metrics", _metric),
    (3, _SIZED, "parameters", _parameter),
    (4, _SIZED, "template_ref", None),
    (5, _VARINT, "is_definition", bool),
    more="metrics parameters",
    open_=True,
)
_METRIC: Final = _message(
    "a metric",
    (1, _SIZED, "name", None),
    (2, _VARINT, "alias", None),
    (3, _VARINT, "timestamp", None),
    (4, _VARINT, "datatype", None),
    (5, _VARINT, "is_historical", bool),
    (6, _VARINT, "is_transient", bool),
    (7, _VARINT, "is_null", bool),
    (8, _SIZED, "metadata", _metadata),
    (9, _SIZED, "properties", _properties),
    *_values(10),
    (16, _SIZED, "value", _raw),
    (17, _SIZED, "value", _data_set),
    (18, _SIZED, "value", _template),
    (19, _SIZED, "value", _base64),
    open_=True,
)
_PAYLOAD: Final = _message(
    "the payload",
    (1, _VARINT, "timestamp", None),
    (2, _SIZED, "metrics", _metric),
    (3, _VARINT, "seq", None),
    (4, _SIZED, "uuid", None),
    (5, _SIZED, "body", _base64),
    more="metrics",
    open_=True,
)
