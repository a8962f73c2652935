"""Hears every row, and tells who has fallen silent and who is back.

It follows from the newest row at its start: a device that was not heard because nobody watched has its whole
period from the next row on. Nothing here is waited for by anybody, and what is in memory can be lost: who is
silent stands in Redis (`told.py`), all else is learned again. Of several projectors each watches.

A change is claimed in Redis, then logged and published; a projector that dies in between leaves it untold.
What the broker did not take is kept for the next turn, up to a number; beyond it nothing is claimed, and when
the projector stops it is told of as lost.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NoReturn

import structlog

from contract.changes import VERSION, DeviceChange, encode_change
from contract.events import format_time
from contract.topics import devices_topic
from projector.outbox import Outbox, answering, queries
from projector.post import AT_ONCE, Post
from projector.watch.book import Change
from projector.watch.pace import ARRIVALS
from projector.watch.rows import Rows
from projector.watch.silence import Silence
from projector.watch.told import Told
from runtime.errors import Retry
from runtime.lifecycle import keep_trying
from runtime.logs import RateLimit
from runtime.postgres import lent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import asyncpg
    from redis.asyncio import Redis

    from contract.events import Event, EventBatch
    from projector.watch.gauges import Gauges
    from projector.watch.said import Watch
    from runtime.http import Health
    from runtime.mqtt import Session

TURN_S: Final = 1.0
WRITTEN_AGAIN: Final = 10  # turns: who is silent, should Redis have forgotten it
PAGE: Final = 5000
QUESTIONS: Final = 50  # a turn; fewer as long as these take too long

_FOR_EVER: Final = datetime(1970, 1, 1, tzinfo=UTC)

log = structlog.get_logger()


class Watcher:
    """Watches the devices of one site.

    Args:
        session: publishes what is told.
        prefix: of the keys in Redis.
        topic: the events topic, below which that of devices is.
        forget_after_s: for how long a device is silent before it is not watched any more; None for ever.
        watch: answers for it once it has begun.
        now: the time, for what has to be known of it before the first row.
    """

    def __init__(
        self,
        redis: Redis,
        pool: asyncpg.Pool[asyncpg.Record],
        session: Session,
        *,
        prefix: str,
        topic: str,
        forget_after_s: float | None,
        health: Health,
        gauges: Gauges,
        watch: Watch,
        now: Callable[[], datetime],
    ) -> None:
        self._told = Told(redis, prefix)
        self._pool = pool
        self._forget_after_s = forget_after_s
        self._health = health
        self._gauges = gauges
        self._watch = watch
        self._now = now
        self._silence = Silence({})
        self._rows = Rows(
            Outbox(pool, "watch"),
            hear=self._hear,
            begin_anew=self._begin_anew,
            expect=self._expect,
        )
        self._loaded = ""
        self._known: list[str] = []
        self._begun = 0
        self._turns = 0
        self._questions = QUESTIONS
        self._set_back: list[int] = []
        self._claiming: tuple[list[Change], list[str]] | None = None
        self._warn = RateLimit(log.warning)
        self._say = RateLimit(log.info)
        self._post = Post(session, devices_topic(topic), lost=self._lose)

    def take(self, rows: Sequence[EventBatch]) -> None:
        """Take consecutive rows of one stream."""
        self._rows.take(rows)

    async def run(self) -> NoReturn:
        """Watch until cancelled."""
        await keep_trying("redis", self.begin, self._health)
        await keep_trying("postgres", self._rows.catch_up, self._health)  # from here on
        await keep_trying("postgres", self.load, self._health)
        self._watch.begins(self._silence)
        log.info("watch_begins", devices=len(self._silence.devices), silent=len(self._silence.silent))
        while True:
            await self.turn()
            await asyncio.sleep(TURN_S)

    async def begin(self) -> None:
        """Begin with who is known to be silent.

        Raises:
            Retry: Redis is away.
        """
        now = self._seconds()
        await self._told.forgive(now)
        known = await self._told.read(now)
        self._known = list(known.silent)
        self._begun = known.begun
        self._silence = Silence(known.silent, begun=known.begun, now=now, forget_after_s=self._forget_after_s)

    async def load(self) -> None:
        """Learn of the devices that were heard before; goes on where it stopped.

        Raises:
            Retry: PostgreSQL is away.
        """
        since = _FOR_EVER
        if self._forget_after_s is not None:
            since = self._now() - timedelta(seconds=self._forget_after_s)
        while True:
            with answering():
                page = await self._pool.fetch(queries.watched_devices, self._loaded, PAGE, since, self._known)
            if not page:
                break
            for device_id, region in page:
                self._silence.know(device_id, region)
            self._loaded = page[-1]["device_id"]
        self._known = []
        self._silence.all_known()

    async def turn(self) -> None:
        """Hear what did not come by itself, decide, ask about a few devices, and tell of some changes."""
        await keep_trying("postgres", self._rows.catch_up, self._health)
        self._silence.turn(self._seconds())
        if self._silence.unsure:
            await keep_trying("postgres", self._ask, self._health)
        self._turns += 1
        if self._turns % WRITTEN_AGAIN == 0:
            await self._write_again()
        is_told = self._silence.pending and self._post.room
        if is_told or self._silence.left or self._claiming or self._set_back:
            await keep_trying("redis", self._tell, self._health)
        await self._post.publish()
        self._gauges.show(self._silence.counts, self._silence.unwatched)
        self._warn.flush()
        self._say.flush()

    async def last_words(self) -> None:
        """Tell what has been claimed, once the watch is over; what the broker does not take is lost.

        Raises:
            Retry: Redis is away.
        """
        try:
            if self._claiming:
                await self._tell()
        finally:
            await self._post.close()
            self._warn.close()
            self._say.close()

    def _hear(self, stream: int, at: int, events: Iterable[Event]) -> None:
        if not self._silence.hear(stream, at, events):
            self._warn("watch_begins_anew", reason="clock_set_back", stream=stream, at=_time(at))
            self._set_back.append(at)
        self._gauges.heard(stream, at)

    def _expect(self, stream: int, at: int) -> None:
        self._silence.expect(stream, at)

    def _begin_anew(self, stream: int) -> None:
        self._warn("watch_begins_anew", reason="rows_passed_over", stream=stream)
        self._silence.begin_anew(stream)

    async def _ask(self) -> None:
        asked = list(self._silence.unsure)[: self._questions]
        try:
            with answering():
                async with lent(self._pool) as connection, connection.transaction(readonly=True):
                    await connection.execute(queries.walk_backwards)
                    records = await connection.fetch(queries.newest_arrivals, asked, ARRIVALS)
                    often = [each["device_id"] for each in records if _is_cut_short(each)]
                    if often:
                        records += await connection.fetch(queries.newest_minutes, often, ARRIVALS)
        except Retry:
            self._questions = max(1, self._questions // 2)
            raise
        self._questions = min(QUESTIONS, self._questions + 1)
        found = {record["device_id"]: record["arrivals"] or [] for record in records}
        self._silence.learn({id_: found.get(id_, []) for id_ in asked}, self._seconds())

    async def _write_again(self) -> None:
        try:
            if await self._told.is_there():
                return
            again = [id_ for id_ in self._silence.silent if id_ not in self._silence.pending]
            for device in map(self._silence.devices.__getitem__, again):
                what = (device.id, device.region, True, device.at, device.at, device.silence, None)
                self._silence.pending[device.id] = Change(*what, is_news=False, was_told=True)
            await self._told.begin(self._begun)
        except Retry:
            return  # it is away, and asked again
        self._warn("silence_written_again", reason="redis_forgot", devices=len(again))

    async def _tell(self) -> None:
        if self._claiming is None:
            while self._set_back:
                await self._told.forgive(self._set_back[0])
                del self._set_back[0]
            changes = self._silence.take_pending(min(AT_ONCE, self._post.room))
            self._claiming = changes, self._silence.left[:AT_ONCE]
            del self._silence.left[:AT_ONCE]
        claimed = await self._told.claim(*self._claiming)
        self._claiming = None
        for change in claimed:
            if change.is_news:
                self._note(change)

    def _note(self, change: Change) -> None:
        heard_at = _time(change.heard_at) if change.heard_at else None
        tell, event = (self._warn, "device_silent") if change.silent else (self._say, "device_back")
        tell(
            event,
            device=change.device_id,
            region=change.region,
            heard_at=heard_at,
            usual_s=change.usual_s,
        )
        self._gauges.told(change)
        told = DeviceChange(
            VERSION,
            change.device_id,
            change.region,
            "silent" if change.silent else "ok",
            _time(change.at),
            heard_at,
            change.usual_s,
        )
        self._post.add(encode_change(told))

    def _lose(self, changes: int, reason: str, detail: str) -> None:
        self._warn("device_changes_lost", reason=reason, detail=detail, changes=changes)
        self._gauges.lost(changes)

    def _seconds(self) -> int:
        return int(self._now().timestamp())


def _is_cut_short(record: asyncpg.Record) -> bool:
    """Whether there are more messages than were asked for, and these are of few minutes."""
    return record["messages"] == ARRIVALS and len(record["arrivals"]) < ARRIVALS // 2


def _time(at: int) -> str:
    return format_time(datetime.fromtimestamp(at, UTC))
