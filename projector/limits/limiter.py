"""Hears every row, and tells which devices are beyond limits and which are within again.

It follows from the newest row at its start, and reads what devices sent before from the views once these are
as far as that; until then nobody is told that anything is over that it has not heard of. What is in memory
can be lost: what was told stands in Redis (`told.py`), all else is learned again. Of several projectors each
hears everything.

A change is claimed in Redis, then logged and published; a projector that dies in between leaves it untold.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Final, Literal, NoReturn, cast

import structlog

from contract.changes import VERSION, LimitChange, encode_change
from contract.events import GATEWAY_STREAMS
from contract.topics import limits_topic
from projector.limits.beyond import text
from projector.limits.book import SECOND
from projector.limits.learn import Learner
from projector.limits.rules import OK, STATES, Rules
from projector.limits.states import Limits
from projector.limits.told import Told
from projector.outbox import Outbox
from projector.post import AT_ONCE, Post
from projector.watch.rows import PAGE_EVENTS, Rows
from runtime.lifecycle import keep_trying, next_turn_s
from runtime.logs import RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    import asyncpg
    from redis.asyncio import Redis

    from contract.events import Event, EventBatch
    from projector.limits.beyond import Beyond
    from projector.limits.book import Change
    from projector.limits.gauges import Gauges
    from projector.views import Keys
    from projector.watch.care import Care, Cares
    from runtime.http import Health
    from runtime.mqtt import Session
    from runtime.settings import Limit

TURN_S: Final = 1.0

log = structlog.get_logger()


class Limiter:
    """Watches the limits of one site. One that has none does nothing.

    Args:
        limits: what was set.
        session: publishes what is told.
        topic: the events topic, below which that of limits is.
        beyond: where to show what is beyond.
        forget_after_s: how long after its newest message came a device is forgotten; None for never.
        now: the time.
        cares: what people have said of devices. Nothing is told of any as long as that is not known.
    """

    def __init__(
        self,
        limits: Sequence[Limit],
        redis: Redis,
        pool: asyncpg.Pool[asyncpg.Record],
        session: Session,
        *,
        keys: Keys,
        topic: str,
        beyond: Beyond,
        forget_after_s: float | None = None,
        health: Health,
        gauges: Gauges,
        now: Callable[[], datetime],
        cares: Cares | None = None,
    ) -> None:
        self._rules = Rules(limits)
        self._told = Told(redis, keys.prefix)
        self._learner = Learner(redis, pool, keys)
        self._beyond = beyond
        self._health = health
        self._gauges = gauges
        self._now = now
        self._forget_after_s = forget_after_s
        self._cares = cares
        if cares is not None:
            cares.changed.append(self._take_care)
        self._limits = Limits(self._rules)
        self._is_begun = self._is_learned = False
        self._rows = Rows(
            Outbox(pool, "limits"),
            hear=self._hear,
            begin_anew=self._begin_anew,
            expect=self._expect,
            replays=True,
            page_events=PAGE_EVENTS // max(1, len(self._limits.groups)),
        )
        self._claiming: list[Change] | None = None
        self._warn = RateLimit(log.warning)
        self._say = RateLimit(log.info)
        self._post = Post(session, limits_topic(topic), lost=self._lose)

    def take(self, rows: Sequence[EventBatch]) -> None:
        """Take consecutive rows of one stream."""
        if self._rules:
            self._rows.take(rows)

    async def run(self) -> None:
        """Watch until cancelled; without limits it ends once it has told that what was beyond is over."""
        self._gauges.begin(self._rules)
        if not self._rules:
            self._beyond.use(self._limits)
            self._beyond.learned()
            await keep_trying("redis", self._end_all, self._health)
            return
        await keep_trying("redis", self.begin, self._health)
        await keep_trying("postgres", self._rows.catch_up, self._health)  # from here on
        await self._go_on()

    async def begin(self) -> None:
        """Begin with what was told.

        Raises:
            Retry: Redis is away.
        """
        known = await self._told.read(self._seconds())
        besides = () if self._cares is None else self._cares
        self._limits = Limits(self._rules, known, forget_after_s=self._forget_after_s, besides=besides)
        self._beyond.use(self._limits)

    async def _end_all(self) -> None:
        limits = Limits(self._rules, await self._told.read(self._seconds()))
        limits.all_learned(self._seconds())
        self._limits = limits
        is_published = True
        while self._claiming or limits.pending or not is_published:
            if is_published:
                await keep_trying("redis", self._tell, self._health)
            is_published = await self._post.publish()
            await asyncio.sleep(0 if is_published else TURN_S)
        self._warn.flush()
        self._say.flush()

    async def turn(self) -> None:
        """Hear what did not come by itself, decide, and tell of some changes."""
        await keep_trying("postgres", self._rows.catch_up, self._health)
        if not self._is_learned:
            await self._learn()
        self._limits.turn(self._seconds())
        if self._claiming or self._limits.left or (self._limits.pending and self._post.room):
            await keep_trying("redis", self._tell, self._health)
        await self._post.publish()
        if self._is_learned:  # a number that is not whole would end an alert, and begin it again
            self._gauges.show(self._limits.counts(), self._limits.no_room)
        self._warn.flush()
        self._say.flush()

    async def last_words(self) -> None:
        """Tell what has been claimed, once it is over; what the broker does not take is lost.

        Raises:
            Retry: Redis is away.
        """
        try:
            if self._claiming:
                await self._tell()
        finally:
            if self._cares is not None:
                self._cares.changed.remove(self._take_care)
            await self._post.close()
            self._warn.close()
            self._say.close()

    def _take_care(self, care: Care) -> None:
        self._limits.take_care(care.device_id, int(care.at.timestamp() * SECOND), holds=care.holds)

    @property
    def _are_cares_known(self) -> bool:
        return not self._rules or self._cares is None or self._cares.is_known

    async def _go_on(self) -> NoReturn:
        while True:
            await self.turn()
            await asyncio.sleep(next_turn_s(TURN_S))

    async def _learn(self) -> None:
        if not self._is_begun:
            await keep_trying("postgres", self._learner.begin, self._health)
            self._is_begun = True

        async def learn() -> None:
            self._is_learned = await self._learner.learn(self._limits)

        await keep_trying("redis", learn, self._health)
        if self._is_learned:
            self._limits.all_learned(self._seconds())
            self._beyond.learned()
            log.info("limits_begin", readings=len(self._limits), beyond=len(self._limits.beyond))

    def _hear(self, stream: int, at: int, events: Sequence[Event]) -> None:
        self._limits.hear(stream if stream < GATEWAY_STREAMS else None, at, events)

    def _expect(self, stream: int, at: int) -> None:
        if stream < GATEWAY_STREAMS:
            self._limits.expect(stream, at)

    def _begin_anew(self, stream: int) -> None:
        self._warn("limits_begin_anew", reason="rows_passed_over", stream=stream)
        self._is_begun = self._is_learned = False
        self._beyond.begin_anew()

    async def _tell(self) -> None:
        if self._claiming is None:
            room = min(AT_ONCE, self._post.room) if self._are_cares_known else 0
            self._claiming = self._limits.take_pending(room)
        if self._claiming:
            for change in await self._told.claim(self._claiming, self._seconds()):
                self._note(change)
        self._claiming = None
        left = list(islice(self._limits.left, AT_ONCE))
        await self._told.leave(left)
        for key in left:
            self._limits.left.pop(key, None)

    def _note(self, change: Change) -> None:
        device_id, metric, when = change.key
        state = STATES[change.level]
        tell = self._say if change.level == OK else self._warn
        tell(
            f"limit_{state}",
            device=device_id,
            region=change.region,
            metric=metric,
            value=change.value,
            limit=change.limit,
        )
        self._gauges.told(change)
        told = LimitChange(
            *(VERSION, device_id, change.region, metric, cast("Literal['above', 'below']", when), state),
            *(change.value, change.limit, text(change.at)),
            None if change.measured_at is None else text(change.measured_at),
        )
        self._post.add(encode_change(told))

    def _lose(self, changes: int, reason: str, detail: str) -> None:
        self._warn("limit_changes_lost", reason=reason, detail=detail, changes=changes)
        self._gauges.lost(changes)

    def _seconds(self) -> int:
        return int(self._now().timestamp())
