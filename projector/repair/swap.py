"""Puts a replica in the place of the live views, in steps so short that readers of Redis do not notice them.

A set of views is a key a device, and Redis renames a hundred thousand keys in a second, during which it would
answer nobody. So they are renamed a few hundred at a time:

1. begin: the live set is marked as unfinished. The script that applies runs refuses such a set, so from here
   on nobody changes what is being replaced, and its cursors say nothing any more.
2. place: each view of the replica takes the place of the live one, devices first.
3. remove: what the live set has and the replica has not goes, views that appeared a moment ago among it:
   their rows come after the replica's cursors and will be applied again, and would be counted twice.
4. finish: marks, last-seen times, epochs and cursors of the replica take the place of the live ones, all at
   once; with the old epochs goes the mark of step 1, and nobody has expired any more.

What readers see: each view is whole, and is the old one until it is the new one. Between the first and the
last of them there are some of both. `devices:last_seen` and the cursors are the old ones until the last step.

Who dies on the way leaves a set that is marked as unfinished. Projectors find it as they find any set that
they cannot follow (`swap_unfinished`), and make it anew; its views stay readable until then. Each step is
guarded by the lock under which the replica was made, so one who was paused cannot go on when another has
taken over. It counts the steps too: a server of Redis that lacks some, as one may that took over from another
or was killed, does not take the next.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Final, cast

from projector.repair.replica import lock_key, lost, scan
from projector.views import answering
from runtime import faults

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterable

    from redis.asyncio import Redis

    from projector.repair.replica import Replica
    from projector.views import Keys

VIEWS_A_STEP: Final = 500  # two or three milliseconds of Redis

_SCRIPT: Final = resources.files("projector.repair").joinpath("swap.lua").read_text(encoding="utf-8")


class Swap:
    """Replaces the views under some keys.

    Args:
        keys: of the live views.
    """

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._script = redis.register_script(_SCRIPT)
        self._done = 0

    async def put_in_place(self, replica: Replica) -> int:
        """Put a replica in place, and return how many views it has.

        Raises:
            Retry: Redis is away, or the replica was lost; the live set may be unfinished.
        """
        live, new = self._keys, replica.keys
        kinds = (
            (new.devices, live.devices, new.device_marks),
            (new.regions, live.regions, new.region_marks),
        )
        self._done = 0
        cursors = [word for stream, at in replica.cursors.items() for word in (str(stream), str(at.n))]
        with answering():
            await self._step(replica, "begin", [new.cursor], cursors)
            expected = placed = 0
            for source, target, marks in kinds:
                expected += await self._redis.hlen(marks)
                async for ids in self._ids(marks):
                    names = [prefix + id_ for id_ in ids for prefix in (source.encode(), target.encode())]
                    placed += await self._step(replica, "place", names)
            if placed != expected:  # Redis has lost some of them
                raise lost()
            for _, target, marks in kinds:
                async for strays in self._strays(target, marks):
                    await self._step(replica, "remove", strays)
            pairs = [key for both in zip(new.fixed, live.fixed, strict=True) for key in both]
            await self._step(replica, "finish", pairs)
        return placed

    async def _step(
        self, replica: Replica, step: str, keys: Iterable[str | bytes], cursors: Iterable[str] = ()
    ) -> int:
        names = [lock_key(self._keys, "rebuild"), self._keys.epoch, *keys]
        arguments: list[bytes | int | str] = [replica.token, self._done, step, *cursors]
        renamed = int(await cast("Awaitable[int]", self._script(names, arguments)))
        if renamed < 0:
            raise lost()
        self._done += 1
        faults.point("swap")
        return renamed

    async def _ids(self, marks: str) -> AsyncIterator[list[bytes]]:
        """The ids of a kind of views; some may come twice."""
        cursor = 0
        while True:
            cursor, batch = await cast(
                "Awaitable[tuple[int, dict[bytes, bytes]]]",
                self._redis.hscan(marks, cursor, count=VIEWS_A_STEP),
            )
            ids = list(batch)
            for start in range(0, len(ids), VIEWS_A_STEP):  # a small hash comes whole, whatever was asked for
                yield ids[start : start + VIEWS_A_STEP]
            if not cursor:
                return

    async def _strays(self, prefix: str, marks: str) -> AsyncIterator[list[bytes]]:
        """Keys in the place of views that the replica knows nothing of."""
        skip = len(prefix.encode())
        async for batch in scan(self._redis, prefix):
            known = await cast(
                "Awaitable[list[bytes | None]]", self._redis.hmget(marks, [key[skip:] for key in batch])
            )
            if strays := [key for key, mark in zip(batch, known, strict=True) if mark is None]:
                yield strays
