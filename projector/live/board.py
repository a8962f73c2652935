"""One look at everything that the page shows.

What is away is named under `problems`, and its part of the state stays as it was, with the time at which it
was so.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from projector.limits.beyond import Beyond
from projector.live.choices import Choice
from projector.live.fleet import Fleet
from projector.live.rates import Rate
from projector.live.regions import Regions
from projector.live.state import Device, Hot, Rates, State, Stream
from projector.live.truth import Truth, summary
from runtime.errors import Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    import asyncpg
    from redis.asyncio import Redis

    from projector.live.orders import Order
    from projector.live.state import AtSite, Letter, Message, Payload, Region, Row, Spark, Window
    from projector.meters import Meters
    from projector.query import Queries
    from projector.views import Keys
    from projector.watch.said import Watch
    from runtime.http import Health

_LETTERS_WITHIN_S: Final = 3.0
_VIEWS_WITHIN_S: Final = 6.0  # of a large fleet, on a machine that has much else to do
_RECENT_MS: Final = 60_000


class Board:
    """Looks at one set of views, at the meters of this process and at the dead letters.

    Args:
        queries: know whether the views are whole: a part of them is shown as little as none.
        health: names what is away.
        watch: says who is silent.
        now: the time.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        queries: Queries,
        meters: Meters,
        health: Health,
        watch: Watch,
        now: Callable[[], datetime],
    ) -> None:
        self._queries = queries
        self._meters = meters
        self._health = health
        self._now = now
        self._beyond = Beyond()
        self._truth = Truth()
        self._fleet = Fleet(redis, keys, watch)
        self._regions = Regions(redis, keys)
        self.forget()

    def use(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        """Ask PostgreSQL over this pool; before that it counts as away."""
        self._truth.use(pool)

    def use_limits(self, beyond: Beyond) -> None:
        """Show who is beyond these limits."""
        self._beyond = beyond

    def forget(self) -> None:
        """Nobody looks any more: keep nothing."""
        self._fleet.forget()
        self._regions.forget()
        self._rate = Rate()
        self._rates: dict[int, Rate] = {}
        self._letters: list[Letter] = []
        self._letters_at_ms: int | None = None
        self._at_site: dict[int, AtSite] = {}
        self._views_at_ms: int | None = None
        self._hot: list[Region] = []
        self._rows: dict[str, Row] = {}
        self._beyond_ids: frozenset[str] | None = None
        self._sparks: dict[str, Spark] = {}

    async def look(self) -> State:
        """See how things are now; never fails for what is away."""
        now_ms, at_s = self._now_ms(), time.monotonic()
        streams = self._streams(at_s)
        problems = self._health.reasons()
        self._beyond_ids = None
        for component, look, within_s in (
            ("postgres", self._look_at_letters, _LETTERS_WITHIN_S),
            ("redis", self._look_at_views, _VIEWS_WITHIN_S),
        ):
            try:
                async with asyncio.timeout(within_s):
                    await look(now_ms, at_s)
            except Retry as error:
                problems.setdefault(error.what, error.reason)
            except TimeoutError:
                problems.setdefault(component, f"no answer within {within_s:g} s")
        return State(
            at_ms=now_ms,
            views_at_ms=self._views_at_ms,
            letters_at_ms=self._letters_at_ms,
            problems=problems,
            rates=Rates(self._rate.per_s, self._rate.span_s, list(self._rate.series)),
            streams=[replace(each, at_site=self._at_site.get(each.stream)) for each in streams],
            regions=self._hot,
            devices=self._fleet.devices(),
            letters=summary(self._letters, self._letters_at_ms or now_ms),
            rows=self._rows,
            sparks=self._sparks,
            regions_total=self._regions.total,
            regions_dropped=self._queries.regions_dropped,
            metrics=self._fleet.columns.common,
            hot=Hot(*hot) if (hot := self._beyond.hot()) else None,
            beyond=self._beyond.of(self._rows),
        )

    async def window(
        self,
        part: str,
        region: str | None,
        start: int,
        count: int,
        *,
        tag: str | None = None,
        clock: bool = False,
        recent: bool = False,
        hot: bool = False,
        retired: bool = False,
        never_heard: bool = False,
        offline: bool = False,
        order: Order | None = None,
        metrics: Sequence[str] = (),
    ) -> Window:
        """Part of the device list, as it was ranked at the last look.

        Raises:
            Retry: Redis is away, or the views are not whole.
        """
        found = await self._fleet.window(
            Choice(
                *(part, region, tag, clock, recent, self._all_beyond() if hot else None),
                *(retired, never_heard, offline),
            ),
            start,
            count,
            self._now_ms(),
            order=order,
            metrics=metrics,
        )
        await self._queries.whole()
        return replace(found, beyond=self._beyond.of(row.id for row in found.rows))

    async def device(self, id_: str) -> Device:
        """One device, for its own page.

        Raises:
            Retry: Redis is away, or the views are not whole.
        """
        row, spark = await self._fleet.device(id_, self._now_ms())
        if row is None:
            await self._queries.whole()
        letters = [letter for letter in self._letters if letter.device == id_]
        return Device(row, spark, letters, self._beyond.of([id_]).get(id_, {}))

    async def message(self, id_: str) -> Message | None:
        """The newest message of a device as it is stored.

        Raises:
            Retry: PostgreSQL is away.
        """
        return await self._truth.message(id_)

    async def payload(self, letter: int) -> Payload | None:
        """The bytes of a dead letter.

        Raises:
            Retry: PostgreSQL is away.
        """
        return await self._truth.payload(letter)

    def _all_beyond(self) -> frozenset[str]:
        """The devices beyond a limit, one set for all who ask between two looks."""
        if self._beyond_ids is None:
            self._beyond_ids = self._beyond.ids()
        return self._beyond_ids

    def _now_ms(self) -> int:
        return int(self._now().timestamp() * 1000)

    def _streams(self, at_s: float) -> list[Stream]:
        meters = self._meters.streams
        self._rate.add(at_s, sum(each.events_total for each in meters.values()))
        streams = []
        for lag in self._meters.lag().streams:
            rate = self._rates.setdefault(lag.stream, Rate())
            rate.add(at_s, meters[lag.stream].events_total)
            streams.append(
                Stream(lag.stream, rate.per_s, lag.behind_rows, lag.behind_seconds, lag.lag_seconds)
            )
        return streams

    async def _look_at_letters(self, now_ms: int, _at_s: float) -> None:
        self._at_site = {}
        self._letters = await self._truth.letters()
        self._letters_at_ms = now_ms
        self._at_site = await self._truth.at_site()

    async def _look_at_views(self, now_ms: int, at_s: float) -> None:
        await self._queries.whole()
        read_ms = self._letters_at_ms or now_ms
        recent = (letter for letter in self._letters if read_ms - letter.at_ms < _RECENT_MS)
        await self._fleet.look(now_ms, recent)
        fleet = self._fleet
        self._hot = await self._regions.look(at_s, fleet.silent_by_region(), fleet.retired_by_region())
        rows = await self._fleet.rows(self._fleet.devices().order)
        self._sparks = await self._fleet.first_sparks(rows, now_ms)
        self._rows = {row.id: row for row in rows}
        self._views_at_ms = now_ms
