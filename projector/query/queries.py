"""Asks one set of views in Redis. Every question is bounded, whatever the number of devices."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from importlib import resources
from inspect import isawaitable
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast

from projector.query.devices import Place
from projector.query.regions import NAMES, RegionNames
from projector.query.stats import DeviceStats, RegionStats, device_stats, region_stats
from projector.query.whole import why_not_whole
from projector.views import answering, as_marks
from runtime.errors import Retry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis
    from redis.asyncio.client import Pipeline

    from projector.lag import Lag
    from projector.query.devices import Selection
    from projector.views import Keys

LOOK: Final = 2000  # devices that a page looks at, at most: half a dozen milliseconds of Redis
CHOSEN: Final = 500  # devices that it reads, at most, to choose from by what is not in the views
NAMES_FOR_S: Final = 5.0
_WHOLE_FOR_S: Final = 0.5

S = TypeVar("S", DeviceStats, RegionStats)

_SCRIPT: Final = resources.files("projector.query").joinpath("devices.lua").read_text(encoding="utf-8")


class Devices(NamedTuple):
    """A page of devices.

    Attributes:
        after: the place from which the next page goes on; None when this was the last.
    """

    devices: list[DeviceStats]
    after: Place | None


class Regions(NamedTuple):
    """A page of regions.

    Attributes:
        after: the last region on it; None when this was the last page.
    """

    regions: list[RegionStats]
    after: str | None


class Queries:
    """Questions to one set of views. Each raises `Retry` when Redis is away or holds what is not ours.

    Args:
        lag: where the streams stand. With it a question to views that are not whole raises `Retry` too.

    Attributes:
        regions_dropped: how many regions had made room for others when last asked, with `lag`.
    """

    def __init__(self, redis: Redis, keys: Keys, *, lag: Callable[[], Lag] | None = None) -> None:
        self._redis = redis
        self._keys = keys
        self._lag = lag
        self._whole_until_s = 0.0
        self.regions_dropped = 0
        self._page = redis.register_script(_SCRIPT)
        self._region_names = RegionNames(redis, keys)
        self._sorted_names: list[bytes] = []
        self._names_until_s = 0.0
        self._reading_names = asyncio.Lock()

    async def whole(self) -> None:
        """Raise `Retry` unless what is not in the views does not exist."""
        if self._lag is not None:
            await self._all(lambda _: None)

    async def device(self, device_id: str) -> DeviceStats | None:
        """A device's statistics; None when there is no such device."""
        fields = await self._hash(self._keys.device(device_id))
        return _parse(device_stats, fields) if fields else None

    async def region(self, region: str) -> RegionStats | None:
        """A region's statistics; None when no message has named it."""
        fields = await self._hash(self._keys.region(region))
        return _parse(region_stats, fields) if fields else None

    async def devices(
        self,
        selection: Selection,
        *,
        limit: int,
        after: Place | None = None,
        fits: Callable[[str], bool] | None = None,
    ) -> Devices:
        """List devices, the longest silent first.

        A device that reports moves to the end of the order, so who goes on from page to page meanwhile may
        meet it again, but misses none.

        Args:
            selection: which ones.
            limit: devices on the page. There may be fewer and another page all the same, as one page looks
                at `LOOK` devices at most.
            after: where the page before ended.
            fits: which of these by their ids; such a page looks at `CHOSEN` of them at most.
        """
        most = limit if fits is None else max(limit, CHOSEN)
        filters = (selection.region, selection.metric, selection.above, selection.below)
        until = selection.last_seen_until_ms
        arguments: list[str | int | float] = [
            *(self._keys.devices, most, LOOK, "+inf" if until is None else until),
            *(after or ("", "")),
            *("" if each is None else each for each in filters),
            "" if selection.clock_ahead is None else int(selection.clock_ahead),
            "" if selection.online is None else str(selection.online).lower(),
            *chain.from_iterable(selection.tags.items()),
        ]
        score, last, hashes = await self._one(
            lambda pipeline: self._page([self._keys.last_seen], arguments, client=pipeline)
        )
        found = [_parse(device_stats, dict(zip(flat[::2], flat[1::2], strict=True))) for flat in hashes]
        end = Place(int(float(score)), last.decode()) if score else None
        if fits is not None:
            found = [each for each in found if fits(each.device_id)]
            if len(found) > limit:
                found = found[:limit]
                end = Place(found[-1].last_seen_ms, found[-1].device_id)
        return Devices(found, end)

    async def regions(self, *, limit: int, after: str | None = None) -> Regions:
        """List regions by name; all names are read for that, in pieces, and many are kept for `NAMES_FOR_S`.

        Args:
            limit: regions on the page.
            after: the last one of the page before.
        """
        async with self._reading_names:
            names = await self._names()
        first = 0 if after is None else bisect_right(names, after.encode())
        page = [name.decode() for name in names[first : first + limit]]

        def ask(pipeline: Pipeline) -> None:
            for name in page:
                pipeline.hgetall(self._keys.region(name))

        hashes: list[dict[bytes, bytes]] = await self._all(ask)
        return Regions(
            [_parse(region_stats, fields) for fields in hashes if fields],
            page[-1] if len(names) > first + limit else None,
        )

    async def _names(self) -> list[bytes]:
        """The names of all regions, in order."""
        if time.monotonic() >= self._names_until_s:
            found: set[bytes] = set()
            async for piece in self._region_names.pieces():
                found.update(piece)
            self._sorted_names = sorted(found)
            if len(found) > NAMES:
                self._names_until_s = time.monotonic() + NAMES_FOR_S
        return self._sorted_names

    async def _hash(self, key: str) -> dict[bytes, bytes]:
        """A view. One that is there is the old or the new one, should the set be about to be replaced.

        So for that, which is asked for most, it is enough that the set was whole a moment ago.
        """
        if self._lag is None or time.monotonic() < self._whole_until_s:
            with answering():
                found = await cast("Awaitable[dict[bytes, bytes]]", self._redis.hgetall(key))
            if found or self._lag is None:
                return found
        certain: dict[bytes, bytes] = await self._one(lambda pipeline: pipeline.hgetall(key))
        return certain

    async def _one(self, ask: Callable[[Pipeline], object]) -> Any:  # noqa: ANN401  # as was asked
        """The answer to one question."""
        (answer,) = await self._all(ask)
        return answer

    async def _all(self, ask: Callable[[Pipeline], object]) -> list[Any]:
        """The answers to the questions that `ask` puts."""
        with answering():
            async with self._redis.pipeline(transaction=self._lag is not None) as pipeline:
                if self._lag is not None:
                    pipeline.hgetall(self._keys.cursor)
                    pipeline.hgetall(self._keys.epoch)
                    pipeline.exists(self._keys.last_seen)
                maybe = ask(pipeline)
                if isawaitable(maybe):
                    await maybe  # a script is put into a pipeline by a coroutine
                answers = await pipeline.execute()
        if self._lag is not None:
            cursors, epochs, views, *answers = answers
            marks = as_marks(cursors, epochs, views=bool(views))
            self.regions_dropped = marks.regions_dropped
            if why := why_not_whole(marks, self._lag()):
                raise Retry("views", why)
            self._whole_until_s = time.monotonic() + _WHOLE_FOR_S
        return answers


def _parse(parse: Callable[[dict[bytes, bytes]], S], fields: dict[bytes, bytes]) -> S:
    try:
        return parse(fields)
    except (KeyError, ValueError) as error:
        raise Retry("redis", f"a view holds something that is not ours: {error!r}") from error
