"""The default device message: a JSON object, or an array of them, on a routed topic.

`id` (also `message_id`, `idempotency_key`) is the message key and `ts` (also `timestamp`, `time`) the device
time; of several, the first in this order counts. `region` and `device_id` are optional. Every other number,
boolean or string is a metric, and so is everything in an object `metrics`; null means "no value", and other
objects and arrays are not metrics.

A message without a key gets one made from its device time and content, `auto:…`; one that has neither key nor
time gets `uuid:…`, fresh at each delivery.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

import msgspec

from contract.events import RawEvent, format_utc
from gateway.decode import json_format
from gateway.decode.names import INT64, check_device_id, check_key, check_metric, check_region, kind_of
from gateway.decode.reading import Reading, Received, Rejection, payload_of
from gateway.decode.routes import CompiledRoute, Matched, match
from gateway.decode.times import EARLIEST, check_time, parse_time
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from runtime.mqtt.port import Delivery

_OTHER_KEY_NAMES: Final = ("message_id", "idempotency_key")
_OTHER_TIME_NAMES: Final = ("timestamp", "time")
_RARE_NAMES: Final = frozenset({*_OTHER_KEY_NAMES, *_OTHER_TIME_NAMES, "device_id", "metrics"})
_MAX_METRICS: Final = 256
_KNOWN_LIMIT: Final = 100_000
_SCALARS: Final = frozenset({float, int, str, bool})

_LARGEST: Final = 1e300  # a hundred million of them add up without overflow
_HUGE: Final = "e30"  # in the text of every double that large: cheaper to look for than to compare each

_encode = msgspec.json.Encoder(order="deterministic").encode
_COPY_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


class Decoder:
    """Decodes deliveries by the configured routes.

    Remembers topics, regions and metric names that it has checked, up to a bound, so that each is checked
    once.
    """

    def __init__(
        self, routes: Sequence[CompiledRoute], *, max_payload_bytes: int, max_ahead: timedelta
    ) -> None:
        self._routes = routes
        self._max_payload_bytes = max_payload_bytes
        self._max_ahead = max_ahead
        self._topics: OrderedDict[str, Matched] = OrderedDict()
        self._regions: set[object] = set()
        self._metrics: set[str] = set()

    def decode(self, delivery: Delivery, received: Received) -> list[Reading | Rejection]:
        """Decode a delivery to at least one reading or rejection, one for each element of an array."""
        matched = None
        try:
            matched = self._match(delivery.topic)
            value = self._parse(delivery.payload)
        except Reject as reject:
            device_id = matched.device_id if matched else None
            return [_rejection(delivery, -1, device_id, received, reject)]
        if type(value) is list:
            return [
                self._outcome(item, matched, received, delivery, place) for place, item in enumerate(value)
            ]
        return [self._outcome(value, matched, received, delivery, -1)]

    def _parse(self, payload: bytes) -> Any:  # noqa: ANN401  # JSON is any value
        if len(payload) > self._max_payload_bytes:
            raise Reject(
                "payload_too_large",
                f"{len(payload)} bytes, gateway.max_payload_bytes allows {self._max_payload_bytes}",
            )
        value = json_format.parse(payload)
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
        item: Any,  # noqa: ANN401  # JSON is any value
        matched: Matched,
        received: Received,
        delivery: Delivery,
        place: int,
    ) -> Reading | Rejection:
        try:
            return self._reading(item, matched, received, delivery, place)
        except Reject as reject:
            return _rejection(delivery, place, matched.device_id, received, reject)
        except Exception as error:  # noqa: BLE001  # a bug of ours must not stop a gateway, and again after each restart
            failure = Reject("undecodable", f"the decoder failed: {error!r}")
            return _rejection(delivery, place, matched.device_id, received, failure)

    def _reading(
        self,
        item: Any,  # noqa: ANN401  # JSON is any value
        matched: Matched,
        received: Received,
        delivery: Delivery,
        place: int,
    ) -> Reading:
        if type(item) is not dict:
            raise Reject("wrong_root", f"{kind_of(item)}, expected an object or an array of objects")
        key, time, device_id, nested = item.pop("id", None), item.pop("ts", None), None, None
        if not _RARE_NAMES.isdisjoint(item):
            key = _first(key, item, _OTHER_KEY_NAMES)
            time = _first(time, item, _OTHER_TIME_NAMES)
            device_id, nested = item.pop("device_id", None), item.pop("metrics", None)
        device_id = self._device_id(device_id, matched)
        region = self._region(item.pop("region", None), matched)
        metrics = self._metrics_of(item, nested)
        if key is None and time is None and not metrics:
            raise Reject("empty_message", "no key, no time and no metric: nothing to store")

        if time is None:
            ts, stated_ts = received.text, ""
        else:
            moment = parse_time(time)
            if not EARLIEST <= moment <= received.at:
                check_time(moment, received.at, self._max_ahead)
            ts = stated_ts = format_utc(moment)

        encoded = _encode(metrics)
        text = encoded.decode()
        if _HUGE in text:
            _check_magnitudes(metrics)
        keyed = key is not None
        key = check_key(key) if keyed else _made_key(stated_ts, region, encoded)

        identity = f"{device_id}\x1f{key}"
        if matched.route.identity == "key+time":
            identity = f"{identity}\x1f{stated_ts}"
        tail = f"{device_id}\t{key}\t{region}\t{text}"
        if region is None or "\\" in tail or not key.isprintable():
            tail = _escaped(device_id, key, region, text)
        line = f"{ts}\t{tail}"
        return Reading(
            RawEvent(device_id, region, ts, received.text, key, msgspec.Raw(encoded)),
            identity,
            line if stated_ts else tail,
            line,
            keyed,
            delivery,
            place,
        )

    def _device_id(self, stated: object, matched: Matched) -> str:
        if stated is None:
            if matched.device_id is None:
                raise Reject("invalid_device_id", "neither the topic nor the payload names the device")
            return matched.device_id
        if matched.device_id is None:
            return check_device_id(stated)
        if stated != matched.device_id:
            raise Reject(
                "device_mismatch", f"payload says device {str(stated)[:40]!r}, topic {matched.device_id!r}"
            )
        return matched.device_id

    def _region(self, stated: object, matched: Matched) -> str | None:
        if stated is None:
            return matched.region
        if type(stated) is str and stated in self._regions:
            return stated
        region = check_region(stated)
        if len(self._regions) < _KNOWN_LIMIT:
            self._regions.add(region)
        return region

    def _metrics_of(self, metrics: dict[str, Any], nested: object) -> dict[str, Any]:
        """What is left of an object once its other fields are taken out, and its object `metrics`."""
        kinds = set(map(type, metrics.values()))
        if not kinds <= _SCALARS:
            metrics = {name: value for name, value in metrics.items() if type(value) in _SCALARS}
        if nested is not None:
            _add_nested(metrics, nested)
        if len(metrics) > _MAX_METRICS:
            raise Reject(
                "invalid_metric", f"{len(metrics)} metrics in one message, allowed are {_MAX_METRICS}"
            )
        if int in kinds or nested is not None:
            for name, value in metrics.items():
                if type(value) is int and not -INT64 <= value < INT64:
                    raise Reject("number_out_of_range", f"metric {name[:40]!r} is beyond a 64-bit integer")
        if not self._metrics.issuperset(metrics):
            for name in metrics:
                check_metric(name)
            if len(self._metrics) < _KNOWN_LIMIT:
                self._metrics.update(metrics)
        return metrics


def _add_nested(metrics: dict[str, Any], nested: Any) -> None:  # noqa: ANN401  # JSON is any value
    if type(nested) is not dict:
        raise Reject("invalid_metric", f"metrics is {kind_of(nested)}, expected an object")
    for name, value in nested.items():
        if name in metrics:
            raise Reject("duplicate_key", f"metric {name[:40]!r} stands both in metrics and beside it")
        if type(value) in _SCALARS:
            metrics[name] = value
        elif value is not None:
            raise Reject(
                "invalid_metric",
                f"metric {name[:40]!r} is {kind_of(value)}, expected a number, boolean or string",
            )


def _made_key(stated_ts: str, region: str | None, encoded: bytes) -> str:
    """A key for a message without one: of its time and content, or without a time a fresh one."""
    if not stated_ts:
        return f"uuid:{uuid.uuid4()}"
    digest = hashlib.blake2b(f"{region}\x1f".encode() + encoded, digest_size=8)
    return f"auto:{stated_ts}:{digest.hexdigest()}"


def _check_magnitudes(metrics: dict[str, Any]) -> None:
    for name, value in metrics.items():
        if type(value) is float and abs(value) > _LARGEST:
            raise Reject("number_out_of_range", f"metric {name[:40]!r} is beyond ±{_LARGEST:g}")


def _rejection(
    delivery: Delivery, place: int, device_id: str | None, received: Received, reject: Reject
) -> Rejection:
    error = reject.detail if place < 0 else f"element {place}: {reject.detail}"
    payload = payload_of(delivery, place)
    return Rejection(received.text, delivery.topic, device_id, reject.reason, error, payload)


def _first(found: Any, item: dict[str, Any], names: tuple[str, ...]) -> Any:  # noqa: ANN401  # JSON is any value
    """Take the names out of the object; of the values that are not null the first counts."""
    for name in names:
        value = item.pop(name, None)
        if found is None:
            found = value
    return found


def _escaped(*values: str | None) -> str:
    """The values in COPY's text form; most need nothing of it."""
    return "\t".join(["\\N" if value is None else value.translate(_COPY_ESCAPES) for value in values])
