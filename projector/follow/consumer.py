"""From the internal topic to one follower per stream, each kept told of what Redis and PostgreSQL hold.

A chunk is acknowledged as soon as its rows are with their followers, because the topic is only a hint: what
is lost between here and Redis is read from PostgreSQL. That is also why our session at the broker is
disposable. What is not believed (`belief`) brings the next look at PostgreSQL forward, four times a second at
most however much of it comes, and one line a minute.

Three watches run about once a second, each waiting for its own server when that is away. One reads the
cursors in Redis, so that views that were flushed or restored are noticed in quiet times too. One reads the
heads in PostgreSQL and reports our cursors there, which finds new streams and lost tails and lets the write
side trim the outbox. A third looks for streams that cannot be followed, and makes the views anew.

A cursor that was reported stays reported when Redis loses its views. That is right: rows up to it may be
trimmed, since a rebuild does not need them (`projector/repair/rebuild.py`), and those after it are kept.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Final, NoReturn

import structlog

from contract.topics import stream_of
from projector.follow.belief import REASONS, NotBelieved, read_row
from projector.follow.follower import Follower
from projector.follow.state import Asked, State
from projector.halts import MENDED_BY_REBUILD
from projector.outbox import Position
from projector.repair.replica import AlreadyRunningError
from projector.views import Cursor
from runtime.errors import Reject
from runtime.lifecycle import keep_trying, next_turn_s
from runtime.logs import RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from contract.events import EventBatch
    from projector.follow.state import Course
    from projector.meters import Meters
    from projector.outbox import Outbox
    from projector.repair.rebuild import Rebuilder
    from projector.views import Marks, Seen, Views
    from runtime.http import Health
    from runtime.mqtt import Chunk, Session

WATCH_S: Final = 1.0
HINTS_S: Final = 0.25
SUMMARY_S: Final = 10.0
SELDOM: Final = 10  # looks: at what is looked at as soon as there is reason to, and changes by hand otherwise

_MAY_EVICT: Final = "{} lets it drop statistics one by one: set maxmemory-policy noeviction"

log = structlog.get_logger()


class Consumer:
    """Follows every stream into one set of views.

    Args:
        session: subscribed to the topics of all streams.
        rebuilder: of the same views.
        now: the time, for `updated_at` and for lag.
        heard: told of rows as they come from the topic or are read, before the views are given them.
    """

    def __init__(
        self,
        session: Session,
        views: Views,
        outbox: Outbox,
        *,
        rebuilder: Rebuilder,
        health: Health,
        meters: Meters,
        now: Callable[[], datetime],
        heard: Callable[[list[EventBatch]], None],
    ) -> None:
        self._session = session
        self._views = views
        self._outbox = outbox
        self._rebuilder = rebuilder
        self._health = health
        self._meters = meters
        self._new_follower = partial(
            Follower, views=views, outbox=outbox, health=health, meters=meters, now=now, heard=heard
        )
        self._followers: dict[int, Follower] = {}
        self._told: dict[int, Seen] = {}
        self._warn = RateLimit(log.warning, lines=1, interval_s=60.0)
        for reason in REASONS:
            meters.not_believed.labels(reason)
        self._keys: dict[int, bytes] = {}
        self._epochs: dict[int, str] = {}  # of streams, when these were learned
        self._hinted = False
        self._looks, self._views_looks = count(), count()
        self._look, self._staged = asyncio.Event(), asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Follow until cancelled."""
        self._health.set("projector", "starting")
        self._health.watch("broker", self._session.status.why_not)
        async with asyncio.TaskGroup() as self._tasks:
            self._tasks.create_task(self._watch_views(), name="watch-views")
            self._tasks.create_task(self._watch_outbox(), name="watch-outbox")
            self._tasks.create_task(self._watch_halts(), name="watch-halts")
            self._tasks.create_task(self._settle(), name="settle")
            self._tasks.create_task(self._receive(), name="receive")
            self._tasks.create_task(self._summarise(), name="summary")

    async def report(self) -> None:
        """Tell the write side how far the views are.

        Raises:
            Retry: PostgreSQL is away.
        """
        await self._outbox.report(
            {
                stream: Cursor(course.cursor, course.epoch)
                for stream, course in self._courses()
                if course.cursor is not None and course.epoch is not None
            }
        )

    async def _receive(self) -> NoReturn:
        while True:
            self._take(await self._session.receive())

    def _take(self, chunk: Chunk) -> None:
        for delivery in chunk.deliveries:
            stream = stream_of(delivery.topic)
            if stream is None:
                continue
            follower = self._followers.get(stream)
            if follower is None:
                self._meters.unknown.inc()  # PostgreSQL will tell whether there is such a stream
                continue
            try:
                row = read_row(stream, delivery.payload, self._keys)
            except NotBelieved as error:
                self._meters.not_believed.labels(error.reason).inc()
                self._warn(
                    "topic_message_not_believed",
                    reason=error.reason,
                    stream=stream,
                    detail=str(error),
                    advice=REASONS[error.reason],
                )
                follower.hint()
                self._hinted = True
                self._look.set()
            else:
                follower.offer(row, len(delivery.payload))
        chunk.ack()

    async def _watch_views(self) -> NoReturn:
        while True:
            known = {stream: course.cursor for stream, course in self._courses()}
            marks = await keep_trying("redis", self._look_at_views, self._health)
            if marks.staged:
                self._staged.set()
            for stream in marks:
                self._follow(stream)
            for stream, follower in self._followers.items():
                follower.on_mark(marks[stream], known.get(stream))
            if any(course.state is State.UNCONFIRMED for _, course in self._courses()):
                self._look.set()
            self._warn.flush()
            await asyncio.sleep(next_turn_s(WATCH_S))

    async def _look_at_views(self) -> Marks:
        """Where the views stand; they are told which rows PostgreSQL has confirmed since the last time."""
        news = {
            stream: course.confirmed
            for stream, course in self._courses()
            if course.confirmed and course.confirmed != self._told.get(stream)
        }
        await self._views.confirm(news)
        self._told |= news
        if next(self._views_looks) % SELDOM == 0:
            policy = await self._views.eviction()
            self._health.set("redis eviction", policy and _MAY_EVICT.format(policy))
        return await self._views.marks()

    async def _settle(self) -> NoReturn:
        """Set what another projector, or the one before, has left."""
        while True:
            await self._staged.wait()
            self._staged.clear()
            if gone := await keep_trying("redis", self._views.settle, self._health):
                log.warning("view_lost", key=gone)

    async def _watch_outbox(self) -> NoReturn:
        while True:
            asked, positions, replaced = await keep_trying("postgres", self._look_at_outbox, self._health)
            self._meters.asked()
            for stream in positions:
                self._follow(stream)
            given_up = {}
            for stream, follower in self._followers.items():
                known, position = asked.get(stream, Asked()), positions.get(stream, Position("", 0))
                if follower.on_look(known, position, replaced=stream in replaced):
                    given_up[stream] = known.mark.n
            if given_up:
                log.warning("history_replaced", streams=list(given_up))
                await keep_trying("redis", partial(self._views.give_up, given_up), self._health)
            self._health.set("projector", None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(next_turn_s(WATCH_S)):
                    await self._look.wait()
            if self._hinted:
                await asyncio.sleep(HINTS_S)
                self._hinted, self._epochs = False, {}  # so keys are learned anew
            self._look.clear()

    async def _look_at_outbox(self) -> tuple[dict[int, Asked], dict[int, Position], set[int]]:
        """By stream what was asked and where it is; streams with other rows in place of those seen."""
        asked = {stream: course.asks() for stream, course in self._courses()}
        known = {stream: each for stream, each in asked.items() if each.cursor is not None}
        positions = await self._outbox.look({stream: each.cursor or 0 for stream, each in known.items()})
        replaced = await self._outbox.replaced({stream: each.seen for stream, each in known.items()})
        epochs = {stream: position.epoch for stream, position in positions.items()}
        is_known = epochs == self._epochs and epochs.keys() <= self._keys.keys()
        if not is_known or next(self._looks) % SELDOM == 0:
            await self._learn_keys()
            self._epochs = epochs
        await self.report()
        return asked, positions, replaced

    async def _learn_keys(self) -> None:
        try:
            self._keys = await self._outbox.keys()
        except Reject as error:
            self._keys = {}
            self._warn(
                error.reason,
                detail=error.detail,
                advice="GRANT SELECT ON stream_keys TO the projector's role; until then the outbox is read",
            )

    async def _watch_halts(self) -> NoReturn:
        while True:
            await asyncio.sleep(next_turn_s(WATCH_S))
            if not any(course.halt in MENDED_BY_REBUILD for _, course in self._courses()):
                self._health.set("views", None)
                continue
            self._health.set("views", "rebuilding")
            try:
                if await keep_trying("rebuild", self._mend, self._health):
                    self._meters.rebuilds.inc()
            except AlreadyRunningError:
                self._health.set("rebuild", None)
                self._health.set("views", "rebuilding, by another process")

    async def _mend(self) -> bool:
        return await self._rebuilder.mend(lambda _done, _estimate: None) is not None

    def _courses(self) -> list[tuple[int, Course]]:
        return [(stream, follower.course) for stream, follower in self._followers.items()]

    def _follow(self, stream: int) -> None:
        if stream in self._followers:
            return
        assert self._tasks is not None
        self._followers[stream] = self._new_follower(stream)
        self._tasks.create_task(self._followers[stream].run(), name=f"follow-{stream}")
        log.info("stream_found", stream=stream)

    async def _summarise(self) -> NoReturn:
        events = rows = 0
        loop = asyncio.get_running_loop()
        since = loop.time()
        while True:
            await asyncio.sleep(next_turn_s(SUMMARY_S))
            since, took_s = loop.time(), loop.time() - since
            streams = self._meters.streams.values()
            all_events, all_rows = sum(s.events_total for s in streams), sum(s.rows_total for s in streams)
            log.info(
                "summary",
                events_per_s=round((all_events - events) / took_s, 1),
                rows_per_s=round((all_rows - rows) / took_s, 1),
                events=all_events,
                lag_rows=sum(s.behind_rows for s in streams),
                lag_s=round(max((s.behind_s for s in streams), default=0.0), 3),
                waiting_for=self._health.reasons() or None,
            )
            events, rows = all_events, all_rows
