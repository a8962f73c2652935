"""The only place that knows what must hold of every reading, whatever format and mapping it came by.

Names and numbers within their limits, numbers finite, a device that the topic does not contradict, a time
that can be, an identity: what comes out of here can be stored, and told from any other. A message without a
key gets one made from its device time and content, `auto:…`; one that has neither key nor time gets `uuid:…`,
fresh at each delivery.
"""

from __future__ import annotations

import hashlib
import math
import uuid
from typing import TYPE_CHECKING, Any, Final

import msgspec

from contract.events import RawEvent, format_utc
from gateway.decode.names import INT64, check_device_id, check_key, check_metric, check_region
from gateway.decode.reading import Reading, Received
from gateway.decode.times import EARLIEST, check_time, parse_time
from runtime.errors import Reject

if TYPE_CHECKING:
    from datetime import timedelta

    from gateway.decode.mapping import Mapped
    from gateway.decode.routes import Matched

_MAX_METRICS: Final = 256
_KNOWN_LIMIT: Final = 100_000

_LARGEST: Final = 1e300  # a hundred million of them add up without overflow
_HUGE: Final = "e30"  # in the text of every double that large: cheaper to look for than to compare each
_NULL: Final = ":null"  # in the text of every number that is none

_encode = msgspec.json.Encoder(order="deterministic").encode
_COPY_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


class Assembler:
    """Makes readings; remembers regions and metric names that it has checked, up to a bound."""

    def __init__(self, *, max_ahead: timedelta) -> None:
        self._max_ahead = max_ahead
        self._regions: set[object] = set()
        self._metrics: set[str] = set()

    def assemble(self, mapped: Mapped, matched: Matched, received: Received, raw: bytes) -> Reading:
        """Make a reading of what a message says.

        Raises:
            Reject: something about it cannot be stored.
        """
        stated_device, key, time, stated_region, metrics = mapped
        device_id = _device_id(stated_device, matched)
        region = self._region(stated_region, matched)
        self._check_metrics(metrics)
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
        if _HUGE in text or _NULL in text:
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
        event = RawEvent(device_id, region, ts, received.text, key, msgspec.Raw(encoded))
        return Reading(event, identity, line if stated_ts else tail, line, keyed, matched.topic, raw)

    def _region(self, stated: object, matched: Matched) -> str | None:
        if stated is None:
            return matched.region
        if type(stated) is str and stated in self._regions:
            return stated
        region = check_region(stated)
        if len(self._regions) < _KNOWN_LIMIT:
            self._regions.add(region)
        return region

    def _check_metrics(self, metrics: dict[str, Any]) -> None:
        if len(metrics) > _MAX_METRICS:
            raise Reject(
                "invalid_metric", f"{len(metrics)} metrics in one message, allowed are {_MAX_METRICS}"
            )
        if int in map(type, metrics.values()):
            for name, value in metrics.items():
                if type(value) is int and not -INT64 <= value < INT64:
                    raise Reject("number_out_of_range", f"metric {name[:40]!r} is beyond a 64-bit integer")
        if not self._metrics.issuperset(metrics):
            for name in metrics:
                check_metric(name)
            if len(self._metrics) < _KNOWN_LIMIT:
                self._metrics.update(metrics)


def _device_id(stated: object, matched: Matched) -> str:
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


def _made_key(stated_ts: str, region: str | None, encoded: bytes) -> str:
    """A key for a message without one: of its time and content, or without a time a fresh one."""
    if not stated_ts:
        return f"uuid:{uuid.uuid4()}"
    digest = hashlib.blake2b(f"{region}\x1f".encode() + encoded, digest_size=8)
    return f"auto:{stated_ts}:{digest.hexdigest()}"


def _check_magnitudes(metrics: dict[str, Any]) -> None:
    for name, value in metrics.items():
        if type(value) is float and not abs(value) <= _LARGEST:
            what = f"beyond ±{_LARGEST:g}" if math.isfinite(value) else "not finite"
            raise Reject("number_out_of_range", f"metric {name[:40]!r} is {what}")


def _escaped(*values: str | None) -> str:
    """The values in COPY's text form; most need nothing of it."""
    return "\t".join(["\\N" if value is None else value.translate(_COPY_ESCAPES) for value in values])
