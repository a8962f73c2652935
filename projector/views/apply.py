"""The views in Redis, and the one way in which they change.

`Views.apply` adds a run to what it remembers of the views (`state.py`, `change.py`), and sets them to what
they then hold (`writes.py`, `setting.py`) by a script whose guard lets nothing through that does not follow.
Calling it again with the same run, after an answer that was lost, is harmless: the guard answers `duplicate`.

A run grows while it is worked out, by the rows that were there when it began, and by those that come
meanwhile for as long as it would pay to wait for them (`pace.linger_s`): the further the views are behind,
the more messages share what writing a device's view costs (`python -m bench.views`). Events are not kept for
that, only what they change. After one that failed, as it does when Redis has no room for so much, runs begin
small again, and each may have twice as many parts as the one before.

What is remembered is as Redis has it, or is nothing: it is forgotten when a write was refused, or its outcome
is not known, and each write leaves a version behind, by which the next is refused when somebody else has
written since.
"""

from __future__ import annotations

import asyncio
import contextlib
from importlib import resources
from itertools import chain
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias, cast
from uuid import uuid4

from redis.exceptions import NoPermissionError

from contract.events import format_time
from contract.views import UNFINISHED
from projector.views.change import Change, Lacking
from projector.views.pace import is_enough, linger_s
from projector.views.position import as_marks
from projector.views.read import READ, answering, in_calls, read_views
from projector.views.setting import Pieces, Setting
from projector.views.state import MOST_METRICS, REMEMBERED, Shelf
from projector.views.writes import Piece, pieces_of
from runtime.errors import Retry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from redis.asyncio import Redis

    from contract.events import Event, EventBatch
    from projector.views.position import Keys, Marks, Seen
    from projector.views.retired import Retired
    from projector.views.state import Wanted

Status = Literal["applied", "duplicate", "gap", "epoch", "lost", "stale"]

More: TypeAlias = "Callable[[int], Awaitable[tuple[Sequence[EventBatch], datetime]]]"
"""Gives some rows that follow a row, of the run's epoch, and the time then; no rows when none are there."""

ATTEMPTS: Final = 5
MOST_PARTS: Final = 1000  # of a run, which other bounds end before
AT_ONCE: Final = 4000  # metrics of events, and events, that are added before others have their turn: 20 ms
_GIVE_UP: Final = resources.files("projector.views").joinpath("give_up.lua").read_text(encoding="utf-8")
_KEEPS: Final = "noeviction"
_NOBODYS: Final = "?"  # a version that no set of views has


class Run(NamedTuple):
    """Consecutive outbox rows of one stream and epoch.

    Attributes:
        events: all that is in them.
        written_at: when the last of them was written, in the contract's form; empty when they are no rows.
        retired: what other events amount to.
        known: the last row known to be there when it began; None when that is all that will be given.
    """

    stream: int
    epoch: str
    first: int
    last: int
    events: Sequence[Event] = ()
    written_at: str = ""
    retired: Sequence[Retired] = ()
    known: int | None = None


class Outcome(NamedTuple):
    """What became of a run.

    Attributes:
        status: only with `applied` has anything changed. `duplicate`: the views had all of it. `gap`: its
            first row does not follow the cursor. `epoch`: the views hold another history of the stream, or
            are being replaced. `lost`: a view was gone, or a key that all have in common, and the set is
            marked as one to be made anew.
        cursor: the last row in the views now.
        key: that was gone, or of the view whose marks were.
    """

    status: Status
    cursor: int
    key: str = ""


class Views:
    """One set of views in Redis, and what is remembered of it; several may write to one set.

    Args:
        remember: how many metrics of devices at most, about, and of regions (`state.py`).
        most_metrics: of a view: beyond, those that came last the longest ago make room.
        dropped: called with how many have.

    Attributes:
        changed: how many views the last run has changed.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        remember: int = REMEMBERED,
        most_metrics: int = MOST_METRICS,
        dropped: Callable[[int], object] = bool,
    ) -> None:
        self._keys = keys
        self._redis = redis
        self._devices = Shelf(remember)
        self._regions = Shelf(remember)
        self._most_metrics = most_metrics
        self._dropped = dropped
        self._version = ""
        self._writer = uuid4().hex[:12]
        self._runs = 0
        self._most_parts = MOST_PARTS
        self._waiting = 0
        self._turn = asyncio.Lock()
        self._read = redis.register_script(READ)
        self._setting = Setting(redis, keys)
        self._settled = False
        self.changed = 0
        self._give_up = redis.register_script(_GIVE_UP)

    async def apply(self, run: Run, now: datetime, more: More | None = None) -> Outcome:
        """Apply a run: all of it or nothing. Of much, some is set a moment later (`setting.py`).

        Args:
            run: what to apply.
            now: goes into `updated_at` of every view that changes.
            more: gives rows that are made part of the run, as long as it does not change too much
                (`pace.is_enough`), or more than is remembered; the outcome says up to which they are in the
                views.

        Raises:
            Retry: Redis is away, out of memory, or a key of ours holds something that is not ours. Nothing
                is applied, unless the answer was lost, or a part could not be set, which comes first then.
        """
        async with self._next_turn():
            for attempt in range(ATTEMPTS):
                try:
                    outcome = await self._attempt(run, now, None if attempt else more)
                except BaseException:  # whether Redis has it, nobody knows
                    self._most_parts = 1
                    self._forget()
                    raise
                if outcome.status == "applied":
                    self._most_parts = min(2 * self._most_parts, MOST_PARTS)
                    return outcome
                self._forget()
                if outcome.status != "stale":
                    return outcome
        raise Retry("redis", f"others change the views beside {self._keys.cursor} all the time")

    async def settle(self) -> str:
        """Set what was staged of a run (`setting.py`) and has not been set, whoever applied it.

        Returns:
            The key of a view that is gone, or nothing.

        Raises:
            Retry: Redis is away, or a key of ours is something else.
        """
        async with self._turn:
            return await self._setting.settle()

    async def marks(self) -> Marks:
        """Read how far every stream has come.

        Raises:
            Retry: Redis is away or holds something else under our keys.
        """
        with answering():
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.hgetall(self._keys.cursor)
                pipeline.hgetall(self._keys.epoch)
                pipeline.exists(self._keys.last_seen)
                cursors, epochs, views = await pipeline.execute()
        return as_marks(cursors, epochs, views=bool(views))

    async def eviction(self) -> str | None:
        """The server's policy by which it may drop views when its memory is full.

        None when it drops nothing, or does not tell us.

        Raises:
            Retry: Redis is away.
        """
        with answering():
            try:
                policy = str((await self._redis.info("memory")).get("maxmemory_policy", _KEEPS))
            except NoPermissionError:
                return None
        return None if policy == _KEEPS else policy

    async def confirm(self, rows: Mapping[int, Seen]) -> None:
        """Note the last row of each stream that PostgreSQL was known to have when asked.

        Raises:
            Retry: Redis is away.
        """
        if rows:
            noted: list[str | int] = []
            for stream, row in rows.items():
                noted += (f"{stream}:confirmed", f"{row.n} {row.created_at}")
            with answering():
                await self._redis.hset(self._keys.epoch, items=noted)

    async def give_up(self, known: Mapping[int, int]) -> None:
        """Mark the set as one that no stream leads on from: nothing is applied to it until it is made anew.

        Args:
            known: stream → where its cursor was when that was found. If all have gone back since, the set
                has been made anew, and nothing is done.

        Raises:
            Retry: Redis is away.
        """
        with answering():
            await cast(
                "Awaitable[None]",
                self._give_up([self._keys.cursor, self._keys.epoch], [UNFINISHED, *chain(*known.items())]),
            )

    @contextlib.asynccontextmanager
    async def _next_turn(self) -> AsyncIterator[None]:
        self._waiting += 1
        try:
            await self._turn.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._turn.release()

    def _forget(self) -> None:
        self._settled = False
        self._devices.clear()
        self._regions.clear()

    async def _attempt(self, run: Run, now: datetime, more: More | None) -> Outcome:
        if not self._settled:
            if gone := await self._setting.settle():
                return Outcome("lost", run.first - 1, gone)
            self._settled = True
        devices, regions = self._devices, self._regions
        self._runs += 1
        devices.turn(self._runs)
        regions.turn(self._runs)
        clock = asyncio.get_running_loop().time
        begun = clock()
        change = Change(devices, regions, self._runs)
        lost = await self._add(change, run, run.events)
        if lost is None:
            return await self._refused(run, now)
        if run.retired:
            lacking = Lacking(devices, regions)
            lacking.merge(run.retired)
            lost_too = await self._learn(run, *lacking.wanted())
            if lost_too is None:
                return await self._refused(run, now)
            lost = lost or lost_too
            change.merge(run.retired)
        parts, added = 1, len(run.events)
        while more is not None and await self._goes_on(run, change, parts, added, clock() - begun):
            parts += 1
            rows, now = await more(run.last)
            if not rows:
                break
            last = rows[-1]
            events = list(chain.from_iterable(row.events for row in rows))
            added += len(events)
            run = run._replace(last=last.n, written_at=last.created_at, events=(), retired=())
            lost_too = await self._add(change, run, events)
            if lost_too is None:
                return Outcome("stale", run.first - 1)
            lost = lost or lost_too
        lost_too = await self._learn(run, [], change.left_unknown())
        if lost_too is None:
            return await self._refused(run, now)
        self.changed = len(change.devices) + len(change.regions)
        return await self._write(run, change, now, lost or lost_too)

    async def _goes_on(self, run: Run, change: Change, parts: int, events: int, seconds: float) -> bool:
        """Whether a run is to have another part, before which others have their turn."""
        is_more = run.known is None or run.last < run.known or _pays(change, events, seconds)
        if parts >= self._most_parts or not is_more:
            return False
        await asyncio.sleep(0)
        return not self._is_enough(run, change, seconds)

    def _is_enough(self, run: Run, change: Change, seconds: float) -> bool:
        rows, others = run.last - run.first + 1, self._waiting > 0
        is_full = self._devices.is_full or self._regions.is_full
        return is_full or is_enough(change.metrics, change.widest, rows, seconds, others=others)

    async def _add(self, change: Change, run: Run, events: Sequence[Event]) -> str | None:
        """Add a part of a run to what is remembered, and read what is not; returns what that does."""
        lost, added = "", 0
        for some in _portions(events):
            left = some
            while (done := change.add(left)) < len(left):
                added += done
                left = left[done:]
                lost_too = await self._learn(run, *await self._lacking(events[added:]))
                if lost_too is None:
                    return None
                lost = lost or lost_too
            added += done
            if added < len(events):
                await asyncio.sleep(0)
        return lost

    async def _lacking(self, events: Sequence[Event]) -> tuple[list[Wanted], list[Wanted]]:
        """What is to be read of devices and regions before these can be added."""
        lacking = Lacking(self._devices, self._regions)
        for some in _portions(events):
            lacking.add(some)
            await asyncio.sleep(0)
        return lacking.wanted()

    async def _write(self, run: Run, change: Change, now: datetime, lost: str) -> Outcome:
        pieces, dropped = Pieces(f"{self._writer}:{self._runs}"), 0
        times = format_time(now), str(int(now.timestamp() * 1000))
        for piece in pieces_of(change, self._keys, self._most_metrics):
            if pieces.count:
                await asyncio.sleep(0)
            if not await self._setting.add(pieces, piece.packed(*times)):
                return Outcome("stale", run.first - 1)
            dropped += piece.dropped
        outcome = await self._set(run, pieces, expected=self._version, lost=lost)
        if outcome.status == "applied" and dropped:
            self._dropped(dropped)
        return outcome

    async def _learn(self, run: Run, devices: list[Wanted], regions: list[Wanted]) -> str | None:
        """Read what is not remembered.

        Returns:
            The key of a view that should be there and is not, or nothing; None when the views are not those
            that are remembered, or the run does not follow: the guard says what of it.
        """
        lost = ""
        for some_devices, some_regions in in_calls(devices, regions):
            with answering():
                found = await read_views(self._read, self._keys, run, some_devices, some_regions)
            if not self._devices and not self._regions:
                self._version = found.version
            if found.version != self._version or not found.follows:
                return None
            for view in found.devices:
                self._devices.learn(view)
            for view in found.regions:
                self._regions.learn(view)
            lost = lost or found.lost
        return lost

    async def _refused(self, run: Run, now: datetime) -> Outcome:
        """What the guard says of a run for which nothing was worked out; it never is applied."""
        nothing = Pieces("")
        await self._setting.add(nothing, Piece().packed(format_time(now), ""))
        return await self._set(run, nothing, expected=_NOBODYS)

    async def _set(self, run: Run, pieces: Pieces, *, expected: str, lost: str = "") -> Outcome:
        status, cursor, text = await self._setting.write(run, pieces, expected=expected, lost=lost)
        if status in {"applied", "stale"}:
            self._version, text = text, ""
        if status == "applied" and pieces.count > 1 and (gone := await self._setting.settle()):
            status, text = "lost", gone
        return Outcome(cast("Status", status), cursor, text)


def _pays(change: Change, events: int, seconds: float) -> bool:
    """Whether a run that has taken so long is to take what came since it began, too."""
    return seconds < linger_s(events, len(change.devices) + len(change.regions), seconds)


def _portions(events: Sequence[Event]) -> Iterator[Sequence[Event]]:
    """Events in turn, as many at once as take a moment."""
    first = size = 0
    for at, event in enumerate(events):
        size += 1 + len(event.metrics)
        if size >= AT_ONCE:
            yield events[first : at + 1]
            first, size = at + 1, 0
    yield events[first:]
