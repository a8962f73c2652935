"""From messages of protocol buffers to plain values and back, by what their descriptors say of each field."""

from __future__ import annotations

from base64 import b64decode, b64encode
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from google.protobuf.descriptor import FieldDescriptor as Kind
from google.protobuf.unknown_fields import UnknownFieldSet

from gateway.decode.fields import NoNumber
from gateway.decode.formats.messagepack import text_of_time
from gateway.decode.formats.protobuf_wire import MALFORMED, read_unknown, write_unknown
from gateway.decode.formats.singles import of_double, of_single
from gateway.decode.limits import MAX_DEPTH
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

UNKNOWN: Final = "unknown"
"""The name under which fields stand that a descriptor does not know."""

_MOST_ZEROS: Final = 100_000
_NANOSECONDS: Final = 10**9
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TEXTS: Final = frozenset({Kind.TYPE_STRING, Kind.TYPE_BYTES})


class Zeros:
    """Bounds the zeros of a payload that nobody sent: two bytes can stand for a message of many."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = _MOST_ZEROS

    def take(self, count: int) -> None:
        """Count some.

        Raises:
            Reject: there are too many.
        """
        self._left -= count
        if self._left < 0:
            raise Reject(MALFORMED, f"its messages leave out more than {_MOST_ZEROS} fields that are zero")


class Shapes:
    """The shapes of the messages of a route, each made once."""

    def __init__(self) -> None:
        self._known: dict[str, Shape] = {}

    def of(self, descriptor: Descriptor) -> Shape:
        """That of a message."""
        found = self._known.get(descriptor.full_name)
        if found is None:
            kind = _SPECIAL.get(descriptor.full_name, Shape)
            found = self._known[descriptor.full_name] = kind(descriptor, self)
        return found


class _Field(NamedTuple):
    """A field of a message.

    Attributes:
        name: as in the .proto; of an extension with its package.
        read: makes a value of one element.
        write: makes one element of a value; None where `shape` does.
        shape: what an element is when it is a message.
        is_map: whether it is one; elements are its values then.
    """

    descriptor: FieldDescriptor
    name: str
    read: Callable[[Any, int, Zeros], Any]
    write: Callable[[Any], Any]
    shape: Shape | None
    is_repeated: bool
    is_map: bool


class Shape:
    """How a message is read and written.

    Args:
        descriptor: what it is.
        shapes: those of the messages in it.
    """

    def __init__(self, descriptor: Descriptor, shapes: Shapes) -> None:
        self._descriptor = descriptor
        self._shapes = shapes
        self._fields: dict[int, _Field] = {}
        self._by_name: dict[str, _Field] = {}
        self._zeros: dict[str, Any] = {}
        self._made = False

    def read(self, message: Any, depth: int, zeros: Zeros) -> Any:  # noqa: ANN401  # a class made at run time; any value
        """The value of a message.

        Raises:
            Reject: something of it cannot be read.
        """
        if depth >= MAX_DEPTH:
            raise Reject("too_deep", f"nested deeper than {MAX_DEPTH}")
        self._make()
        found = self._zeros.copy()
        sent = message.ListFields()
        for descriptor, value in sent:
            field = self._fields.get(descriptor.number) or self._add(descriptor)
            read = field.read
            if field.is_map:
                found[field.name] = {_key(key): read(value[key], depth + 2, zeros) for key in value}
            elif field.is_repeated:
                found[field.name] = [read(each, depth + 2, zeros) for each in value]
            else:
                found[field.name] = read(value, depth + 1, zeros)
        zeros.take(len(found) - len(sent))
        unknown = UnknownFieldSet(message)
        if len(unknown):
            if UNKNOWN in found:
                raise Reject("duplicate_key", f"a field is called {UNKNOWN!r}, and others are not known")
            found[UNKNOWN] = read_unknown(unknown, self._descriptor)
        return found

    def write(self, message: Any, value: Any) -> None:  # noqa: ANN401  # likewise
        """Give a message the fields of a value that `read` made."""
        self._make()
        message.SetInParent()
        for name, each in value.items():
            if field := self._by_name.get(name):
                _set(message, field, each)
            elif name == UNKNOWN:
                message.MergeFromString(write_unknown(each))

    def _make(self) -> None:
        """Know the fields; not before it is needed, since a message may contain itself."""
        if self._made:
            return
        self._made = True
        for descriptor in self._descriptor.fields:
            field = self._add(descriptor)
            is_text = descriptor.type in _TEXTS
            if not (field.is_repeated or descriptor.has_presence or is_text):
                self._zeros[field.name] = field.read(descriptor.default_value, 0, Zeros())

    def _add(self, descriptor: FieldDescriptor) -> _Field:
        message = descriptor.message_type
        is_map = message is not None and message.GetOptions().map_entry
        element = message.fields_by_name["value"] if message is not None and is_map else descriptor
        shape = self._shapes.of(element.message_type) if element.message_type is not None else None
        read, write = _scalar(element) if shape is None else (shape.read, _as_it_is)
        name = descriptor.full_name if descriptor.is_extension else descriptor.name
        field = _Field(descriptor, name, read, write, shape, descriptor.is_repeated, is_map)
        self._fields[descriptor.number] = self._by_name[name] = field
        return field


class _Special(Shape):
    """A message that is known to everybody: its value is not an object of its fields."""

    def read(self, message: Any, depth: int, zeros: Zeros) -> Any:  # noqa: ANN401  # likewise
        if len(UnknownFieldSet(message)):
            raise Reject(MALFORMED, f"a {self._descriptor.full_name} has fields that are none of its own")
        if depth > MAX_DEPTH:
            raise Reject("too_deep", f"nested deeper than {MAX_DEPTH}")
        return self._value(message, depth, zeros)

    def write(self, message: Any, value: Any) -> None:  # noqa: ANN401  # likewise
        message.SetInParent()
        self._set(message, value)

    def _value(self, message: Any, depth: int, zeros: Zeros) -> Any:  # noqa: ANN401  # likewise
        raise NotImplementedError

    def _set(self, message: Any, value: Any) -> None:  # noqa: ANN401  # likewise
        raise NotImplementedError


class _Timestamp(_Special):
    def _value(self, message: Any, _depth: int, _zeros: Zeros) -> str:  # noqa: ANN401  # likewise
        if not 0 <= message.nanos < _NANOSECONDS:
            raise Reject(MALFORMED, f"a Timestamp has {message.nanos} nanoseconds")
        return text_of_time(message.seconds, message.nanos)

    def _set(self, message: Any, value: str) -> None:  # noqa: ANN401  # likewise
        whole, _, fraction = value.removesuffix("Z").partition(".")
        moment = datetime.fromisoformat(whole).replace(tzinfo=UTC)
        message.seconds = round((moment - _EPOCH).total_seconds())
        message.nanos = int(fraction.ljust(9, "0"))


class _Duration(_Special):
    def _value(self, message: Any, _depth: int, _zeros: Zeros) -> float:  # noqa: ANN401  # likewise
        seconds, nanos = message.seconds, message.nanos
        value: float = (seconds * _NANOSECONDS + nanos) / _NANOSECONDS if nanos else seconds
        return value

    def _set(self, message: Any, value: float) -> None:  # noqa: ANN401  # likewise
        whole = int(value)
        message.seconds = whole
        message.nanos = round((value - whole) * _NANOSECONDS)


class _Wrapper(_Special):
    def _value(self, message: Any, depth: int, zeros: Zeros) -> Any:  # noqa: ANN401  # likewise
        return self._add(self._descriptor.fields[0]).read(message.value, depth, zeros)

    def _set(self, message: Any, value: Any) -> None:  # noqa: ANN401  # likewise
        message.value = self._add(self._descriptor.fields[0]).write(value)


class _Struct(_Special):
    def _value(self, message: Any, depth: int, zeros: Zeros) -> dict[str, Any]:  # noqa: ANN401  # likewise
        members = message.fields
        return {key: self._of(members[key]).read(members[key], depth + 1, zeros) for key in members}

    def _of(self, member: Any) -> Shape:  # noqa: ANN401  # likewise
        return self._shapes.of(member.DESCRIPTOR)

    def _set(self, message: Any, value: dict[str, Any]) -> None:  # noqa: ANN401  # likewise
        for key, each in value.items():
            self._of(message.fields[key]).write(message.fields[key], each)


class _ListValue(_Struct):
    def _value(self, message: Any, depth: int, zeros: Zeros) -> Any:  # noqa: ANN401  # likewise
        return [self._of(each).read(each, depth + 1, zeros) for each in message.values]

    def _set(self, message: Any, value: Any) -> None:  # noqa: ANN401  # likewise
        for each in value:
            member = message.values.add()
            self._of(member).write(member, each)


class _Value(_Struct):
    def _value(self, message: Any, depth: int, zeros: Zeros) -> Any:  # noqa: ANN401  # likewise
        kind = message.WhichOneof("kind")
        if kind is None or kind == "null_value":
            return None
        value = getattr(message, kind)
        if kind in {"struct_value", "list_value"}:
            return self._of(value).read(value, depth, zeros)
        return of_double(value) if kind == "number_value" else value

    def _set(self, message: Any, value: Any) -> None:  # noqa: ANN401  # likewise
        kind = _VALUES.get(type(value), "number_value")
        if kind in {"struct_value", "list_value"}:
            member = getattr(message, kind)
            self._of(member).write(member, value)
        else:
            setattr(message, kind, 0 if value is None else _number(value))


_VALUES: Final = {
    type(None): "null_value",
    bool: "bool_value",
    str: "string_value",
    dict: "struct_value",
    list: "list_value",
}

_SPECIAL: Final[dict[str, type[Shape]]] = {
    "google.protobuf.Timestamp": _Timestamp,
    "google.protobuf.Duration": _Duration,
    "google.protobuf.Struct": _Struct,
    "google.protobuf.ListValue": _ListValue,
    "google.protobuf.Value": _Value,
    **{
        f"google.protobuf.{name}Value": _Wrapper
        for name in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
    },
}


def _set(message: Any, field: _Field, value: Any) -> None:  # noqa: ANN401  # likewise
    descriptor = field.descriptor
    is_extension = descriptor.is_extension
    if not (field.is_repeated or field.shape):
        if is_extension:
            message.Extensions[descriptor] = field.write(value)
        else:
            setattr(message, descriptor.name, field.write(value))
        return
    holder = message.Extensions[descriptor] if is_extension else getattr(message, descriptor.name)
    if field.is_map:
        make = _key_maker(descriptor)
        for key, each in value.items():
            if field.shape:
                field.shape.write(holder[make(key)], each)
            else:
                holder[make(key)] = field.write(each)
    elif not field.is_repeated:
        assert field.shape is not None
        field.shape.write(holder, value)
    elif field.shape:
        for each in value:
            field.shape.write(holder.add(), each)
    else:
        holder.extend(map(field.write, value))


def _scalar(field: FieldDescriptor) -> tuple[Callable[[Any, int, Zeros], Any], Callable[[Any], Any]]:
    """How a scalar is read, and written."""
    if field.enum_type is not None:
        return _enum(field.enum_type)
    if field.type == Kind.TYPE_BYTES:
        return lambda value, _depth, _zeros: b64encode(value).decode(), b64decode
    if field.type == Kind.TYPE_FLOAT:
        return lambda value, _depth, _zeros: of_single(value), _number
    if field.type == Kind.TYPE_DOUBLE:
        return lambda value, _depth, _zeros: of_double(value), _number
    return lambda value, _depth, _zeros: value, _as_it_is


def _enum(enum: EnumDescriptor) -> tuple[Callable[[Any, int, Zeros], Any], Callable[[Any], Any]]:
    names = {value.number: value.name for value in reversed(enum.values)}  # of aliases the first
    numbers = {value.name: value.number for value in enum.values}
    return lambda value, _depth, _zeros: names.get(value, value), lambda value: numbers.get(value, value)


def _number(value: Any) -> Any:  # noqa: ANN401  # likewise
    return float(value.text) if type(value) is NoNumber else value


def _as_it_is(value: Any) -> Any:  # noqa: ANN401  # likewise
    return value


def _key(key: Any) -> str:  # noqa: ANN401  # likewise
    if type(key) is str:
        return key
    return str(key).lower() if type(key) is bool else str(key)


def _key_maker(descriptor: FieldDescriptor) -> Callable[[str], Any]:
    assert descriptor.message_type is not None
    kind = descriptor.message_type.fields_by_name["key"].type
    if kind == Kind.TYPE_STRING:
        return str
    return (lambda key: key == "true") if kind == Kind.TYPE_BOOL else int
