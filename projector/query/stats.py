"""What a view's hash says, as structs. Pure."""

from __future__ import annotations

from functools import lru_cache
from math import isfinite
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from projector.views.numbers import number_text

if TYPE_CHECKING:
    from collections.abc import Mapping

_OWN_FIELDS: Final = frozenset(
    {
        *(b"device_id", b"region", b"device_count"),
        *(b"last_seen", b"last_seen_ms", b"updated_at", b"updated_ms", b"sample_count"),
        *(b"clock_ahead_ms", b"metrics_dropped", b"online", b"online_since"),
    }
)
_TAG: Final = b"tag_"


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
        last_seen: device time of its newest message, but at most five minutes after that arrived, ISO 8601
            UTC; `last_seen_ms` is the same in epoch milliseconds.
        updated_at: when this view last changed, same forms.
        sample_count: messages.
        tags: of its newest message that has any.
        clock_ahead_ms: how far the device's clock was ahead in its newest message; null up to five minutes.
        metrics_dropped: metrics that have made room for others (`projector.max_metrics`).
        online: whether the device is, as messages say that are about that, such as wills, or that came since;
            null when none ever did.
        online_since: since when that is so, ISO 8601 UTC.
    """

    device_id: str
    region: str | None
    last_seen: str
    last_seen_ms: int
    updated_at: str
    updated_ms: int
    sample_count: int
    metrics: dict[str, MetricStats]
    tags: dict[str, str] = {}
    clock_ahead_ms: int | None = None
    metrics_dropped: int = 0
    online: bool | None = None
    online_since: str | None = None


class RegionStats(msgspec.Struct, frozen=True):
    """What is known of a region.

    Attributes:
        device_count: devices whose newest message with a region names this one, those that have expired too.
        last_seen: device time of the newest message that names it, as for a device.
        sample_count: messages that name it.
        metrics_dropped: as for a device.
    """

    region: str
    device_count: int
    last_seen: str
    last_seen_ms: int
    updated_at: str
    updated_ms: int
    sample_count: int
    metrics: dict[str, MetricStats]
    metrics_dropped: int = 0


def device_stats(fields: Mapping[bytes, bytes]) -> DeviceStats:
    """Read the hash of a device.

    Raises:
        KeyError: a field is missing.
        ValueError: a field holds something else.
    """
    region, ahead = fields.get(b"region"), fields.get(b"clock_ahead_ms")
    online, since = fields.get(b"online"), fields.get(b"online_since")
    return DeviceStats(
        fields[b"device_id"].decode(),
        None if region is None else region.decode(),
        fields[b"last_seen"].decode(),
        int(fields[b"last_seen_ms"]),
        fields[b"updated_at"].decode(),
        int(fields[b"updated_ms"]),
        int(fields[b"sample_count"]),
        _metrics(fields),
        {name[len(_TAG) :].decode(): fields[name].decode() for name in _tags(tuple(fields))},
        None if ahead is None else int(ahead),
        int(fields.get(b"metrics_dropped", 0)),
        None if online is None else online == b"true",
        None if since is None else since.decode(),
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
        int(fields.get(b"metrics_dropped", 0)),
    )


def _metrics(fields: Mapping[bytes, bytes]) -> dict[str, MetricStats]:
    """Sort `<statistic>_<metric>` fields by metric."""
    return {name: _metric(fields, names) for name, names in _layout(tuple(fields))}


class _Names(NamedTuple):
    """The fields of one metric."""

    last: bytes
    low: bytes
    high: bytes
    mean: bytes
    total: bytes
    values: bytes


@lru_cache(maxsize=1024)
def _tags(fields: tuple[bytes, ...]) -> list[bytes]:
    return sorted(field for field in fields if field.startswith(_TAG))


@lru_cache(maxsize=1024)
def _layout(fields: tuple[bytes, ...]) -> list[tuple[str, _Names]]:
    """The metrics in a hash with these fields, by name: few devices have others than their neighbours."""
    metrics = sorted(
        {
            field.partition(b"_")[2]
            for field in fields
            if field not in _OWN_FIELDS and not field.startswith(_TAG)
        }
    )
    prefixes = (b"last_", b"min_", b"max_", b"avg_", b"sum_", b"count_")
    return [(metric.decode(), _Names(*(prefix + metric for prefix in prefixes))) for metric in metrics]


def _metric(fields: Mapping[bytes, bytes], names: _Names) -> MetricStats:
    last = None if names.last in _OWN_FIELDS else fields.get(names.last)
    text = None if last is None else last.decode()
    if names.values not in fields:
        return MetricStats(text)
    return MetricStats(
        text if text is None else last_value(text, counted=True),
        float(fields[names.low]),
        float(fields[names.high]),
        float(fields[names.mean]),
        float(fields[names.total]),
        int(fields[names.values]),
    )


def last_value(text: str, *, counted: bool) -> float | str:
    """A last value as it was sent: a string stays one, also `1.10`, `007` and `nan`.

    Args:
        text: as the view has it.
        counted: whether the metric has ever been a number. By now it may be a string.
    """
    if not counted:
        return text
    try:
        value = float(text)
    except ValueError:
        return text
    return value if isfinite(value) and number_text(value) == text else text
