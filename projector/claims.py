"""Claims in Redis: whoever comes first with a change writes it, and has it to tell.

An answer that was lost is given once more to whoever asks again, as long as it is the same process, for a
day; after that what was claimed is told by nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

from projector.views import answering

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from redis.asyncio import Redis

T = TypeVar("T")


class Claims:
    """The claims of one process.

    Args:
        prefix: goes before the keys.
        script: answers a digit a change, and the same number of a call the same again. Its first argument is
            that number, its last key what was answered last.
        keys: the script's others.
    """

    def __init__(self, redis: Redis, prefix: str, script: str, keys: Sequence[str]) -> None:
        self._keys = [*keys, f"{prefix}projector:claimed:{uuid4().hex}"]
        self._script = redis.register_script(script)
        self._call = 1

    async def claim(self, changes: Sequence[T], arguments: Iterable[str | int | bytes]) -> list[T]:
        """Claim changes, which are described by arguments; returns those that nobody else has.

        Raises:
            Retry: Redis is away; which were claimed is not known until the same is asked again.
        """
        with answering():
            claimed: bytes = await self._script(self._keys, [self._call, *arguments])
        self._call += 1
        return [change for change, digit in zip(changes, claimed.decode(), strict=True) if digit == "1"]
