"""Who is known to be silent, in Redis: whoever writes a change there first tells of it, once.

`projector:silent` is a hash, device → when its last message came, epoch seconds. Several projectors come to
the same conclusions; each change is claimed by a script that writes it for the first who comes with it, and
for nobody who is behind (`claim.lua`). So it is told once, a restart tells nothing again, and what happened
meanwhile is told then. The field without a name says since when there has been a watch at all; when it is
gone, all was thrown away, and each projector writes again what it knows, and tells nobody.

A return by a clock that was ahead would hold up silences until then: once it was set back it counts no more
(`forgive.lua`). An answer that was lost is given once more to whoever asks again, as long as it is the same
process, for a day; after that what was claimed is told by nobody.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Final, NamedTuple

from projector.claims import Claims
from projector.views import answering
from runtime.redis import server_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from projector.watch.book import Change

SILENT: Final = "projector:silent"
CLOCKS_TOLD: Final = "projector:clocks"
OFFLINE_TOLD: Final = "projector:offline"
BEGUN: Final = ""
_PAGE: Final = 1000
_FOLDER: Final = resources.files("projector.watch")
_CLAIM: Final = _FOLDER.joinpath("claim.lua").read_text(encoding="utf-8")
_FORGIVE: Final = _FOLDER.joinpath("forgive.lua").read_text(encoding="utf-8")


class Known(NamedTuple):
    """Device → when its last message came, of the silent ones; and since when there has been a watch."""

    silent: dict[str, int]
    begun: int


async def read_silent(redis: Redis, key: str, *, most: int | None = None) -> dict[str, int]:
    """The hash of who is silent, and since when there has been a watch; about `most` of it.

    Raises:
        Retry: Redis is away.
    """
    silent: dict[str, int] = {}
    with answering():
        async for field, value in redis.hscan_iter(key, count=_PAGE):
            if value.isdigit():
                silent[field.decode(errors="replace")] = int(value)
            if len(silent) == most:
                break
    return silent


class Told:
    """The changes that have been told of one site.

    Args:
        prefix: goes before the keys.
    """

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._silent = f"{prefix}{SILENT}"
        self._back = f"{prefix}projector:back"
        self._claims = Claims(redis, prefix, _CLAIM, [self._silent, self._back])
        self._forgive = redis.register_script(_FORGIVE)
        self._at = ""

    async def read(self, now: int) -> Known:
        """Who is known to be silent.

        Raises:
            Retry: Redis is away.
        """
        await self.begin(now)
        silent = await read_silent(self._redis, self._silent)
        begun = silent.pop(BEGUN, now)
        return Known(silent, begun)

    async def is_there(self) -> bool:
        """Whether it stands there since when there has been a watch; else all was thrown away.

        And at the server where that was seen to: another that took over may lack the last of it.

        Raises:
            Retry: Redis is away.
        """
        with answering():
            stands = bool(await self._redis.hexists(self._silent, BEGUN))
        return stands and server_of(self._redis) == self._at

    async def begin(self, begun: int) -> None:
        """Write since when there has been a watch, epoch seconds, where it does not stand.

        Raises:
            Retry: Redis is away.
        """
        with answering():
            await self._redis.hsetnx(self._silent, BEGUN, str(begun))
        self._at = server_of(self._redis)

    async def forgive(self, later_than: int) -> None:
        """Let returns count no more that are later, epoch seconds.

        Raises:
            Retry: Redis is away; then it can be asked again.
        """
        cursor: bytes | None = None
        with answering():
            while cursor != b"0":
                cursor = await self._forgive([self._back], [later_than, cursor or 0])

    async def claim(self, changes: Sequence[Change], left: Sequence[str]) -> list[Change]:
        """Write changes, and forget who is not watched any more; returns those that nobody has told of.

        Raises:
            Retry: Redis is away; which were written is not known until the same is asked again.
        """
        arguments: list[str | int] = [len(changes)]
        for change in changes:
            back_at = 0 if change.silent else change.heard_at
            arguments += (change.device_id, change.silence, back_at, int(change.was_told))
        return await self._claims.claim(changes, [*arguments, *left])
