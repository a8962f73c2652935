"""How many devices of each region are what, and how many clocks of theirs are wrong. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from projector.watch.book import RETIRED, STATES

if TYPE_CHECKING:
    from projector.watch.book import Device

REGIONS: Final = 100
OTHERS: Final = "(other)"
NOWHERE: Final = "(none)"


class Tally(dict[str, list[int]]):
    """Region, as far as there is room for its name → devices by `STATES`, and those whose clock is wrong.

    The latter are among the others too, but none that is muted or retired.

    Attributes:
        retired: region → devices that are out of service, of all regions that have some.
    """

    def __init__(self) -> None:
        super().__init__()
        self.retired: Counter[str | None] = Counter()

    def add(self, device: Device) -> None:
        """Count a device."""
        self._count(device, +1)

    def remove(self, device: Device) -> None:
        """Count a device no more, before anything about it changes."""
        self._count(device, -1)

    def heard(self, device: Device, at: int) -> None:
        """Note when a device's message came, by which it becomes known."""
        if device.at:
            device.at = at
        else:
            self.remove(device)
            device.at = at
            self.add(device)

    def _count(self, device: Device, by: int) -> None:
        region = device.region or NOWHERE
        if region not in self:
            region = region if len(self) < REGIONS else OTHERS
            self.setdefault(region, [0] * (len(STATES) + 1))
        self[region][device.standing] += by
        if device.standing == RETIRED:
            self.retired[device.region] += by
        if device.is_clock_wrong:
            self[region][-1] += by
