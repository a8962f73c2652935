"""What is known of devices, by id: from PostgreSQL, and what projectors have told, from Redis.

So a list is there without a projector too, and is then as of when one told last. However many devices there
are, they are read in pages and shown as they come.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, cast

import msgspec

from projector.levels import ToldLevel, read_level
from projector.names.book import Known
from projector.outbox import queries
from projector.views import answering
from projector.watch.arrivals import newest_arrivals
from projector.watch.drift import CLOCKS
from projector.watch.pace import pauses_shown, usual_s
from projector.watch.told import BEGUN, CLOCKS_TOLD, SILENT
from runtime.terminal import safe, span

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    import asyncpg
    from redis.asyncio import Redis

    from projector.watch.book import State
    from projector.watch.drift import ClockState

Wanted = Literal["ok", "silent", "offline", "unknown", "muted", "retired", "never-heard", "clock-wrong"]

_PAGE: Final = 1000
_PACES: Final = 50
_MICROSECONDS: Final = 1_000_000


class Listed(msgspec.Struct, frozen=True):
    """A device.

    Attributes:
        state: `ok` is who was not told silent, `unknown` everybody as long as no projector has ever watched,
            `never-heard` who is in the registry and never sent, `offline` who said so itself.
        since: when its last message before it fell silent came, it went offline, or it was muted or retired;
            null of others, and when that is not known.
        until: when a mute ends by itself.
        by: who muted or retired it.
        usual_seconds: how long it usually pauses; null when that is not known, or was not asked.
        clock: what was told of it; null of one that is muted or retired, of which nothing is.
        clock_since: when a wrong one was found out.
        name: what people call it; null when nobody said.
        labels: what people have put on it.
        expected_seconds: how often people say it should send; then silence goes by that.
        blocked: whether nothing that it sends is let in.
        online: what it said of itself last, or showed by sending since; null when it never said.
        online_since: since when that is so.
    """

    device_id: str
    region: str | None
    state: State | Literal["never-heard"]
    since: datetime | None
    until: datetime | None
    by: str | None
    reason: str | None
    usual_seconds: int | None
    clock: ClockState | None
    clock_since: datetime | None
    name: str | None = None
    labels: dict[str, str] = {}
    expected_seconds: int | None = None
    blocked: bool = False
    online: bool | None = None
    online_since: datetime | None = None


class Selection(NamedTuple):
    """Which devices; what is empty is any."""

    states: Sequence[Wanted] = ()
    regions: Sequence[str] = ()
    prefix: str = ""


class Source(NamedTuple):
    """Where to read."""

    pool: asyncpg.Pool[asyncpg.Record]
    redis: Redis
    prefix: str


async def listed(source: Source, selection: Selection, *, paces: bool) -> AsyncIterator[Listed]:
    """The devices of a selection, by id.

    Args:
        source: where to read.
        selection: which.
        paces: whether to ask for the usual pause of each, which takes a millisecond or three.

    Raises:
        Retry: a server is away.
    """
    with answering():
        is_watched = bool(await source.redis.hexists(f"{source.prefix}{SILENT}", BEGUN))
    after = ""
    while True:
        page = await source.pool.fetch(
            queries.devices_listed, after, _PAGE, selection.prefix, list(selection.regions) or None
        )
        if not page:
            return
        after = page[-1]["device_id"]
        read = await _read(source, page, is_watched=is_watched)
        found = [each for each in read if _is_wanted(each, selection)]
        for first in range(0, len(found), _PACES):
            some = found[first : first + _PACES]
            if paces:
                arrivals = await newest_arrivals(source.pool, [each.device_id for each in some])
                usual = {id_: usual_s(pauses_shown(each)) for id_, each in arrivals.items()}
                some = [msgspec.structs.replace(each, usual_seconds=usual[each.device_id]) for each in some]
            for each in some:
                yield each


async def _read(source: Source, page: Sequence[asyncpg.Record], *, is_watched: bool) -> list[Listed]:
    ids = [record["device_id"] for record in page]
    with answering():
        async with source.redis.pipeline(transaction=False) as pipeline:
            pipeline.hmget(f"{source.prefix}{SILENT}", ids)
            pipeline.hmget(f"{source.prefix}{CLOCKS_TOLD}", ids)
            silent, clocks = cast("list[list[bytes | None]]", await pipeline.execute())
    return [
        _listed(record, told, clock, is_watched=is_watched)
        for record, told, clock in zip(page, silent, clocks, strict=True)
    ]


def _listed(record: asyncpg.Record, silent: bytes | None, clock: bytes | None, *, is_watched: bool) -> Listed:
    told = read_level(clock) or ToldLevel(0, 0)
    held = record["what"] is not None
    state: State | Literal["never-heard"]
    if record["never_heard"] and not held:
        state = "never-heard"
    else:
        quiet: State = "offline" if record["online"] is False else "silent" if silent else "ok"
        state = record["what"] or (quiet if is_watched or quiet != "ok" else "unknown")
    known = Known(record["name"], record["labels"] or "", record["expected_s"], record["blocked"])
    since = _moment(int(silent)) if silent and silent.isdigit() and int(silent) else None
    if state == "offline":
        since = record["online_since"]
    return Listed(
        record["device_id"],
        record["region"],
        state,
        record["since"] if held else since,
        record["until"],
        record["said_by"],
        record["reason"] or None,
        None,
        None if held or record["never_heard"] else CLOCKS[told.level],
        _moment(told.at // _MICROSECONDS) if told.level and not held else None,
        known.name,
        known.label,
        known.expected_s,
        known.blocked,
        record["online"],
        record["online_since"],
    )


def _is_wanted(device: Listed, selection: Selection) -> bool:
    wanted = selection.states
    return not wanted or device.state in wanted or ("clock-wrong" in wanted and device.clock in CLOCKS[1:])


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


COLUMNS: Final = (
    *("device", "region", "state", "since", "usual", "clock", "until", "by", "reason"),
    *("name", "every", "labels"),
)


def cells(device: Listed) -> tuple[str, ...]:
    """A device in `COLUMNS`; nothing that strangers wrote reaches a terminal unescaped."""
    return (
        safe(device.device_id),
        safe(device.region or "-"),
        device.state,
        _time(device.since),
        "-" if device.usual_seconds is None else span(device.usual_seconds),
        device.clock or "-",
        _time(device.until),
        safe(device.by or "-"),
        safe(device.reason or "-"),
        safe(device.name or "-"),
        "-" if device.expected_seconds is None else span(device.expected_seconds),
        safe(" ".join(f"{name}={value}" for name, value in sorted(device.labels.items())) or "-"),
    )


def _time(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
