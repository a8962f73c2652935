"""What the watch says of a device: the one answer of page, API and gauges to who is silent.

It is that of this process. Another that watches the same streams comes to the same conclusions, within a
turn or so. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec.structs import replace

from projector.lag import DeviceCounts
from projector.names.book import NOBODY, Known, Names
from projector.watch.book import STATES
from projector.watch.drift import RIGHT
from projector.watch.pace import silent_after_s, usual_s

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from projector.watch.book import State
    from projector.watch.care import Care
    from projector.watch.silence import Silence


class Said(NamedTuple):
    """What is said of a device.

    Attributes:
        state: `unknown` before the watch has begun, before the device was heard or told of, and when there
            is no room for it.
        heard_at: when its last message came, epoch seconds; None when that is not known.
        usual_s: how long it usually pauses, in seconds, as far as that is known.
        clock_since: when its clock was found to be wrong, epoch seconds; None for one that is right.
        clock_error_s: by how much a wrong one is ahead, in seconds, negative behind; None as long as that
            has not shown since a start.
        care: what people have said of it.
        offline_since: since when it is offline because it said so, epoch seconds; None when it is not.
        known: what people say it is. Where that has how often it should send, silence goes by that.
    """

    state: State
    heard_at: int | None
    usual_s: int | None
    clock_since: int | None = None
    clock_error_s: int | None = None
    care: Care | None = None
    known: Known = NOBODY
    offline_since: int | None = None

    def urgency(self, now: int) -> float:
        """The less the longer it has been quiet in its own measure."""
        return ((self.heard_at or 0) - now) / silent_after_s(self.known.expected_s or self.usual_s)


_NOTHING: Final = Said("unknown", None, None)


class Watch:
    """What may be asked of the watch, from before it begins.

    Attributes:
        names: what people say devices are.
    """

    def __init__(self, names: Names | None = None) -> None:
        self.names = Names() if names is None else names
        self._silence: Silence | None = None

    def begins(self, silence: Silence) -> None:
        """Answer from this on."""
        self._silence = silence

    def of(self, device_id: str) -> Said:
        """What is said of a device."""
        device = self._silence.devices.get(device_id) if self._silence else None
        known = self.names.of(device_id)
        if device is None:
            return _NOTHING._replace(known=known) if known is not NOBODY else _NOTHING
        drift = device.drift
        return Said(
            STATES[device.standing],
            device.at or None,
            usual_s(device.pauses),
            None if drift.level == RIGHT else drift.since,
            drift.error_s,
            device.care,
            known,
            device.offline_s or None,
        )

    def silent(self) -> list[str]:
        """The devices that are silent and of which that is told, the first to fall silent first."""
        if self._silence is None:
            return []
        devices = self._silence.devices
        return [id_ for id_ in self._silence.silent if devices[id_].care is None]

    def offline(self) -> list[str]:
        """The devices that said so themselves and of which that is told, the first to be found out first."""
        if self._silence is None:
            return []
        return [device.id for device in self._silence.presences.offline.values() if device.care is None]

    def clocks_wrong(self) -> list[str]:
        """The devices whose clock is wrong and of which that is told, the first to be found out first."""
        if self._silence is None:
            return []
        return [device.id for device in self._silence.drifts.wrong.values() if device.care is None]

    def retired(self) -> AbstractSet[str]:
        """The devices that are out of service, as they are from now on."""
        return self._silence.cares.retired if self._silence else frozenset()

    @property
    def retirements(self) -> int:
        """Another number whenever those have changed."""
        return self._silence.cares.retirements if self._silence else 0

    def retired_by_region(self) -> Mapping[str | None, int]:
        """Region → devices of it that are out of service."""
        return self._silence.counts.retired if self._silence else {}

    def counts(self) -> DeviceCounts | None:
        """How many devices are what; None before the watch has begun."""
        if self._silence is None:
            return None
        regions = self._silence.counts.values()
        counts = DeviceCounts(*(sum(region[state] for region in regions) for state in range(len(STATES) + 1)))
        unheard = self.names.never_heard
        out = sum(id_ in unheard for id_ in self.retired())
        return replace(counts, never_heard=len(unheard) - out)
