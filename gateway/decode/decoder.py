"""The steps of decoding, one after the other: route, format, mapping, assembly.

A topic says which route its message is for (`routes`); the bytes are uncompressed and parsed by its format;
its reader has the readings mapped and assembled (`reader`, `shaped_reader`). Whatever goes wrong on the way
is a dead letter of that message and of no other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gateway.decode.assemble import Assembler
from gateway.decode.drops import Drops
from gateway.decode.formats import format_of
from gateway.decode.known import Memo, Room
from gateway.decode.limits import WHOLE, work_allowed
from gateway.decode.mapping import Mapper, Shaper, needs_shaping
from gateway.decode.mapping.presence import METRIC as PRESENCE
from gateway.decode.reader import PlainReader, Reader, failed
from gateway.decode.reading import Reading, Received, Rejection
from gateway.decode.routes import CompiledRoute, Matched, Router
from gateway.decode.shaped_reader import ShapedReader
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gateway.decode.formats import Format
    from gateway.decode.limits import Limits
    from runtime.mqtt.port import Delivery

_TOPICS_BYTES: Final = 128_000_000  # over 100,000 topics in the half that is found at once
_WORKED_BYTES: Final = 64_000_000  # of what all routes remember of shapes and tags


class Decoder:
    """Decodes deliveries by the configured routes.

    Remembers topics that it has matched, up to a bound, so that each is matched once.

    Attributes:
        ignored: messages that a route leaves out.
        drops: fields that were left out.

    Raises:
        ConfigurationError: what a route says of its messages means nothing.
    """

    def __init__(self, routes: Sequence[CompiledRoute], limits: Limits) -> None:
        self.ignored = 0
        self.drops = Drops()
        self._empty = 0
        self._ready: tuple[Delivery, Any] | None = None
        self._router = Router(routes)
        self._max_payload_bytes = limits.max_payload_bytes
        self._topics: Memo[Matched] = Memo(_TOPICS_BYTES, lambda matched: matched.size_bytes)
        self._room = Room(_WORKED_BYTES, limits.patience)
        self._assembler = Assembler(limits, self._room)
        self._readers = [self._reader(each, each.route.where(i), limits) for i, each in enumerate(routes)]

    def _reader(self, compiled: CompiledRoute, where: str, limits: Limits) -> Reader:
        route, plan = compiled.route, compiled.plan
        form = format_of(route, where)
        if not needs_shaping(route):
            mapper = Mapper(plan, limits, self._room)
            return PlainReader(compiled, form, mapper, self._assembler, self.drops, self._room)
        resolve = form.raw and form.raw.resolve
        shaper = Shaper(route, plan, limits, where, self._room, resolve=resolve)
        return ShapedReader(compiled, form, shaper, self._assembler, self.drops, self._room)

    @property
    def empty(self) -> int:
        """Messages and readings that are left out because there is nothing in them.

        Without a payload a retained message is cleared (MQTT5 §3.3.1.3).
        """
        return self._empty + sum(reader.empty for reader in self._readers)

    def decode(self, delivery: Delivery, received: Received) -> list[Reading | Rejection]:
        """Decode a delivery to readings and rejections, one for each reading that it was to be.

        There is none only of what is ignored, or empty.
        """
        payload, matched = delivery.payload, None
        try:
            matched = self._topics.get(delivery.topic) or self._match(delivery.topic)
            if matched.ignore or not payload:
                self.ignored += matched.ignore
                self._empty += not matched.ignore
                return []
            reader = self._readers[matched.number]
            unpacked = self._unpacked(payload, reader.form)
            self._room.left = self._room.patience * work_allowed(len(unpacked))
            return reader.read(payload, unpacked, matched, received)
        except Exception as error:  # noqa: BLE001  # a bug of ours must not stop a gateway, and again after each restart
            return self._refused(error, delivery, matched, received)

    def route_of(self, topic: str) -> str:
        """The template of the route that a topic is for; empty when there is none."""
        try:
            return self._match(topic).route.topic
        except Reject:
            return ""

    def value_of(self, delivery: Delivery, *, glance: bool = False) -> Any:  # noqa: ANN401  # a format's value is any value
        """What the format of its route makes of a delivery, for who completes it before it is read.

        Args:
            delivery: it.
            glance: whether a `Glance` will do, where one look at it tells all.

        Raises:
            Reject: it cannot be read.
        """
        ready, self._ready = self._ready, None
        if ready is not None and ready[0] is delivery:
            if isinstance(ready[1], Reject):
                raise ready[1]
            return ready[1]
        form = self._readers[self._match(delivery.topic).number].form
        unpacked = self._unpacked(delivery.payload, form)
        if glance and form.look is not None and (seen := form.look(unpacked)) is not None:
            return seen
        return form.parse(unpacked)

    def prepare(self, delivery: Delivery, *, whole: bool = False) -> Iterator[None]:
        """Do what a long message takes before its turn, in steps, between which nothing else is decoded.

        Args:
            delivery: that `value_of` is asked for next.
            whole: whether `read` is asked for that very value then.
        """
        try:
            matched = self._match(delivery.topic)
            reader = self._readers[matched.number]
            if reader.form.steps is None:
                return
            unpacked = self._unpacked(delivery.payload, reader.form)
            value = yield from reader.form.steps(unpacked)
        except Reject as reject:
            self._ready = delivery, reject.with_traceback(None)
            return
        self._ready = delivery, value
        if whole:
            self._room.left = WHOLE * work_allowed(len(delivery.payload))
            yield from reader.prepare(value, matched, len(delivery.payload))

    def refuse(self, delivery: Delivery, reject: Reject, received: Received) -> list[Reading | Rejection]:
        """What a delivery comes to of which `value_of` says that it cannot be read."""
        return self._refused(reject, delivery, self.matched(delivery.topic), received)

    def read(self, delivery: Delivery, value: Any, received: Received) -> list[Reading | Rejection]:  # noqa: ANN401  # likewise
        """The readings of such a value, which is one message; its bytes are those of the delivery."""
        matched = self._match(delivery.topic)
        self._room.left = WHOLE * work_allowed(len(delivery.payload))
        try:
            return self._readers[matched.number].read_value(value, delivery.payload, matched, received)
        except Exception as error:  # noqa: BLE001  # likewise
            return self._refused(error, delivery, matched, received)

    def tell(self, delivery: Delivery, key: str, received: Received, *, online: bool) -> Reading | None:
        """A reading that says nothing but whether its device is online, at its arrival.

        Args:
            delivery: whose topic names the device.
            key: by which it is known when it comes again.
            received: gives it its time.
            online: whether it is.

        Returns:
            None where the topic has no route, or is left out.
        """
        try:
            matched = self._match(delivery.topic)
            if matched.ignore:
                return None
            self._room.left = work_allowed(0)
            mapped = (None, key, None, None, {PRESENCE: online}, False)
            unfit = self._readers[matched.number].unfit
            return self._assembler.assemble(mapped, matched, received, delivery.payload, unfit, online=online)
        except Reject:
            return None

    def matched(self, topic: str) -> Matched | None:
        """The route of a topic and what the topic says; None when no message of it could be stored."""
        try:
            matched = self._match(topic)
        except Reject:
            return None
        return None if matched.ignore else matched

    def _refused(
        self, error: Exception, delivery: Delivery, matched: Matched | None, received: Received
    ) -> list[Reading | Rejection]:
        reject = error if isinstance(error, Reject) else failed(error)
        device_id = None
        if matched is not None:
            device_id = matched.device_id
            reader = self._readers[matched.number]
            if reject is not error:
                reader.forget()
            elif reader.leaves_out(reject):
                self._empty += 1
                return []
        topic, payload = delivery.topic, delivery.payload
        return [Rejection(received.next(), topic, device_id, reject.reason, reject.detail, payload)]

    def _match(self, topic: str) -> Matched:
        matched = self._topics.get(topic) or self._topics.recall(topic)
        if matched is None:
            matched = self._router.match(topic)
            self._topics.keep(topic, matched)
        return matched

    def _unpacked(self, payload: bytes, form: Format) -> bytes:
        if len(payload) > self._max_payload_bytes:
            raise Reject(
                "payload_too_large",
                f"{len(payload)} bytes, gateway.max_payload_bytes allows {self._max_payload_bytes}",
            )
        if payload and payload[0] in form.unpacking.first:
            return form.unpacking.unpack(payload, self._max_payload_bytes)
        return payload
