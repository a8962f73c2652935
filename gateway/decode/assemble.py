"""The only place that knows what must hold of every reading, whatever format and mapping it came by.

Names and numbers within their limits, numbers finite, a device that the topic does not contradict, a time
that can be, an identity: what comes out of here can be stored, and told from any other.

Identity is the device and the message key, with the topic wherever the topic says more than the device
(`routes.Matched.scope`). A message without a key gets one made of its topic, its device time and its bytes,
`auto:…`; without a key and a time to rely on it gets `uuid:…`, fresh at each delivery. What must be equal for
two messages of one identity to be the same is all of their bytes (`Reading.content`).
"""

from __future__ import annotations

import hashlib
import math
from os import urandom
from typing import TYPE_CHECKING, Any, Final

import msgspec

from contract.events import RawEvent, format_utc
from gateway.decode.fields import NoNumber
from gateway.decode.known import Names
from gateway.decode.names import (
    CLAIMED,
    INT64,
    MAX_KEY,
    MAX_TAG,
    check_device_id,
    check_key,
    check_region,
    kind_of,
    metric_fault,
)
from gateway.decode.reading import COPY_ESCAPES, Reading, Received
from gateway.decode.times import EARLIEST, check_time
from runtime.errors import Reject

if TYPE_CHECKING:
    from datetime import datetime

    from gateway.decode.fields import Unfit
    from gateway.decode.known import Room
    from gateway.decode.limits import Limits
    from gateway.decode.mapping import Mapped
    from gateway.decode.plan import Plan
    from gateway.decode.routes import Matched

_NAMES_BYTES: Final = 16_000_000

_LARGEST: Final = 1e300  # a hundred million of them add up without overflow
_HUGE: Final = "e30"  # in the text of every double that large: cheaper to look for than to compare each
_NULL: Final = ":null"  # in the text of every number that is none
_NUL: Final = "\\u0000"  # in the text of every string that PostgreSQL's text cannot hold

_encode = msgspec.json.Encoder(order="deterministic").encode


class Assembler:
    """Makes readings; remembers regions and metric names that it has checked, up to a bound.

    Args:
        limits: bound what a reading may hold.
        room: bounds what one message costs.
    """

    def __init__(self, limits: Limits, room: Room) -> None:
        self._room = room
        self._limits = limits
        self._regions = Names(_NAMES_BYTES)
        self._metrics = Names(_NAMES_BYTES)

    def assemble(  # noqa: C901, PLR0912  # step by step, without a call for each: every message comes by
        self,
        mapped: Mapped,
        matched: Matched,
        received: Received,
        raw: bytes,
        unfit: Unfit,
        *,
        number: str = "",
        digest: str = "",
        online: bool | None = None,
    ) -> Reading:
        """Make a reading of what a message says.

        Args:
            mapped: what it says.
            matched: what its topic says.
            received: gives it its time of arrival.
            raw: its bytes as they came.
            unfit: takes fields that cannot be stored.
            number: of the readings that have the same bytes.
            digest: of these bytes.
            online: what the message says of its device.

        Raises:
            Reject: it cannot be stored.
        """
        stated_device, key, time, region, metrics, integers = mapped
        device_id, plan = matched.device_id, matched.plan
        if stated_device is not None or device_id is None:
            device_id = _device_id(stated_device, device_id)
        if region is None:
            region = matched.region
        elif type(region) is not str or region not in self._regions.seen:
            region = self._region(region, matched, unfit)
        if len(metrics) > self._limits.max_metrics or not self._metrics.seen.issuperset(metrics):
            metrics = self._sift(metrics, unfit)
        encoded = _encode(metrics)
        text = encoded.decode()
        suspicious = _HUGE in text or _NULL in text
        if integers:
            for value in metrics.values():
                if type(value) is int and not -INT64 <= value < INT64:
                    suspicious = True
        if suspicious or ("\\" in text and _NUL in text):
            metrics = self._sift(metrics, unfit)
            encoded = _encode(metrics)
            text = encoded.decode()
        if key is None and time is None and not metrics:
            raise Reject("empty_message", "no key, no time and no metric: nothing to store")

        ts = arrived = received.next()
        stated, tags, tags_line = "", matched.tags, matched.tags_line
        if time is not None:
            moment = self._moment(time, plan, received.at, device_id)
            if moment is not None:
                ts = stated = format_utc(moment)
            else:
                tags, tags_line = _claimed(time, matched, unfit)

        keyed, plain = key is not None, True
        if not keyed:
            key = _made_key(stated, matched.topic, digest.encode() if digest else raw, number)
        elif type(key) is not str or not key.isprintable() or not 0 < len(key) <= MAX_KEY:
            key = check_key(key)
            plain = key.isprintable()
        identity = f"{matched.scope}{device_id}\x1f{key}"
        if plan.timed:
            identity = f"{identity}\x1f{stated or time}"
        tail = f"{device_id}\t{key}\t{region or ''}\t{text}"
        if "\\" in tail or not plain:
            tail = _escaped(device_id, key, region, text)
        elif region is None:
            tail = f"{device_id}\t{key}\t\\N\t{text}"
        event = RawEvent(device_id, region, ts, arrived, key, msgspec.Raw(encoded), tags, online)
        line = f"{ts}\t{tail}\t{tags_line}\t{arrived}\n"
        return Reading(event, identity, line, keyed, matched.topic, raw, digest)

    def _region(self, stated: object, matched: Matched, unfit: Unfit) -> str | None:
        if stated == "":
            return matched.region
        try:
            region = check_region(stated)
        except Reject as reject:
            unfit.add("region", reject.reason, reject.detail)
            return matched.region
        self._regions.add(region)
        return region

    def _moment(self, time: object, plan: Plan, arrived: datetime, device_id: str) -> datetime | None:
        """Device time; None when it is not to be relied on."""
        if plan.clock == "received":
            return None
        try:
            moment = plan.read_time(time, arrived, device_id)
            if not EARLIEST <= moment <= arrived:
                check_time(moment, arrived, self._limits.max_ahead)
        except Reject:
            if plan.clock == "device":
                raise
            return None
        return moment

    def _sift(self, metrics: dict[str, Any], unfit: Unfit) -> dict[str, Any]:
        """The metrics that can be stored; integers beyond 64 bits as their digits."""
        kept: dict[str, Any] = {}
        limits = self._limits
        self._room.spend(2 * len(metrics))
        for name, value in metrics.items():
            kind, reason = type(value), "invalid_metric"
            fault = metric_fault(name, limits.max_metric_name)
            if kind is int and not -INT64 <= value < INT64:
                value = str(value)  # noqa: PLW2901  # readers of JSON do not agree on such numbers
            elif kind is float and not abs(value) <= _LARGEST:
                reason = "number_out_of_range"
                what = f"beyond ±{_LARGEST:g}" if math.isfinite(value) else "not finite"
                fault = f"metric {name[:40]!r} is {what}"
            elif kind is str and "\x00" in value:
                reason, fault = "invalid_string", f"metric {name[:40]!r} contains NUL"
            elif len(kept) == limits.max_metrics:
                fault = (
                    f"{len(metrics)} metrics in one message, gateway.max_metrics allows {limits.max_metrics}"
                )
            if fault:
                unfit.add(name, reason, fault)
            else:
                kept[name] = value
                self._metrics.add(name)
        return kept


def _device_id(stated: object, device_id: str | None) -> str:
    if device_id is None:
        if stated is None:
            raise Reject("invalid_device_id", "neither the topic nor the payload names the device")
        return check_device_id(stated)
    if stated != device_id and not (type(stated) is int and str(stated) == device_id):
        kind = kind_of(stated)
        raise Reject(
            "device_mismatch", f"payload says device {str(stated)[:40]!r} ({kind}), the topic {device_id!r}"
        )
    return device_id


def _claimed(time: object, matched: Matched, unfit: Unfit) -> tuple[dict[str, str] | None, str]:
    """The topic's tags and a device time that is not relied on, in JSON where it is no text."""
    plain = isinstance(time, (str, NoNumber))
    text = str(time) if plain else msgspec.json.encode(time, enc_hook=str).decode()
    if len(text) <= MAX_TAG:
        return matched.with_tag(CLAIMED, text)
    unfit.add(CLAIMED, "invalid_time", f"time has {len(text)} characters, {CLAIMED} keeps {MAX_TAG} at most")
    return matched.tags, matched.tags_line


def _made_key(stated_ts: str, topic: str, raw: bytes, number: str) -> str:
    """A key for a message without one: of its time, topic and bytes, or without a time a fresh one."""
    if not stated_ts:
        return f"uuid:{_fresh()}"
    digest = hashlib.blake2b(f"{topic}\x1f{number}".encode() + raw, digest_size=8)
    return f"auto:{stated_ts}:{digest.hexdigest()}"


def _fresh() -> str:
    """A UUID of version 4 (RFC 9562 §5.4), in a third of the time that the library takes."""
    digits = urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def _escaped(*values: str | None) -> str:
    """The values in COPY's text form; most need nothing of it."""
    return "\t".join(["\\N" if value is None else value.translate(COPY_ESCAPES) for value in values])
