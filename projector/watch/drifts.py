"""Whose clocks are wrong: the state of all of them, changed by what is heard. Pure.

A device that sends no time, or whose route does not go by it (`clock = "received"`), is never late. Where a
gateway took the time of arrival instead of one that is impossible (`clock = "prefer"`), the one that was
claimed counts. What is decided waits in `pending`; what was told before comes first, so a start tells nothing
again.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from contract.order import seconds
from projector.watch.drift import RIGHT, claimed_s

if TYPE_CHECKING:
    from collections.abc import Mapping

    from contract.events import Event
    from projector.levels import ToldLevel
    from projector.watch.book import Device
    from projector.watch.tally import Tally

CLAIMED: Final = "claimed_ts"
_SECOND: Final = 1_000_000


class ClockChange(NamedTuple):
    """What is to be told of a device's clock.

    Attributes:
        level: as in `drift`.
        at: when that was found out, epoch seconds.
        error_s: by how much it is ahead, negative behind; None when it is right.
        told: the level that was told before, as far as is known.
    """

    device_id: str
    region: str | None
    level: int
    at: int
    error_s: int | None
    told: int


class Drifts:
    """The clocks of a site's devices.

    Args:
        devices: by id.
        tally: counts them.
        tolerance_s: how wrong a clock may be.
        believes_claims: whether times that were claimed and not believed are impossible ones.
        told: device → what was told of its clock.

    Attributes:
        wrong: the devices whose clocks are, in the order in which that was found out.
        pending: what is to be told, by device.
    """

    def __init__(
        self,
        devices: Mapping[str, Device],
        tally: Tally,
        *,
        tolerance_s: float,
        believes_claims: bool,
        told: Mapping[str, ToldLevel],
    ) -> None:
        self.wrong: dict[str, Device] = {}
        self.pending: dict[str, ClockChange] = {}
        self._devices = devices
        self._tally = tally
        self._tolerance_s = tolerance_s
        self._believes_claims = believes_claims
        self._told = dict(told)

    def meet(self, device: Device) -> None:
        """Begin with what was told of a device, before it is counted."""
        if told := self._told.pop(device.id, None):
            drift = device.drift
            drift.level = drift.told = told.level
            drift.since = told.at // _SECOND
            if drift.level != RIGHT:
                self.wrong[device.id] = device

    def all_known(self) -> list[str]:
        """Note that all who were heard before are known; returns of whom something was told that are not."""
        gone, self._told = list(self._told), {}
        return gone

    def hear(self, device: Device, at: int, event: Event, is_apart: bool) -> None:  # noqa: FBT001  # each message
        """Note a message.

        Args:
            device: that sent it.
            at: when it came, epoch seconds.
            event: the message.
            is_apart: whether the device's message before it came in an earlier minute.
        """
        try:
            measured = seconds(event.ts)
        except ValueError:
            return
        if self._believes_claims and event.tags and (claimed := event.tags.get(CLAIMED)):
            found = claimed_s(claimed)
            measured = measured if found is None else int(found)
        drift = device.drift
        if is_apart:
            level = drift.next_minute(at, self._tolerance_s)
            if level != drift.level:
                self._become(device, level, at)
        if at - measured < drift.least:  # noqa: PLR1730  # a call of min() is a tenth of all this
            drift.least = at - measured

    def take_pending(self, most: int) -> list[ClockChange]:
        """Take some of what is to be told."""
        changes = []
        for id_ in list(islice(self.pending, most)):
            change = self.pending.pop(id_)
            self._devices[id_].drift.told = change.level
            changes.append(change)
        return changes

    def silence(self, device: Device) -> None:
        """Tell nothing of a device from now on: others may take its clock for right."""
        self.pending.pop(device.id, None)
        device.drift.told = RIGHT

    def speak(self, device: Device, at: int, *, stands: bool) -> None:
        """Tell of a device again, and now how its clock is: when it is wrong, or what was told stands."""
        if device.drift.level != RIGHT or stands:
            self._tell(device, max(at, device.drift.since), stands=stands)

    def leave(self, device: Device) -> None:
        """Forget a device."""
        self.wrong.pop(device.id, None)
        self.pending.pop(device.id, None)

    def _become(self, device: Device, level: int, at: int) -> None:
        self._tally.remove(device)
        device.drift.level, device.drift.since = level, at
        self._tally.add(device)
        if level == RIGHT:
            self.wrong.pop(device.id, None)
        else:
            self.wrong[device.id] = device
        if device.care is None:
            self._tell(device, at)

    def _tell(self, device: Device, at: int, *, stands: bool = False) -> None:
        drift = device.drift
        if drift.level == drift.told and not stands:
            self.pending.pop(device.id, None)
            return
        self.pending[device.id] = ClockChange(
            device.id, device.region, drift.level, at, drift.error_s, drift.told
        )
