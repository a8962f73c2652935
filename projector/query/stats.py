"""What a view's hash says, as structs. Pure."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Final

import msgspec

from projector.fold import number_text

if TYPE_CHECKING:
    from collections.abc import Mapping

_OWN_FIELDS: Final = frozenset(
    {
        *(b"device_id", b"region", b"device_count"),
        *(b"last_seen", b"last_seen_ms", b"updated_at", b"updated_ms", b"sample_count"),
    }
)


class MetricStats(msgspec.Struct, frozen=True, gc=False):
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


class RegionStats(msgspec.Struct, frozen=True):
    """What is known of a region.

    Attributes:
        device_count: devices whose newest message with a region names this one.
        last_seen: device time of the newest message that names it, as for a device.
        sample_count: messages that name it.
    """

    region: str
    device_count: int
    last_seen: str
    last_seen_ms: int
    updated_at: str
    updated_ms: int
    sample_count: int
    metrics: dict[str, MetricStats]


def device_stats(fields: Mapping[bytes, bytes]) -> DeviceStats:
    """Read the hash of a device.

    Raises:
        KeyError: a field is missing.
        ValueError: a field holds something else.
    """
    region = fields.get(b"region")
    return DeviceStats(
        fields[b"device_id"].decode(),
        None if region is None else region.decode(),
        fields[b"last_seen"].decode(),
        int(fields[b"last_seen_ms"]),
        fields[b"updated_at"].decode(),
        int(fields[b"updated_ms"]),
        int(fields[b"sample_count"]),
        _metrics(fields),
    )


def region_stats(fields: Mapping[bytes, bytes]) -> RegionStats:
    """Read the hash of a region.

    Raises:
        KeyError: a field is missing.
        ValueError: a field holds something else.
    """
    return RegionStats(
        fields[b"region"].decode(),
        int(fields[b"device_count"]),
        fields[b"last_seen"].decode(),
        int(fields[b"last_seen_ms"]),
        fields[b"updated_at"].decode(),
        int(fields[b"updated_ms"]),
        int(fields[b"sample_count"]),
        _metrics(fields),
    )


def _metrics(fields: Mapping[bytes, bytes]) -> dict[str, MetricStats]:
    """Sort `<statistic>_<metric>` fields by metric."""
    names = {name.partition(b"_")[2] for name in fields if name not in _OWN_FIELDS}
    return {name.decode(): _metric(fields, name) for name in sorted(names)}


def _metric(fields: Mapping[bytes, bytes], name: bytes) -> MetricStats:
    last = None if b"last_" + name in _OWN_FIELDS else fields.get(b"last_" + name)
    text = None if last is None else last.decode()
    count = fields.get(b"count_" + name)
    if count is None:
        return MetricStats(text)
    return MetricStats(
        text if text is None else _number(text),
        float(fields[b"min_" + name]),
        float(fields[b"max_" + name]),
        float(fields[b"avg_" + name]),
        float(fields[b"sum_" + name]),
        int(count),
    )


def _number(text: str) -> float | str:
    """The last value of a metric that has been a number; by now it may be a string, even one like `1_0`."""
    try:
        value = float(text)
    except ValueError:
        return text
    return value if isfinite(value) and number_text(value) == text else text
