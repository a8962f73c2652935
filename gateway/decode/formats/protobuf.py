"""Protocol buffers, by a descriptor set of the user's own (`protoc --descriptor_set_out --include_imports`).

Fields go by their names in the .proto; enums by name, or number where it has none; bytes are base64, keys
of maps texts, a `float` the decimal that was meant. A Timestamp is RFC 3339 text, a Duration its seconds, a
wrapper what it wraps, a Struct the object that it is. A number, boolean or enum without presence is not sent
when it is zero (proto3): it is given as zero. An absent text, and all that has presence, is left out.

Nothing is lost: fields that the descriptor does not know are given by number under `unknown`. Refused are a
field that comes twice, of which the last would win, a known one of another type, a number of more bits than
its type has, and a message of which nothing at all is known. What was read is written again to find that
out: where the bytes are the same, that was all; where not, the payload is looked through field by field
(`protobuf_wire`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from gateway.decode.formats.form import Format
from gateway.decode.formats.protobuf_shapes import UNKNOWN, Shapes, Zeros
from gateway.decode.formats.protobuf_wire import MALFORMED, check_lossless
from runtime.errors import ConfigurationError, Reject

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.descriptor_pb2 import DescriptorProto
    from google.protobuf.message import Message

    from runtime.settings import Route

_SHOWN: Final = 8
_LARGE: Final = 8192  # bytes: in fewer there are not too many fields


def make(route: Route, where: str) -> Format:
    """The format of a route.

    Raises:
        ConfigurationError: there is no such descriptor set, or no such message in it.
    """
    form = _Form(_message_class(route.protobuf.descriptor, route.protobuf.message, f"{where}.protobuf"))
    return Format(form.parse, lambda payload: [payload], form.join, form.write)


class _Form:
    """Reads and writes one message.

    Args:
        kind: its class.
    """

    def __init__(self, kind: type[Message]) -> None:
        self._kind = kind
        self._descriptor = cast("Descriptor", kind.DESCRIPTOR)
        self._shape = Shapes().of(self._descriptor)

    def parse(self, payload: bytes) -> dict[str, Any]:
        """The fields of a payload.

        Raises:
            Reject: with the reason, and the field.
        """
        name = self._descriptor.full_name
        try:
            message = self._kind.FromString(payload)
        except DecodeError as error:
            said = str(error).rpartition(": ")[2]
            raise Reject("not_utf8" if "UTF-8" in said else MALFORMED, f"this is no {name}: {said}") from None
        if message.SerializeToString(deterministic=True) != payload or self._is_foreign(message):
            check_lossless(payload, self._descriptor)
        found: dict[str, Any] = self._shape.read(message, 0, Zeros())
        if UNKNOWN in found and not message.ListFields():
            raise Reject(
                MALFORMED, f"none of its fields is one of {name}, which its route names as its message"
            )
        return found

    def _is_foreign(self, message: Message) -> bool:
        """Whether a great deal of it is not known: for the library, each field of that takes its time."""
        size = message.ByteSize()
        if size <= _LARGE:
            return False
        known = self._kind()
        known.CopyFrom(message)
        known.DiscardUnknownFields()
        return size - known.ByteSize() > _LARGE

    def join(self, elements: Sequence[bytes | memoryview]) -> bytes:
        """A payload of payloads: lists one after the other, all else as in the last."""
        message = self._kind()
        for raw in elements:
            message.MergeFromString(bytes(raw))
        return message.SerializeToString(deterministic=True)

    def write(self, value: dict[str, Any]) -> bytes:
        """A payload of fields as `parse` gives them."""
        message = self._kind()
        self._shape.write(message, value)
        return message.SerializeToString(deterministic=True)


def _message_class(path: str, name: str, where: str) -> type[Message]:
    if not path:
        raise ConfigurationError(
            f"{where}.descriptor: format protobuf needs the file that "
            "protoc --include_imports --descriptor_set_out=FILE writes"
        )
    try:
        files = FileDescriptorSet.FromString(Path(path).read_bytes()).file
    except OSError as error:
        raise ConfigurationError(f"{where}.descriptor: {path}: {error.strerror or error}") from None
    except DecodeError:
        raise ConfigurationError(
            f"{where}.descriptor: {path} is no descriptor set, which "
            "protoc --include_imports --descriptor_set_out=FILE makes of a .proto"
        ) from None
    pool = DescriptorPool()
    try:
        for each in files:
            pool.Add(each)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{where}.descriptor: {path}: {error}; was it made with --include_imports?"
        ) from None
    known = [found for each in files for found in _names(each.package, each.message_type)]
    if name not in known:
        own = [each for each in known if not each.startswith("google.protobuf.")]
        there = ", ".join(own[:_SHOWN]) + (", …" if len(own) > _SHOWN else "")
        raise ConfigurationError(
            f"{where}.message: {path} has no message {name!r}, but {there or 'none at all'}"
        )
    return GetMessageClass(pool.FindMessageTypeByName(name))


def _names(scope: str, messages: Iterable[DescriptorProto]) -> Iterator[str]:
    for each in messages:
        if not each.options.map_entry:
            name = f"{scope}.{each.name}".lstrip(".")
            yield name
            yield from _names(name, each.nested_type)
