"""Compares the live views with what PostgreSQL says that they must hold, while both go on.

The two never stand still together, so they are compared where they can be made to: at the cursors. A
replica is folded from one snapshot of PostgreSQL (`projector/repair/replica.py`). Then the live views are
read a page at a time, each page in one transaction together with the cursors of that instant. The replica
is moved forward to exactly those cursors, by the same rows and the same script, and its views of the same
names must be equal. Nobody but us moves the replica, so nothing has to be caught in flight. Live views that
are behind the replica are waited for; when they stand still there, they cannot be compared, and the error
says so.

What is compared: how many measurements there are of each settled day, which a rebuild would go by; and every
device and region that the replica, or any of the live keys, know of when their turn comes. The statistics of
a device that has expired are gone or have begun anew, so of it marks, region and last-seen time are compared;
and of a region that may be back, once some have made room for others, how many devices it has.
Nothing live is written, and Redis is held up for one page at a time.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from contract.views import PROJECTION
from projector.halts import mismatch
from projector.outbox import Outbox, Position
from projector.repair.compare import (
    Difference,
    Findings,
    compare,
    compare_marks,
    compare_member,
    of_dropped,
    of_expired,
    with_dropped,
    without_metrics,
)
from projector.repair.pages import families, known_ids, read_page
from projector.repair.replica import lock_key, lost, open_replica
from projector.views.state import MOST_METRICS
from runtime.errors import Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    import asyncpg
    from redis.asyncio import Redis

    from projector.repair.compare import View
    from projector.repair.pages import Family, Page
    from projector.repair.replica import Progress, Replica
    from projector.views import Keys, Marks

PAGE_VIEWS: Final = 250
STANDSTILL_S: Final = 30.0  # a run of a hundred thousand devices takes a slow machine twenty
_LOOK_S: Final = 0.1


class Verification(Findings):
    """What a verification found.

    Attributes:
        events: measurements folded from the snapshot, not counting those that retention has dropped.
        devices: compared; `regions` likewise.
        expired: devices among them that have left the views once, compared in part.
    """

    events: int = 0
    devices: int = 0
    regions: int = 0
    expired: int = 0


class Verifier:
    """Verifies one set of views.

    Args:
        pool: connections; two at once are enough.
        keys: of the live views.
        limit: how many differences to keep.
        most_metrics: of a view.
    """

    def __init__(
        self,
        redis: Redis,
        pool: asyncpg.Pool[asyncpg.Record],
        keys: Keys,
        now: Callable[[], datetime],
        *,
        limit: int,
        most_metrics: int = MOST_METRICS,
    ) -> None:
        self._redis = redis
        self._pool = pool
        self._keys = keys
        self._now = now
        self._limit = limit
        self._most_metrics = most_metrics
        self._outbox = Outbox(pool, PROJECTION)

    async def verify(self, folding: Progress, comparing: Progress) -> Verification:
        """Compare everything.

        Raises:
            AlreadyRunningError: a verification is under way.
            Stop: the views cannot be brought to one point with PostgreSQL; it says why.
            Retry: a server is away.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        result = Verification()
        async with open_replica(
            "verify", self._redis, self._pool, keys=self._keys, now=self._now, most_metrics=self._most_metrics
        ) as replica:
            await replica.build(folding, settled=False)
            result.events = replica.events
            for day, (read, settled) in replica.miscounted.items():
                wrong = Difference("differs", f"settled_days {day}", "measurements", str(read), str(settled))
                result.add(wrong, self._limit)
            devices, regions = zip(families(self._keys), families(replica.keys), strict=True)
            result.devices = await self._compare_all(*devices, replica, result, comparing)
            result.regions = await self._compare_all(*regions, replica, result, comparing)
            result.cursors = {stream: cursor.n for stream, cursor in sorted(replica.cursors.items())}
        result.seconds = round(loop.time() - started, 3)
        return result

    async def _compare_all(
        self, live: Family, right: Family, replica: Replica, result: Verification, progress: Progress
    ) -> int:
        ids: set[str] = set()
        for family in (live, right):
            async for batch in known_ids(self._redis, family):
                for raw in batch:
                    try:
                        ids.add(raw.decode())
                    except UnicodeDecodeError:
                        result.add(Difference("extra", f"{live.prefix}{raw!r}", None, None, ""), self._limit)
        in_order = sorted(ids)
        for i in range(0, len(in_order), PAGE_VIEWS):
            page = in_order[i : i + PAGE_VIEWS]
            differences, expired = await self._compare(live, right, page, replica)
            result.expired += expired
            for difference in differences:
                result.add(difference, self._limit)
            progress(result.devices + i + len(page), result.devices + len(in_order))
        return len(in_order)

    async def _compare(
        self, live: Family, right: Family, ids: list[str], replica: Replica
    ) -> tuple[list[Difference], int]:
        """What differs in some views, and how many of them have expired."""
        lock = lock_key(self._keys, "verify")
        found = await self._read_live(live, ids, replica, lock)
        for stream, cursor in found.cursors.items():
            await replica.advance(stream, cursor.n)
        expected = await read_page(self._redis, replica.keys, right, ids, lock)
        if expected.guard != replica.token or expected.cursors != replica.cursors:
            raise lost()
        partly = live.scores is None and found.cursors.regions_dropped > 0
        differences = [
            difference
            for id_, a, b in zip(ids, expected.views, found.views, strict=True)
            for difference in _differences(live, id_, *(of_dropped(a, b) if partly else (a, b)))
        ]
        return differences, sum(view.expired for view in found.views)

    async def _read_live(self, family: Family, ids: list[str], replica: Replica, lock: str) -> Page:
        """Read live views at cursors that the replica has not passed yet."""
        loop = asyncio.get_running_loop()
        seen: Marks | None = None
        since = loop.time()
        while True:
            page = await read_page(self._redis, self._keys, family, ids, lock)
            await self._check(page.cursors)
            at = {stream: page.cursors[stream].n for stream in replica.cursors}
            behind = [stream for stream, cursor in replica.cursors.items() if at[stream] < cursor.n]
            if not behind and not page.cursors.staged:
                return page
            if page.cursors != seen:
                seen, since = page.cursors, loop.time()
            elif loop.time() > since + STANDSTILL_S:
                where = "a run that is set in part"
                if behind:
                    stream = behind[0]
                    head = replica.cursors[stream].n
                    where = f"row {at[stream]} of stream {stream}, with {head} committed"
                raise Stop(
                    f"the views stand still at {where}: see that `projector run` runs and is ready, or "
                    f"make them anew with `projector rebuild`"
                )
            await asyncio.sleep(_LOOK_S)

    async def _check(self, marks: Marks) -> None:
        positions = await self._outbox.positions()
        for stream in sorted(marks.keys() | positions.keys()):
            if halt := mismatch(marks[stream], positions.get(stream, Position("", 0))):
                raise Stop(
                    f"stream {stream}: {halt}, so nothing can be compared: `projector rebuild` mends it"
                )


def _differences(family: Family, id_: str, expected: View, found: View) -> Iterator[Difference]:
    dropped = with_dropped(expected, found)
    yield from compare_marks(family.marks, id_, expected, found, metrics=not dropped)
    if found.expired:
        expected, found = of_expired(expected, found)
    elif dropped:
        expected, found = without_metrics(expected), without_metrics(found)
    yield from compare(family.prefix + id_, expected, found)
    if family.scores:
        yield from compare_member(family.scores, id_, _text(expected.score), _text(found.score))
    if family.ahead:
        yield from compare_member(family.ahead, id_, _text(expected.ahead), _text(found.ahead))


def _text(score: float | None) -> str | None:
    return None if score is None else f"{score:.17g}"
