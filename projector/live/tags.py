"""Which devices have a tag, asked while somebody narrows the list by it."""

from __future__ import annotations

from projector.live.fields import Fields
from projector.live.rows import TAG


class Tags(Fields):
    """Reads tags of one set of views."""

    async def having(self, ids: list[str], tag: str, now_ms: int) -> list[str]:
        """Those of the devices that have a tag, in their order.

        Args:
            ids: the devices.
            tag: `name:value`.
            now_ms: the time.

        Raises:
            Retry: Redis is away.
        """
        name, _, wanted = tag.partition(":")
        values = await self.of(ids, f"{TAG}{name}", now_ms)
        return [id_ for id_ in ids if values[id_] == wanted]
