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

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from contract.events import format_time
from projector.history.minutes import MINUTE as MINUTE_TEXT
from projector.history.store import read_stands
from projector.lag import Freshness
from projector.outbox import queries
from projector.views.numbers import finite
from runtime.errors import Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import asyncpg

    from projector.history.memory import StreamMemory
    from projector.history.series import History
    from projector.history.store import Stand
    from runtime.postgres import Connection

MINUTE: Final = timedelta(minutes=1)
LENGTHS: Final = (timedelta(hours=24), timedelta(hours=1), timedelta(minutes=5))
RATE_OVER: Final = timedelta(minutes=10)  # what lies closer together tells little of an hour
_PARTS: Final = 2048  # of a sum, as in read_windows
KEPT_S: Final = 2.0  # an answer, for whoever else looks at the device
AT_ONCE: Final = 4000  # values out of memory: a few milliseconds
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
        until: the end of the minute under way, ISO 8601 UTC, where all windows end.
        since_24h: where that one begins; null when history is not kept that far back. The others likewise.
        metrics: those that its statistics have and that were ever a number.
        history: how current it is: what has not been written yet counts as there where this process has it.
    """

    device_id: str
    until: str
    since_24h: str | None
    since_1h: str | None
    since_5m: str | None
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
        if low < self.low:  # noqa: PLR1730  # there may be hundreds of thousands
            self.low = low
        if high > self.high:  # noqa: PLR1730  # likewise
            self.high = high

    @property
    def mean(self) -> float:
        return self.total / self.count * _PARTS

    def said(self) -> tuple[float | None, float | None, float | None, int]:
        return (self.mean, self.low, self.high, self.count) if self.count else (None, None, None, 0)


class _Metric:
    """A metric in each of the windows; of the hour also the first minute and the last."""

    def __init__(self) -> None:
        self.sums = [_Sum() for _ in LENGTHS]
        self.first: tuple[datetime, _Sum] | None = None
        self.last: tuple[datetime, _Sum] | None = None

    def of_minute(self, minute: datetime, count: int, total: float) -> None:
        if self.first is None or minute < self.first[0]:
            self.first = minute, _Sum()
        if self.last is None or minute > self.last[0]:
            self.last = minute, _Sum()
        for at, each in (self.first, self.last):
            if at == minute:
                each.add(count, total, inf, -inf)

    def said(self, kept: Sequence[bool]) -> MetricWindows:
        day, hour, five = (
            (each if whole else _Sum()).said() for each, whole in zip(self.sums, kept, strict=True)
        )
        return MetricWindows(*day, *hour, *five, self._rate() if kept[_HOUR] else None)

    def _rate(self) -> float | None:
        if self.first is None or self.last is None:
            return None
        (first, before), (last, after) = self.first, self.last
        if last - first < RATE_OVER:
            return None
        return (after.mean - before.mean) / ((last - first) / timedelta(hours=1))


class _Read(NamedTuple):
    """What was read at one instant.

    Attributes:
        stands: where streams stood.
        lacking: stream → when its first row was written that neither history nor memory had.
        kept: which windows are kept.
        rows: what history had.
    """

    stands: dict[int, Stand]
    lacking: dict[int, datetime]
    kept: list[bool]
    rows: list[asyncpg.Record]


class Windows:
    """Reads history, and the memory of a recorder once there is one (`use`).

    Whoever asks for what others have just asked for is given the same answer, and devices are asked for one
    after the other: so there is always a connection left for other questions to history.

    Args:
        now: the time at which windows end.
        kept_s: for how long an answer is kept.
    """

    def __init__(self, history: History, now: Callable[[], datetime], *, kept_s: float = KEPT_S) -> None:
        self._history = history
        self._now = now
        self._kept_s = kept_s
        self._memory: Callable[[int], StreamMemory | None] = lambda _: None
        self._one_by_one = asyncio.Semaphore()
        self._answers: dict[tuple[str, ...], asyncio.Task[DeviceWindows]] = {}

    def use(self, memory: Callable[[int], StreamMemory | None]) -> None:
        """Add what a recorder has in memory of a stream (`Recorder.memory`)."""
        self._memory = memory

    async def of(self, device_id: str, metrics: Sequence[str]) -> DeviceWindows:
        """Read these metrics of a device.

        Raises:
            Retry: PostgreSQL is away, or does not answer in time; or history is being made anew.
        """
        question = (device_id, *metrics)
        answer = self._answers.get(question)
        if answer is None:
            answer = asyncio.create_task(self._of(device_id, metrics), name="windows")
            self._answers[question] = answer
            answer.add_done_callback(partial(self._keep, question))
        return await asyncio.shield(answer)

    def _keep(self, question: tuple[str, ...], answer: asyncio.Task[DeviceWindows]) -> None:
        good = not answer.cancelled() and answer.exception() is None
        if good and self._kept_s:
            asyncio.get_running_loop().call_later(self._kept_s, self._answers.pop, question)
        else:
            del self._answers[question]

    async def _of(self, device_id: str, metrics: Sequence[str]) -> DeviceWindows:
        now = self._now()
        until = now.astimezone(UTC).replace(second=0, microsecond=0) + MINUTE
        since = [until - MINUTE - length for length in LENGTHS]
        for _ in range(_ATTEMPTS):
            read = await self._read(device_id, metrics, since, until)
            memories, all_fit = self._fitting(read.stands)  # from here on nothing is awaited
            if all_fit:
                break
        begin, end = (format_time(each)[:MINUTE_TEXT] for each in (since[0], until))
        late = [row for stream in memories.values() for row in stream.of_device(device_id, begin, end)]
        freshness = _freshness(read, memories, now)
        found = {metric: _Metric() for metric in metrics}
        _add_history(found, read.rows)
        await _add_memory(found, late, since)
        day, hour, five = (
            format_time(at) if kept else None for at, kept in zip(since, read.kept, strict=True)
        )
        return DeviceWindows(
            device_id,
            format_time(until),
            *(day, hour, five),
            {metric: each.said(read.kept) for metric, each in found.items()},
            freshness,
        )

    async def _read(
        self, device_id: str, metrics: Sequence[str], since: list[datetime], until: datetime
    ) -> _Read:
        hour = since[_HOUR].replace(minute=0)
        async with (
            self._history.asked(self._one_by_one) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            stands = await read_stands(connection)
            lacking = await self._lacking(connection, stands)
            kept = await connection.fetchval(queries.are_kept, since)
            rows = await connection.fetch(queries.read_windows, device_id, metrics, since, until, hour)
        return _Read(stands, lacking, kept, rows)

    async def _lacking(self, connection: Connection, stands: dict[int, Stand]) -> dict[int, datetime]:
        memories, _ = self._fitting(stands)
        ends = {number: _end(stand, memories.get(number)) for number, stand in stands.items()}
        behind = [number for number, end in ends.items() if stands[number].head > end]
        if not behind:
            return {}
        found = {
            row["stream"]: (row["n"], row["created_at"])
            for row in await connection.fetch(
                queries.first_rows_after, behind, [ends[number] for number in behind]
            )
        }
        if any(stands[number].cursor is None and found.get(number, (0,))[0] != 1 for number in behind):
            raise Retry("history", "it will be made anew from the measurements")
        return {number: written_at for number, (_, written_at) in found.items()}

    def _fitting(self, stands: dict[int, Stand]) -> tuple[dict[int, StreamMemory], bool]:
        """The memories that begin where history ended when it was read, and whether these are all."""
        there = {number: stream for number in stands if (stream := self._memory(number))}
        fitting = {
            number: stream
            for number, stream in there.items()
            if (stream.epoch, stream.cursor) == (stands[number].epoch, stands[number].cursor)
        }
        return fitting, len(fitting) == len(there)


def _end(stand: Stand, memory: StreamMemory | None) -> int:
    """The last row in history, and in memory when it goes on from there."""
    return memory.end if memory else stand.cursor or 0


def _add_history(found: dict[str, _Metric], rows: Iterable[asyncpg.Record]) -> None:
    for name, *values, first, last in rows:
        metric = found[name]
        for place, each in enumerate(metric.sums):
            count, *its = values[4 * place : 4 * place + 4]
            if count:
                each.add(count, *its)
        for minute in (first, last) if first != last else (first,):
            if minute:
                at, count, total = minute
                metric.of_minute(datetime.fromtimestamp(at, UTC), int(count), total)


async def _add_memory(
    found: dict[str, _Metric], rows: Iterable[tuple[str, tuple[str, ...], list[Any]]], since: list[datetime]
) -> None:
    done = 0
    for text, names, (_, count, *values) in rows:
        minute = datetime.fromisoformat(f"{text}Z")
        places = sum(minute >= begin for begin in since)
        for i, name in enumerate(names):
            if (metric := found.get(name)) is None:
                continue
            total, low, high = values[3 * i : 3 * i + 3]
            part = finite(total) / _PARTS
            for each in metric.sums[:places]:
                each.add(count, part, low + 0.0, high + 0.0)
            if places > _HOUR:
                metric.of_minute(minute, count, part)
        done += len(names)
        if done >= AT_ONCE:
            done = 0
            await asyncio.sleep(0)


def _freshness(read: _Read, memories: dict[int, StreamMemory], now: datetime) -> Freshness:
    behind_rows, behind_s = 0, 0.0
    for number, stand in read.stands.items():
        rows = stand.head - _end(stand, memories.get(number))
        if rows > 0 and (since := read.lacking.get(number)):
            behind_rows += rows
            behind_s = max(behind_s, (now - since).total_seconds())
    return Freshness(format_time(now), behind_rows, round(behind_s, 3))
