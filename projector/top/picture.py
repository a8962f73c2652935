"""What is shown: the newest look, with rates against the one before. Also what `--json` prints. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from contract.events import format_time

if TYPE_CHECKING:
    from projector.top.look import Look


class StreamLine(msgspec.Struct, frozen=True):
    """A stream. What only a running projector knows is null without one.

    Attributes:
        cursor: the last row in the views.
        head: the last row committed.
        lag_seconds: step → seconds, see `GET /lag`.
    """

    stream: int
    cursor: int
    rows_per_s: float | None
    head: int | None
    behind_rows: int | None
    behind_seconds: float | None
    lag_seconds: dict[str, float | None] | None


class RegionLine(msgspec.Struct, frozen=True):
    """A region; those with the most messages a second come first."""

    region: str
    devices: int
    messages: int
    messages_per_s: float | None


class DeviceLine(msgspec.Struct, frozen=True):
    """A device.

    Attributes:
        silent_s: since its newest reading, by the device's clock; negative when that is ahead.
        clock: `ahead` or `behind`, as the projector's watch has told; null when it is right.
        silent: whether the projector's watch calls it so.
        heard_s: since its last message came, of one that is silent; null when that is not known.
        muted: whether somebody has muted it.
        name: what people call it; null when nobody said.
        labels: what people have put on it.
        expected_seconds: how often people say it should send; null when nobody did.
        online: what it said of itself last, or showed by sending since; null when it never said.
        online_since: since when that is so.
    """

    device_id: str
    region: str | None
    last_seen_ms: int
    silent_s: float
    messages: int
    messages_per_s: float | None
    clock: str | None = None
    silent: bool = False
    heard_s: float | None = None
    muted: bool = False
    name: str | None = None
    labels: dict[str, str] = {}
    expected_seconds: int | None = None
    online: bool | None = None
    online_since: str | None = None


class Picture(msgspec.Struct, frozen=True):
    """One moment.

    Attributes:
        redis: why Redis does not answer; the rest is empty then.
        projector: why no projector answers; its part is null then.
        devices: that the views have, without those that are retired as far as a projector says so.
        silent: devices that are; null as long as no projector has ever watched.
        unknown: devices of which the projector does not know yet whether they are; null without one.
        events_per_s: events that the projector applied.
        clocks_wrong: devices whose clocks are; null without a projector.
        retired: devices that are out of service, which are not listed; likewise.
        offline: devices that said so themselves; none of them is silent; likewise.
        never_heard: devices that are in the registry and never sent, which are not listed; likewise.
        walked: how many devices the filter looked at, if there were more; else null.
        silent_walked: how many silent ones were looked at, likewise.
    """

    at: str
    redis: str | None = None
    projector: str | None = None
    devices: int = 0
    silent: int | None = None
    unknown: int | None = None
    clocks_wrong: int | None = None
    retired: int | None = None
    offline: int | None = None
    never_heard: int | None = None
    events_per_s: float | None = None
    streams: list[StreamLine] = []
    regions: list[RegionLine] = []
    listed: list[DeviceLine] = []
    walked: int | None = None
    silent_walked: int | None = None


def paint(look: Look, before: Look | None) -> Picture:
    """Make a picture of a look.

    Args:
        look: the newest.
        before: an earlier one; without it nothing has a rate.
    """
    seconds = look.clock_s - before.clock_s if before else 0.0

    def rate(now: int, then: int | None) -> float | None:
        """Per second; None when there is nothing to compare with, or when counting began anew."""
        return None if then is None or seconds <= 0 or now < then else round((now - then) / seconds, 2)

    messages = {region.region: region.sample_count for region in before.regions} if before else {}
    samples = {device.device_id: device.messages for device in before.devices} if before else {}
    now_ms = look.at.timestamp() * 1000
    regions = [
        RegionLine(r.region, r.device_count, r.sample_count, rate(r.sample_count, messages.get(r.region)))
        for r in look.regions
    ]
    devices = [
        DeviceLine(
            d.device_id,
            d.region,
            d.last_seen_ms,
            round((now_ms - d.last_seen_ms) / 1000, 1),
            d.messages,
            rate(d.messages, samples.get(d.device_id)),
            d.clock,
            d.silent_since_s is not None,
            round(now_ms / 1000 - d.silent_since_s, 1) if d.silent_since_s else None,
            d.is_muted,
            d.known.name,
            d.known.label,
            d.known.expected_s,
            d.online,
            d.online_since,
        )
        for d in look.devices
    ]
    events = _events(look)
    known = look.lag.devices if look.lag else None
    return Picture(
        at=format_time(look.at),
        projector=look.no_lag,
        devices=look.total - (known.retired if known else 0),
        silent=look.silent,
        unknown=_unknown(look),
        clocks_wrong=known.clock_wrong if known else None,
        retired=known.retired if known else None,
        offline=known.offline if known else None,
        never_heard=known.never_heard if known else None,
        events_per_s=None if events is None else rate(events, _events(before) if before else None),
        streams=[
            _stream(look, stream, rate(cursor.n, _cursor(before, stream)))
            for stream, cursor in sorted(look.cursors.items())
        ],
        regions=sorted(regions, key=lambda line: (-(line.messages_per_s or 0), -line.messages, line.region)),
        listed=devices,
        walked=look.walked,
        silent_walked=look.silent_walked,
    )


def _stream(look: Look, stream: int, rows_per_s: float | None) -> StreamLine:
    cursor = look.cursors[stream].n
    lag = next((lag for lag in look.lag.streams if lag.stream == stream), None) if look.lag else None
    if lag is None:
        return StreamLine(stream, cursor, rows_per_s, None, None, None, None)
    behind = max(0, lag.head - cursor)
    return StreamLine(
        stream, cursor, rows_per_s, max(lag.head, cursor), behind, lag.behind_seconds, lag.lag_seconds
    )


def _unknown(look: Look) -> int | None:
    if look.lag is None:
        return None
    known = look.lag.devices
    return (
        look.total
        if known is None
        else max(
            known.unknown,
            look.total - sum((known.ok, known.silent, known.offline, known.muted, known.retired)),
        )
    )


def _events(look: Look) -> int | None:
    return sum(stream.events for stream in look.lag.streams) if look.lag else None


def _cursor(look: Look | None, stream: int) -> int | None:
    return look.cursors[stream].n if look and stream in look.cursors else None
