"""What a device measured lately: windows that end now, out of history and of what is still in memory.

A window of five minutes is the minute under way and the five before it, by the times that readings claim, and
so on: it slides by minutes, and is as long as its name says and up to a minute longer. What claims to be of a
later minute is in none.

History has a minute when that is over (`memory.py`), so what has come since is added from the recorder of
this process. Both are parts of one whole only as long as memory begins at the row where what was read of
history ends, and that is looked at: where another projector has just moved on, a stream's news are left out
for a second rather than counted twice. What the answer lacks it says.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from contract.events import format_time
from projector.history.store import Stand
from projector.lag import Freshness
from projector.outbox import queries
from runtime.errors import Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import asyncpg

    from projector.history.memory import StreamMemory
    from projector.history.series import History

MINUTE: Final = timedelta(minutes=1)
LENGTHS: Final = (timedelta(hours=24), timedelta(hours=1), timedelta(minutes=5))
RATE_OVER: Final = timedelta(minutes=10)  # what lies closer together tells little of an hour
_PARTS: Final = 2048  # of a sum, as in read_windows
_ATTEMPTS: Final = 2
_HOUR: Final = 1  # its place among the lengths


class MetricWindows(msgspec.Struct, frozen=True, gc=False):
    """A metric in the last 24 hours, hour and five minutes: mean, extremes, and how many values there were.

    Attributes:
        rate_1h: by how much it changed an hour: from the mean of the first minute of the last hour in which
            there is a value to that of the last one, over the time between them. Null when that is less than
            ten minutes. A counter that was set back has fallen.

    All of a window is null, and its count 0, when it has no value, or begins before what history keeps.
    """

    avg_24h: float | None = None
    min_24h: float | None = None
    max_24h: float | None = None
    count_24h: int = 0
    avg_1h: float | None = None
    min_1h: float | None = None
    max_1h: float | None = None
    count_1h: int = 0
    avg_5m: float | None = None
    min_5m: float | None = None
    max_5m: float | None = None
    count_5m: int = 0
    rate_1h: float | None = None


class DeviceWindows(msgspec.Struct, frozen=True):
    """A device's metrics lately, by the minutes of its readings.

    Attributes:
        until: the end of the minute under way, ISO 8601 UTC, where all windows end; `since_…` likewise.
        metrics: those that its statistics have and that were ever a number.
        history: how current it is: what has not been written yet counts as there where this process has it.
    """

    device_id: str
    until: str
    since_24h: str
    since_1h: str
    since_5m: str
    metrics: dict[str, MetricWindows]
    history: Freshness


class _Sum:
    """What some values amount to; `total` is a part of their sum."""

    __slots__ = ("count", "high", "low", "total")

    def __init__(self) -> None:
        self.count, self.total, self.low, self.high = 0, 0.0, inf, -inf

    def add(self, count: int, total: float, low: float, high: float) -> None:
        self.count += count
        self.total += total
        self.low = min(self.low, low)
        self.high = max(self.high, high)

    @property
    def mean(self) -> float:
        return self.total / self.count * _PARTS

    def said(self) -> tuple[float | None, float | None, float | None, int]:
        return (self.mean, self.low, self.high, self.count) if self.count else (None, None, None, 0)


class _Metric:
    """A metric in each of the windows; of the hour also minutes, the first and the last among them."""

    def __init__(self) -> None:
        self.sums = [_Sum() for _ in LENGTHS]
        self.minutes: dict[datetime, _Sum] = {}

    def of_minute(self, minute: datetime, count: int, total: float) -> None:
        self.minutes.setdefault(minute, _Sum()).add(count, total, inf, -inf)

    def said(self, kept: Sequence[bool]) -> MetricWindows:
        day, hour, five = (
            (each if whole else _Sum()).said() for each, whole in zip(self.sums, kept, strict=True)
        )
        return MetricWindows(*day, *hour, *five, self._rate() if kept[_HOUR] else None)

    def _rate(self) -> float | None:
        if not self.minutes:
            return None
        first, last = min(self.minutes), max(self.minutes)
        if last - first < RATE_OVER:
            return None
        return (self.minutes[last].mean - self.minutes[first].mean) / ((last - first) / timedelta(hours=1))


class _Read(NamedTuple):
    """What was read at one instant: where streams stood, which windows are kept, and what history had."""

    stands: dict[int, Stand]
    kept: list[bool]
    rows: list[asyncpg.Record]


class Windows:
    """Reads history, and the memory of a recorder once there is one (`use`).

    Args:
        now: the time at which windows end.
    """

    def __init__(self, history: History, now: Callable[[], datetime]) -> None:
        self._history = history
        self._now = now
        self._memory: Callable[[int], StreamMemory | None] = lambda _: None

    def use(self, memory: Callable[[int], StreamMemory | None]) -> None:
        """Add what a recorder has in memory of a stream (`Recorder.memory`)."""
        self._memory = memory

    async def of(self, device_id: str, metrics: Sequence[str]) -> DeviceWindows:
        """Read these metrics of a device.

        Raises:
            Retry: PostgreSQL is away, or does not answer in time; or history is being made anew.
        """
        now = self._now()
        until = now.astimezone(UTC).replace(second=0, microsecond=0) + MINUTE
        since = [until - MINUTE - length for length in LENGTHS]
        for _ in range(_ATTEMPTS):
            read = await self._read(device_id, metrics, since, until)
            memories, all_fit = self._fitting(read.stands)  # from here on nothing is awaited
            if all_fit:
                break
        found = {metric: _Metric() for metric in metrics}
        _add_history(found, read.rows)
        for stream in memories.values():
            _add_memory(found, stream.of_device(device_id), since, until)
        return DeviceWindows(
            device_id,
            format_time(until),
            *(format_time(since[0]), format_time(since[1]), format_time(since[2])),
            {metric: each.said(read.kept) for metric, each in found.items()},
            _freshness(read.stands, memories, now),
        )

    async def _read(
        self, device_id: str, metrics: Sequence[str], since: list[datetime], until: datetime
    ) -> _Read:
        hour = since[_HOUR].replace(minute=0)
        async with (
            self._history.asked() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            stands = {
                row["stream"]: Stand(row["epoch"], row["head"], row["n"], row["waiting_since"])
                for row in await connection.fetch(queries.look_at_history)
            }
            kept = await connection.fetchval(queries.are_kept, since)
            rows = await connection.fetch(queries.read_windows, device_id, metrics, since, until, hour)
        if any(each.head and each.cursor is None for each in stands.values()):
            raise Retry("history", "it will be made anew from the measurements")
        return _Read(stands, kept, rows)

    def _fitting(self, stands: dict[int, Stand]) -> tuple[dict[int, StreamMemory], bool]:
        """The memories that begin where history ended when it was read, and whether these are all."""
        there = {number: stream for number in stands if (stream := self._memory(number))}
        fitting = {
            number: stream
            for number, stream in there.items()
            if (stream.epoch, stream.cursor) == (stands[number].epoch, stands[number].cursor)
        }
        return fitting, len(fitting) == len(there)


def _add_history(found: dict[str, _Metric], rows: Iterable[asyncpg.Record]) -> None:
    for row in rows:
        metric, place = found[row["metric"]], row["nth"] - 1
        metric.sums[place].add(row["count"], row["sum"], row["min"], row["max"])
        if place == _HOUR:
            metric.of_minute(row["first"], row["first_count"], row["first_sum"])
            if row["last"] != row["first"]:
                metric.of_minute(row["last"], row["last_count"], row["last_sum"])


def _add_memory(
    found: dict[str, _Metric],
    rows: Iterable[tuple[str, str, int, float, float, float]],
    since: list[datetime],
    until: datetime,
) -> None:
    for name, at, count, total, low, high in rows:
        minute, metric = datetime.fromisoformat(at), found.get(name)
        if metric is None or minute >= until:
            continue
        for place, begin in enumerate(since):
            if minute >= begin:
                metric.sums[place].add(count, total / _PARTS, low, high)
        if minute >= since[_HOUR]:
            metric.of_minute(minute, count, total / _PARTS)


def _freshness(stands: dict[int, Stand], memories: dict[int, StreamMemory], now: datetime) -> Freshness:
    behind_rows, behind_s = 0, 0.0
    for number, stand in stands.items():
        stream = memories.get(number)
        lacking = stand.head - (stream.end if stream else stand.cursor or 0)
        since = stream.end_at if stream and stream.end_at else stand.waiting_since
        if lacking > 0 and since:
            behind_rows += lacking
            behind_s = max(behind_s, (now - since).total_seconds())
    return Freshness(format_time(now), behind_rows, round(behind_s, 3))
