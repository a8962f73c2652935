"""Which region each device is in, asked of Redis when it matters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from projector.live.fields import Fields
from projector.live.rows import text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from redis.asyncio import Redis

    from projector.views import Keys


class Places:
    """The regions of the devices of one set of views.

    Attributes:
        regions: device → region, of those that were asked about or shown.
    """

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._fields = Fields(redis, keys, keys.devices)
        self._regions: dict[str, str] = {}
        self.regions: dict[str, str | None] = {}

    async def learn(self, ids: Iterable[str], *, anew: bool = False) -> None:
        """Ask for the regions of these, as far as they are not known.

        Args:
            ids: devices.
            anew: of those also that are known.

        Raises:
            Retry: Redis is away.
        """
        new = [id_ for id_ in ids if anew or id_ not in self.regions]
        async for id_, (region,) in self._fields.read(new, ("region",)):
            self.place(id_, region)

    def place(self, id_: str, region: bytes | None) -> None:
        """Note a device's region as its hash has it."""
        name = text(region) if region else None
        self.regions[id_] = name and self._regions.setdefault(name, name)  # one text for all of a region

    def keep(self, seen: Mapping[str, None]) -> None:
        """Forget devices that are not among these."""
        if len(self.regions) > len(seen):
            for gone in self.regions.keys() - seen.keys():
                del self.regions[gone]
