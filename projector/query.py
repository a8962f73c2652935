"""Reads views: a hash of Redis in, a struct out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

import msgspec

from projector.views import answering

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from redis.asyncio import Redis

    from projector.views import Keys

_OWN_FIELDS: Final = frozenset(
    {"device_id", "region", "last_seen", "last_seen_ms", "updated_at", "updated_ms", "sample_count"}
)


class MetricStats(msgspec.Struct, frozen=True):
    """Statistics of one metric; a metric that never was a number has only `last`."""

    last: float | str | None = None
    min: float | None = None
    max: float | None = None
    avg: float | None = None
    sum: float | None = None
    count: int = 0


class DeviceStats(msgspec.Struct, frozen=True):
    """What is known of a device.

    Attributes:
        region: the one that its newest message with a region names.
        last_seen: device time of its newest message, ISO 8601 UTC; `last_seen_ms` is the same in epoch
            milliseconds.
        updated_at: when this view last changed, same forms.
        sample_count: messages.
    """

    device_id: str
    region: str | None
    last_seen: str
    last_seen_ms: int
    updated_at: str
    updated_ms: int
    sample_count: int
    metrics: dict[str, MetricStats]


class Queries:
    """Questions to one set of views."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def device(self, device_id: str) -> DeviceStats | None:
        """A device's statistics; None when there is no such device.

        Raises:
            Retry: Redis is away.
        """
        fields = await self._read(self._keys.device(device_id))
        if not fields:
            return None
        return DeviceStats(
            device_id=fields["device_id"],
            region=fields.get("region"),
            last_seen=fields["last_seen"],
            last_seen_ms=int(fields["last_seen_ms"]),
            updated_at=fields["updated_at"],
            updated_ms=int(fields["updated_ms"]),
            sample_count=int(fields["sample_count"]),
            metrics=_metrics(fields),
        )

    async def _read(self, key: str) -> dict[str, str]:
        with answering():
            raw = await cast("Awaitable[dict[bytes, bytes]]", self._redis.hgetall(key))
        return {name.decode(): value.decode() for name, value in raw.items()}


def _metrics(fields: dict[str, str]) -> dict[str, MetricStats]:
    """Sort `<statistic>_<metric>` fields by metric."""
    found: dict[str, dict[str, str]] = {}
    for name, value in fields.items():
        if name not in _OWN_FIELDS:
            statistic, _, metric = name.partition("_")
            found.setdefault(metric, {})[statistic] = value
    return {metric: _metric(found[metric]) for metric in sorted(found)}


def _metric(texts: dict[str, str]) -> MetricStats:
    last = texts.get("last")
    if "count" not in texts:
        return MetricStats(last=last)
    return MetricStats(
        last=_number(last) if last is not None else None,
        min=float(texts["min"]),
        max=float(texts["max"]),
        avg=float(texts["avg"]),
        sum=float(texts["sum"]),
        count=int(texts["count"]),
    )


def _number(text: str) -> float | str:
    """The last value of a metric that has been a number; it may be a string by now."""
    try:
        return float(text)
    except ValueError:
        return text
