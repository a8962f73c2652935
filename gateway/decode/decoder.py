"""The steps of decoding, one after the other: route, format, mapping, assembly.

One payload can be a great many readings. What is refused of it is kept element by element at first; what
follows becomes one letter that holds the rest, so that one sender's fault costs the others no room.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from gateway.decode.assemble import Assembler
from gateway.decode.drops import Drops
from gateway.decode.formats import FORMATS
from gateway.decode.known import Memo
from gateway.decode.mapping import Mapper
from gateway.decode.reading import Reading, Received, Rejection
from gateway.decode.routes import CompiledRoute, Matched, Router
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.decode.limits import Limits
    from runtime.mqtt.port import Delivery

_TOPICS_BYTES: Final = 128_000_000  # over 100,000 topics in the half that is found at once
_MAX_LETTERS: Final = 10
_MANY: Final = "many_bad_elements"


class Decoder:
    """Decodes deliveries by the configured routes.

    Remembers topics that it has matched, up to a bound, so that each is matched once.

    Attributes:
        ignored: messages that a route leaves out.
        empty: messages without a payload, by which a retained one is cleared (MQTT5 §3.3.1.3).
        drops: fields that were left out.
    """

    def __init__(self, routes: Sequence[CompiledRoute], limits: Limits) -> None:
        self.ignored = 0
        self.empty = 0
        self.drops = Drops()
        self._router = Router(routes)
        self._max_payload_bytes = limits.max_payload_bytes
        self._assemble = Assembler(limits).assemble
        self._topics: Memo[Matched] = Memo(_TOPICS_BYTES, lambda matched: matched.size_bytes)
        self._mappers = [Mapper(route.plan, limits) for route in routes]

    def decode(self, delivery: Delivery, received: Received) -> list[Reading | Rejection]:
        """Decode a delivery to readings and rejections, one for each element of an array.

        There is none only of what is ignored, or empty.
        """
        payload, matched = delivery.payload, None
        try:
            matched = self._topics.get(delivery.topic) or self._match(delivery.topic)
            if matched.ignore or not payload:
                self.ignored += matched.ignore
                self.empty += not matched.ignore
                return []
            if len(payload) > self._max_payload_bytes:
                raise self._too_large(payload)
            form = FORMATS[matched.format]
            value = form.parse(payload)
            if type(value) is list:
                return self._elements(value, matched, received, payload)
            return [self._reading(value, matched, received, payload)]
        except Reject as reject:
            device_id = matched.device_id if matched else None
            text, topic = received.next(), delivery.topic
            return [Rejection(text, topic, device_id, reject.reason, reject.detail, payload)]

    def route_of(self, topic: str) -> str:
        """The template of the route that a topic is for; empty when there is none."""
        try:
            return self._match(topic).route.topic
        except Reject:
            return ""

    def _match(self, topic: str) -> Matched:
        matched = self._topics.get(topic) or self._topics.recall(topic)
        if matched is None:
            matched = self._router.match(topic)
            self._topics.keep(topic, matched)
        return matched

    def _too_large(self, payload: bytes) -> Reject:
        allowed = f"gateway.max_payload_bytes allows {self._max_payload_bytes}"
        return Reject("payload_too_large", f"{len(payload)} bytes, {allowed}")

    def _reading(self, item: Any, matched: Matched, received: Received, raw: bytes) -> Reading:  # noqa: ANN401  # a format's value is any value
        """A reading of a value.

        Raises:
            Reject: it is none.
        """
        mapper = self._mappers[matched.number]
        unfit = mapper.unfit
        try:
            mapped = mapper.read(item, matched.metric)
            reading = self._assemble(mapped, matched, received, raw, unfit)
        except Reject:
            unfit.fields.clear()
            raise
        except Exception as error:  # a bug of ours must not stop a gateway, and again after each restart
            unfit.fields.clear()
            raise Reject("undecodable", f"the decoder failed: {error!r}") from error
        if unfit.fields:
            self.drops.add(matched.route.topic, unfit.fields)
            unfit.fields.clear()
        return reading

    def _elements(
        self, values: list[Any], matched: Matched, received: Received, payload: bytes
    ) -> list[Reading | Rejection]:
        form = FORMATS[matched.format]
        if not values:
            raise Reject("empty_message", "the array has no readings")
        if len(values) > _MAX_LETTERS and matched.metric is None and dict not in set(map(type, values)):
            detail = f"none of {len(values)} elements is an object"
            return [_rejection(matched, received, payload, _MANY, detail)]
        found: list[Reading | Rejection] = []
        rest: list[bytes | memoryview] = []
        reasons: Counter[str] = Counter()
        refused, first, first_at = 0, "", ""
        for place, (value, raw) in enumerate(zip(values, form.elements(payload), strict=True)):
            try:
                found.append(self._reading(value, matched, received, bytes(raw)))
            except Reject as reject:
                error = f"element {place}: {reject.detail}"
                refused += 1
                if refused <= _MAX_LETTERS:
                    found.append(_rejection(matched, received, bytes(raw), reject.reason, error))
                    continue
                first = first or error
                first_at = first_at or received.next()
                reasons[reject.reason] += 1
                rest.append(raw)
        if rest:
            said = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(5))
            error = f"{len(rest)} more elements of one payload: {said}; the first, {first}"
            found.append(Rejection(first_at, matched.topic, matched.device_id, _MANY, error, form.join(rest)))
        return found


def _rejection(matched: Matched, received: Received, raw: bytes, reason: str, error: str) -> Rejection:
    return Rejection(received.next(), matched.topic, matched.device_id, reason, error, raw)
