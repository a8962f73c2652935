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
from itertools import islice
from typing import TYPE_CHECKING, Final, NoReturn

import structlog

from projector.levels import LevelChange, Levels
from projector.names.book import Names
from projector.names.reader import Reader
from projector.outbox import Outbox, answering, queries
from projector.post import AT_ONCE
from projector.watch.arrivals import newest_arrivals
from projector.watch.book import Change
from projector.watch.care import Cares
from projector.watch.carer import Carer
from projector.watch.drift import RIGHT
from projector.watch.rows import Rows
from projector.watch.silence import TOLERANCE_S, Silence
from projector.watch.told import CLOCKS_TOLD, OFFLINE_TOLD, Told
from projector.watch.voice import Voice, text
from runtime.errors import Retry
from runtime.lifecycle import keep_trying, next_turn_s

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import asyncpg
    from redis.asyncio import Redis

    from contract.events import Event, EventBatch
    from projector.watch.drifts import ClockChange
    from projector.watch.gauges import Gauges
    from projector.watch.presences import PresenceChange
    from projector.watch.said import Watch
    from runtime.http import Health
    from runtime.mqtt import Session

TURN_S: Final = 1.0
HEARD_EVERY: Final = 3  # turns: what people say
WRITTEN_AGAIN: Final = 10  # turns: who is silent, should Redis have forgotten it
LOADED_AGAIN: Final = 60  # turns: a gateway writes a new device a moment after its messages
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
        tolerance_s: how wrong a device's clock may be.
        believes_claims: as for `Silence`.
        cares: what people have said of devices, for others who tell of them.
        names: what people say they are, for others who show them.
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
        tolerance_s: float = TOLERANCE_S,
        believes_claims: bool = False,
        cares: Cares | None = None,
        names: Names | None = None,
    ) -> None:
        self._cares = Cares() if cares is None else cares
        self._names = Names() if names is None else names
        self._told = Told(redis, prefix)
        self._clocks = Levels(redis, prefix, CLOCKS_TOLD)
        self._offline = Levels(redis, prefix, OFFLINE_TOLD)
        self._carer = Carer(redis, pool, prefix, self._cares)
        self._reader = Reader(redis, pool, prefix, self._names)
        self._pool = pool
        self._forget_after_s = forget_after_s
        self._health = health
        self._gauges = gauges
        self._watch = watch
        self._now = now
        self._tolerance_s = tolerance_s
        self._believes_claims = believes_claims
        self._silence = Silence(
            {}, tolerance_s=tolerance_s, believes_claims=believes_claims, cares=self._cares
        )
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
        self._claiming_clocks: list[ClockChange] = []
        self._claiming_presences: list[PresenceChange] = []
        self._voice = Voice(session, topic, gauges, self._names)

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
            await asyncio.sleep(next_turn_s(TURN_S))

    async def begin(self) -> None:
        """Begin with who is known to be silent, and whose clock is known to be wrong.

        Raises:
            Retry: Redis is away.
        """
        now = self._seconds()
        await self._told.forgive(now)
        known = await self._told.read(now)
        self._known = list(known.silent)
        self._begun = known.begun
        clocks, offline = await self._clocks.read(now), await self._offline.read(now)
        self._silence = Silence(
            known.silent,
            begun=known.begun,
            now=now,
            forget_after_s=self._forget_after_s,
            tolerance_s=self._tolerance_s,
            believes_claims=self._believes_claims,
            told_clocks={id_.decode(errors="replace"): told for id_, told in clocks.items()},
            told_offline={id_.decode(errors="replace"): told for id_, told in offline.items()},
            cares=self._cares,
            expected_s=self._names.expected_s,
        )

    async def load(self) -> None:
        """Learn of the devices that were heard before; goes on where it stopped.

        Raises:
            Retry: PostgreSQL is away.
        """
        await self._hear_people()
        await self._hear_names()
        await self._load_devices()
        while self._known:  # who has been silent for longer than that
            with answering():
                found = await self._pool.fetch(queries.regions_of_devices, self._known[-PAGE:])
            for device_id, region in found:
                self._silence.know(device_id, region)
            del self._known[-PAGE:]
        await self._load_presence()
        self._silence.all_known()
        await self._carer.find_returned(self._silence)
        self._cares.is_known = True

    async def _load_devices(self) -> None:
        since = _FOR_EVER
        if self._forget_after_s is not None:
            since = self._now() - timedelta(seconds=self._forget_after_s)
        while True:
            with answering():
                page = await self._pool.fetch(queries.watched_devices, self._loaded, PAGE, since)
            if not page:
                return
            for device_id, region in page:
                self._silence.know(device_id, region)
            self._loaded = page[-1]["device_id"]

    async def _load_again(self) -> None:
        """Learn of those whose first message came just before the start, and who were not written yet."""
        if not self._silence.is_full:  # or who was dropped meanwhile would drop others
            await self._load_devices()
        await self._load_presence()

    async def _load_presence(self) -> None:
        """Learn who is offline, and who is not any more of whom that was told."""
        after, told = "", self._silence.presences.told
        for first in range(0, len(told), PAGE):
            with answering():
                some = await self._pool.fetch(queries.presence_of_devices, told[first : first + PAGE])
            self._know_presence(some)
        while True:
            with answering():
                page = await self._pool.fetch(queries.offline_devices, after, PAGE)
            if not page:
                return
            self._know_presence(page)
            after = page[-1]["device_id"]

    def _know_presence(self, page: Sequence[asyncpg.Record]) -> None:
        for device_id, online, since, came in page:
            self._silence.know_presence(device_id, since, came, online=online)

    async def turn(self) -> None:
        """Hear what did not come by itself, decide, ask about a few devices, and tell of some changes."""
        await keep_trying("postgres", self._rows.catch_up, self._health)
        self._silence.turn(self._seconds())
        if self._silence.unsure:
            await keep_trying("postgres", self._ask, self._health)
        if self._turns % HEARD_EVERY == 0:
            await keep_trying("postgres", self._hear_people, self._health)
            await keep_trying("postgres", self._hear_names, self._health)
        self._turns += 1
        if self._turns % WRITTEN_AGAIN == 0:
            await self._write_again()
        if self._turns == LOADED_AGAIN:
            self._loaded = ""
            await keep_trying("postgres", self._load_again, self._health)
        await keep_trying("redis", self._carer.show, self._health)
        await keep_trying("redis", self._reader.show, self._health)
        if self._carer.untold and not self._voice.waiting:
            await keep_trying("postgres", self._tell_of_people, self._health)
        silence = self._silence
        pending = silence.pending or silence.drifts.pending or silence.presences.pending
        if (pending and self._voice.room) or silence.left or self._is_claiming or self._set_back:
            await keep_trying("redis", self._tell, self._health)
        await self._voice.speak()
        self._gauges.show(self._silence.counts, self._silence.unwatched)

    async def last_words(self) -> None:
        """Tell what has been claimed, once the watch is over; what the broker does not take is lost.

        Raises:
            Retry: Redis is away.
        """
        try:
            if self._is_claiming:
                await self._tell()
        finally:
            await self._voice.close()

    @property
    def _is_claiming(self) -> bool:
        return bool(self._claiming or self._claiming_clocks or self._claiming_presences)

    def _hear(self, stream: int, at: int, events: Iterable[Event]) -> None:
        if not self._silence.hear(stream, at, events):
            self._voice.warn("watch_begins_anew", reason="clock_set_back", stream=stream, at=text(at))
            self._set_back.append(at)
        self._gauges.heard(stream, at)

    def _expect(self, stream: int, at: int) -> None:
        self._silence.expect(stream, at)

    def _begin_anew(self, stream: int) -> None:
        self._voice.warn("watch_begins_anew", reason="rows_passed_over", stream=stream)
        self._silence.begin_anew(stream)

    async def _ask(self) -> None:
        asked = list(self._silence.unsure)[: self._questions]
        try:
            found = await newest_arrivals(self._pool, asked)
        except Retry:
            self._questions = max(1, self._questions // 2)
            raise
        self._questions = min(QUESTIONS, self._questions + 1)
        self._silence.learn(found, self._seconds())

    async def _hear_people(self) -> None:
        await self._carer.hear(self._silence, self._now())

    async def _hear_names(self) -> None:
        self._silence.expect_anew(await self._reader.hear())

    async def _tell_of_people(self) -> None:
        for care in await self._carer.claim(AT_ONCE):
            self._voice.care(care, self._silence.devices.get(care.device_id))

    async def _write_again(self) -> None:
        silence, drifts = self._silence, self._silence.drifts
        try:
            if await self._told.is_there():
                return
            again = [id_ for id_ in self._silent_ones() if id_ not in silence.pending]
            for device in map(silence.devices.__getitem__, again):
                what = (device.id, device.region, True, device.at, device.at, device.silence, None)
                silence.pending[device.id] = Change(*what, is_news=False, was_told=True)
            told = {
                id_: (each.drift.told, each.drift.since)
                for id_, each in drifts.wrong.items()
                if each.drift.told != RIGHT and id_ not in drifts.pending
            }
            await self._clocks.write(told)
            await self._offline.write(silence.presences.levels())
            await self._told.begin(self._begun)
        except Retry:
            return  # it is away, and asked again
        self._carer.show_again()
        self._reader.show_again()
        self._voice.warn("silence_written_again", reason="redis_forgot", devices=len(again))

    def _silent_ones(self) -> list[str]:
        return [id_ for id_ in self._silence.silent if self._silence.devices[id_].care is None]

    async def _tell(self) -> None:
        if self._claiming is None:
            while self._set_back:
                await self._told.forgive(self._set_back[0])
                del self._set_back[0]
            room = min(AT_ONCE, self._voice.room)
            changes = self._silence.take_pending(room)
            left = list(islice(self._silence.left, AT_ONCE))
            self._claiming = changes, left
            for id_ in left:
                del self._silence.left[id_]
            self._claiming_clocks = self._silence.drifts.take_pending(room - len(changes))
            room -= len(changes) + len(self._claiming_clocks)
            self._claiming_presences = self._silence.presences.take_pending(room)
        changes, left = self._claiming
        for change in await self._told.claim(changes, left):
            if change.is_news:
                self._voice.silence(change)
        self._claiming = [], left
        await self._clocks.leave(left)
        await self._offline.leave(left)
        clocks = self._claiming_clocks
        described = [
            LevelChange(each.device_id.encode(), each.level, each.at * 1_000_000, each.told)
            for each in clocks
        ]
        for each in await self._clocks.claim(clocks, described, self._seconds()):
            self._voice.clock(each, self._silence.devices.get(each.device_id))
        self._claiming_clocks = []
        said = self._claiming_presences
        described = [
            LevelChange(each.device_id.encode(), int(not each.online), each.since, int(each.was_told))
            for each in said
        ]
        for presence in await self._offline.claim(said, described, self._seconds()):
            if presence.is_news:
                self._voice.presence(presence, self._silence.devices.get(presence.device_id))
        self._claiming, self._claiming_presences = None, []

    def _seconds(self) -> int:
        return int(self._now().timestamp())
