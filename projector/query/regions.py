"""The names of regions, read in pieces that Redis gives in a moment: nobody knows how many there are."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Final, cast

from projector.views import answering
from runtime.errors import Retry
from runtime.redis import server_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from redis.asyncio import Redis

    from projector.views import Keys

NAMES: Final = 500  # a call
_SCRIPT: Final = resources.files("projector.query").joinpath("region_names.lua").read_text(encoding="utf-8")


class RegionNames:
    """Reads the names of one set of views."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._script = redis.register_script(_SCRIPT)

    async def pieces(self) -> AsyncIterator[list[bytes]]:
        """Every name, some of them twice; those that come or go meanwhile may be missed.

        Raises:
            Retry: Redis is away, or holds something else under our key.
        """
        cursor = at = None
        while cursor != b"0":
            with answering():
                cursor, names = await cast(
                    "Awaitable[tuple[bytes, list[bytes]]]",
                    self._script([self._keys.region_marks], [cursor or b"0", NAMES]),
                )
            if at not in {None, server_of(self._redis)}:
                raise Retry("redis", "another server answers now, so the names are to be read anew")
            at = server_of(self._redis)
            yield names
