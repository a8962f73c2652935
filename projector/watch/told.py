"""Who is known to be silent, in Redis: whoever writes a change there first tells of it, once.

`projector:silent` is a hash, device → when its last message came, epoch seconds. Several projectors come to
the same conclusions; each change is claimed by one command that only the first finds something to do for. So
it is told at most once, a restart tells nothing again, and what happened meanwhile is told then. The field
without a name says since when there has been a watch at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, cast

from projector.views import answering

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from projector.watch.silence import Change

_BEGUN: Final = ""
_PAGE: Final = 1000


class Known(NamedTuple):
    """Device → when its last message came, of the silent ones; and whether nobody has watched before."""

    silent: dict[str, int]
    begins: bool


class Told:
    """The changes that have been told of one site.

    Args:
        prefix: goes before the key.
    """

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self.key = f"{prefix}projector:silent"

    async def read(self, now: int) -> Known:
        """Who is known to be silent.

        Raises:
            Retry: Redis is away.
        """
        silent: dict[str, int] = {}
        with answering():
            begins = bool(await self._redis.hsetnx(self.key, _BEGUN, str(now)))
            async for field, value in self._redis.hscan_iter(self.key, count=_PAGE):
                if field and value.isdigit():
                    silent[field.decode(errors="replace")] = int(value)
        return Known(silent, begins)

    async def claim(self, changes: Sequence[Change], left: Sequence[str]) -> list[Change]:
        """Write changes, and forget who is not watched any more; returns those that nobody has told of.

        Raises:
            Retry: Redis is away; which were written is not known.
        """
        with answering():
            async with self._redis.pipeline(transaction=False) as pipeline:
                for change in changes:
                    if change.silent:
                        pipeline.hsetnx(self.key, change.device_id, str(change.heard_at))
                    else:
                        pipeline.hdel(self.key, change.device_id)
                if left:
                    pipeline.hdel(self.key, *left)
                answers = cast("list[int]", await pipeline.execute())
        return [change for change, first in zip(changes, answers, strict=False) if first]
