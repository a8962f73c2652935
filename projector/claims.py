"""Claims in Redis: whoever comes first with a change writes it, and has it to tell.

An answer that was lost is given once more to whoever asks again, as long as it is the same process, for a
day; after that what was claimed is told by nobody.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import uuid4

from projector.views import answering

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from redis.asyncio import Redis

T = TypeVar("T")

_SCRIPT: Final = resources.files("projector").joinpath("claims.lua").read_text(encoding="utf-8")


class Claims:
    """The claims of one process.

    Args:
        prefix: goes before the keys.
        script: what comes after `claims.lua`, and answers a digit a change.
        keys: the script's own.
    """

    def __init__(self, redis: Redis, prefix: str, script: str, keys: Sequence[str]) -> None:
        self._keys = [*keys, f"{prefix}projector:claimed:{uuid4().hex}"]
        self._script = redis.register_script(_SCRIPT + script)
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
