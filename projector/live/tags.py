"""Which devices have a tag, or a label that says the same, asked while somebody narrows the list by it.

Every device is asked, so what was found of the last tag asked for is good for ten seconds.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from projector.live.fields import Fields
from projector.live.rows import TAG, text

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from projector.names.book import Names
    from projector.views import Keys

_GOOD_FOR_MS: Final = 10_000


class Tags:
    """Reads tags of one set of views; labels are known."""

    def __init__(self, redis: Redis, keys: Keys, names: Names) -> None:
        self._names = names
        self._fields = Fields(redis, keys, keys.devices)
        self._asking = asyncio.Lock()
        self.forget()

    def forget(self) -> None:
        """Nobody looks any more."""
        self._name = ""
        self._since_ms = 0
        self._values: dict[str, str | None] = {}

    async def having(self, ids: list[str], tag: str, now_ms: int) -> list[str]:
        """Those of the devices that have a tag or a label, in their order.

        Args:
            ids: the devices.
            tag: `name:value`.
            now_ms: the time.

        Raises:
            Retry: Redis is away.
        """
        name, _, wanted = tag.partition(":")
        async with self._asking:
            if name != self._name or now_ms - self._since_ms > _GOOD_FOR_MS:
                self._name, self._since_ms, self._values = name, now_ms, {}
            values = self._values
            new = [id_ for id_ in ids if id_ not in values]
            async for id_, (value,) in self._fields.read(new, (f"{TAG}{name}",)):
                values[id_] = None if value is None else text(value)
            labelled = self._names.labelled(name, wanted)
            return [id_ for id_ in ids if values[id_] == wanted or id_ in labelled]
