"""The steps of decoding, one after the other: route, format, mapping, assembly."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from gateway.decode import mapping
from gateway.decode.assemble import Assembler
from gateway.decode.formats import FORMATS
from gateway.decode.reading import Reading, Received, Rejection
from gateway.decode.routes import CompiledRoute, Matched, match
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from runtime.mqtt.port import Delivery

_KNOWN_LIMIT: Final = 100_000


class Decoder:
    """Decodes deliveries by the configured routes.

    Remembers topics that it has matched, up to a bound, so that each is matched once.
    """

    def __init__(
        self, routes: Sequence[CompiledRoute], *, max_payload_bytes: int, max_ahead: timedelta
    ) -> None:
        self._routes = routes
        self._max_payload_bytes = max_payload_bytes
        self._assemble = Assembler(max_ahead=max_ahead).assemble
        self._topics: OrderedDict[str, Matched] = OrderedDict()

    def decode(self, delivery: Delivery, received: Received) -> list[Reading | Rejection]:
        """Decode a delivery to at least one reading or rejection, one for each element of an array."""
        payload, matched = delivery.payload, None
        try:
            matched = self._match(delivery.topic)
            form = FORMATS[matched.route.format]
            value = self._parse(form.parse, payload)
        except Reject as reject:
            device_id = matched.device_id if matched else None
            topic, text = delivery.topic, received.text
            return [Rejection(text, topic, device_id, reject.reason, reject.detail, payload)]
        if type(value) is list:
            return [
                self._outcome(item, matched, received, bytes(raw), place)
                for place, (item, raw) in enumerate(zip(value, form.elements(payload), strict=True))
            ]
        return [self._outcome(value, matched, received, payload, -1)]

    def _parse(self, parse: Any, payload: bytes) -> Any:  # noqa: ANN401  # a format's value is any value
        if len(payload) > self._max_payload_bytes:
            raise Reject(
                "payload_too_large",
                f"{len(payload)} bytes, gateway.max_payload_bytes allows {self._max_payload_bytes}",
            )
        value = parse(payload)
        if value == []:
            raise Reject("empty_message", "the array has no readings")
        return value

    def _match(self, topic: str) -> Matched:
        matched = self._topics.get(topic)
        if matched is None:
            matched = match(self._routes, topic)
            if len(self._topics) >= _KNOWN_LIMIT:
                self._topics.popitem(last=False)
            self._topics[topic] = matched
        return matched

    def _outcome(
        self,
        item: Any,  # noqa: ANN401  # a format's value is any value
        matched: Matched,
        received: Received,
        raw: bytes,
        place: int,
    ) -> Reading | Rejection:
        try:
            return self._assemble(mapping.read(item), matched, received, raw)
        except Reject as reject:
            return _rejection(matched, received, raw, place, reject)
        except Exception as error:  # noqa: BLE001  # a bug of ours must not stop a gateway, and again after each restart
            failure = Reject("undecodable", f"the decoder failed: {error!r}")
            return _rejection(matched, received, raw, place, failure)


def _rejection(matched: Matched, received: Received, raw: bytes, place: int, reject: Reject) -> Rejection:
    error = reject.detail if place < 0 else f"element {place}: {reject.detail}"
    return Rejection(received.text, matched.topic, matched.device_id, reject.reason, error, raw)
