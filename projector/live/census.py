"""Reads which devices there are, out of the sorted set, in pieces that Redis answers in a millisecond.

The first walk begins with those that have been silent for longest and goes on, for a part of each look, until
everybody is known. From then on a look reads one piece more of the next walk, which finds who has gone and
who came unnoticed, and the newest end when there are more devices than are known.
"""

from __future__ import annotations

import asyncio
from math import isfinite
from typing import TYPE_CHECKING, Final, cast

from projector.live.rows import text
from projector.views import answering

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from projector.live.roster import Roster
    from projector.views import Keys

PIECE: Final = 2000
ASKED: Final = 1000
FIRST_S: Final = 0.15  # somebody waits for the first frame
WALK_S: Final = 0.3
AGAIN_S: Final = 0.1  # looking for those who have gone


class Census:
    """Keeps a roster as the sorted set is.

    Attributes:
        total: devices that there are.
    """

    def __init__(self, redis: Redis, keys: Keys, roster: Roster) -> None:
        self._redis = redis
        self._keys = keys
        self._roster = roster
        self.total = 0
        self._place = 0
        self._walks = 0
        self._whole = False
        self._met: set[str] | None = None

    async def look(self) -> list[str]:
        """Read what a look may cost, and say whom the walk came by when everybody is known.

        Raises:
            Retry: Redis is away.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + (WALK_S if self._roster.seen else FIRST_S)
        with answering():
            self.total = await self._redis.zcard(self._keys.last_seen)
        new = self.total - len(self._roster.seen)
        if self._whole and new > PIECE:  # made anew, for instance
            self._whole, self._place = False, 0
        elif self._whole and new > 0:
            await self._read(-PIECE, -1)
        begun = not self._whole
        if not begun:
            until = loop.time() + AGAIN_S
            if self._met is None and self._gone:
                self._place = 0
        ids = await self._walk()
        while (self._gone or not self._whole) and loop.time() < until:
            await self._walk()
        return [] if begun else ids

    async def confirm(self, ids: list[str]) -> None:
        """Look at these devices; those that there are not any more are dropped.

        Raises:
            Retry: Redis is away.
        """
        for start in range(0, len(ids), ASKED):
            piece = ids[start : start + ASKED]
            with answering():
                scores = await self._redis.zmscore(self._keys.last_seen, piece)
            for id_, score in zip(piece, scores, strict=True):
                if score is None or not isfinite(score):
                    self._roster.drop(id_)
                else:
                    self._roster.note(id_)

    async def find(self, id_: str) -> bool:
        """Whether there is a device that is asked for by its name.

        Raises:
            Retry: Redis is away.
        """
        await self.confirm([id_])
        return id_ in self._roster.seen

    @property
    def _gone(self) -> bool:
        """Whether some that are known have gone."""
        return len(self._roster.seen) > self.total

    async def _walk(self) -> list[str]:
        if self._place == 0:
            self._met = set() if self._gone else None
        ids = await self._read(self._place, self._place + PIECE - 1)
        self._place += PIECE
        if self._place < self.total:
            return ids
        self._place = 0
        if self._met is not None:  # those that were passed by because they moved on are still there
            await self.confirm(list(self._roster.seen.keys() - self._met))
        self._walks += 1
        # Who moved on during the first walk may have been passed by; what is no time is never known.
        self._whole = self._walks > 1 or len(self._roster.seen) >= self.total
        return ids

    async def _read(self, first: int, last: int) -> list[str]:
        with answering():
            found = await self._redis.zrange(self._keys.last_seen, first, last, withscores=True)
        ids = []
        for raw, score in cast("list[tuple[bytes, float]]", found):
            if isfinite(score):
                ids.append(text(raw))
                self._roster.note(ids[-1])
        if self._met is not None:
            self._met.update(ids)
        return ids
