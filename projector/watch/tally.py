"""How many devices of each region are ok, and silent. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from projector.watch.book import OK

if TYPE_CHECKING:
    from projector.watch.book import Device

REGIONS: Final = 100
OTHERS: Final = "(other)"
NOWHERE: Final = "(none)"


class Tally(dict[str, list[int]]):
    """Region, as far as there is room for its name → devices that are ok, and silent."""

    def add(self, device: Device) -> None:
        """Count a device."""
        self._count(device, +1)

    def remove(self, device: Device) -> None:
        """Count a device no more, before anything about it changes."""
        self._count(device, -1)

    def _count(self, device: Device, by: int) -> None:
        region = device.region or NOWHERE
        if region not in self:
            region = region if len(self) < REGIONS else OTHERS
            self.setdefault(region, [0, 0])
        self[region][device.state != OK] += by
