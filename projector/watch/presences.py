"""Which devices are offline because they said so: the state of all of them, changed by what is heard. Pure.

What changes it the gateway has decided (`contract.events.Event.online_since`); of two changes the one counts
that is so since later, and of one time the one whose message came later. A device that is offline is not
called silent, and what was told of its silence is over: that it is quiet then is no news. What is decided
waits in `pending`; what was told before comes first, so a start tells nothing again.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from projector.levels import ToldLevel
    from projector.watch.book import Device
    from projector.watch.tally import Tally

_SECOND: Final = 1_000_000


class PresenceChange(NamedTuple):
    """What is to be told of a device.

    Attributes:
        since: since when it is so, microseconds since 1970.
        was_told: whether it was told that the device is offline, as far as is known.
        is_news: False of a device that was offline before anybody watched.
    """

    device_id: str
    region: str | None
    online: bool
    since: int
    was_told: bool
    is_news: bool


class Presences:
    """What a site's devices said of themselves.

    Args:
        devices: by id.
        tally: counts them.
        told: device → whether it was told that it is offline, as a level of 1.
        begun: since when there has been a watch, epoch seconds.

    Attributes:
        offline: the devices that are, in the order in which that was found out.
        pending: what is to be told, by device.
    """

    def __init__(
        self, devices: Mapping[str, Device], tally: Tally, *, told: Mapping[str, ToldLevel], begun: int
    ) -> None:
        self.offline: dict[str, Device] = {}
        self.pending: dict[str, PresenceChange] = {}
        self._devices = devices
        self._tally = tally
        self._told = {id_: at for id_, (level, at) in told.items() if level}  # and since when
        self._begun = begun
        self._since: dict[str, tuple[int, int]] = {}  # and when the message came

    @property
    def told(self) -> list[str]:
        """The devices of which it was told that they are offline."""
        return list(self._told)

    def take(self, device: Device, since: int, came: int, *, online: bool, was_heard: bool) -> bool:
        """Note what a device is; returns whether that is another thing.

        Args:
            device: the device.
            since: since when it is so, microseconds since 1970.
            came: when the message came that says so, likewise.
            online: or offline.
            was_heard: whether that was now; else it is read of one that came before.
        """
        if (since, came) <= self._since.get(device.id, (-1, -1)):
            return False
        self._since[device.id] = since, came
        if online != bool(device.offline_s):
            if online and device.care is None:
                self._tell(device, is_news=True)  # one that came back while nobody watched
            return False
        self._tally.remove(device)
        device.offline_s = 0 if online else max(1, since // _SECOND)
        self._tally.add(device)
        if online:
            del self.offline[device.id]
        else:
            self.offline[device.id] = device
        if device.care is None:
            self._tell(device, is_news=was_heard or since >= self._begun * _SECOND)
        return True

    def take_pending(self, most: int) -> list[PresenceChange]:
        """Take some of what is to be told."""
        changes = [self.pending.pop(id_) for id_ in list(islice(self.pending, most))]
        for change in changes:
            if change.online:
                self._told.pop(change.device_id, None)
            else:
                self._told[change.device_id] = change.since
        return changes

    def silence(self, device: Device) -> None:
        """Tell nothing of a device from now on: others may take it for online."""
        self.pending.pop(device.id, None)
        self._told.pop(device.id, None)

    def speak(self, device: Device) -> None:
        """Tell of a device again, and now whether it is offline."""
        self._tell(device, is_news=True)

    def leave(self, device: Device) -> None:
        """Forget a device."""
        self.offline.pop(device.id, None)
        self.pending.pop(device.id, None)
        self._since.pop(device.id, None)
        self._told.pop(device.id, None)

    def forget_unknown(self) -> list[str]:
        """Forget of whom something was told that is not watched any more; returns them."""
        gone = [id_ for id_ in self._told if id_ not in self._devices]
        for id_ in gone:
            del self._told[id_]
        return gone

    def levels(self) -> dict[str, tuple[int, int]]:
        """Device → level and since when, epoch seconds, of those that were told of as offline."""
        return {id_: (1, self._devices[id_].offline_s) for id_ in self._told if id_ in self._devices}

    def _tell(self, device: Device, *, is_news: bool) -> None:
        was_told, online = device.id in self._told, not device.offline_s
        if online is not was_told:
            self.pending.pop(device.id, None)
            return
        since = max(self._since[device.id][0], self._told.get(device.id, -1) + 1)  # later than what was told
        about = device.id, device.region, online, since
        self.pending[device.id] = PresenceChange(*about, was_told=was_told, is_news=is_news)
