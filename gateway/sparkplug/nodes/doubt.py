"""When an edge node's last birth is believed again after a miss, though it was not born again. Pure.

Some edge nodes never hear that they are asked for a rebirth: the broker lets nobody command them, or a line
leads one way only. Within a session aliases stay as they are, so after a miss the birth before it still names
what comes, unless a session began in it. That would be told: the will of the one before comes with QoS 1,
late perhaps but not lost as long as the broker keeps our session. Numbers tell too: a birth is number 0, so
where 0 is not among those that are missing, no birth is. Until then all waits for the rebirth, as ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

PLAIN_S: Final = 20.0
"""Of a few numbers without 0: the rebirth has been asked for twice."""

WILL_S: Final = 300.0
"""Of anything else: after one and a half keepalives a broker publishes a will."""

_FEW: Final = 32  # of more, a session may have begun among them and come as far


def ends_after(missing: set[int]) -> float:
    """How many seconds there is doubt when these numbers are missing."""
    return PLAIN_S if len(missing) <= _FEW and 0 not in missing else WILL_S


class Doubt:
    """Of one edge node.

    Attributes:
        devices: whose last births are in doubt, empty for the node itself.
        ends_at: when they are believed again; None when there is no doubt, or no end of it but a birth.
    """

    def __init__(self) -> None:
        self.devices: set[str] = set()
        self.ends_at: float | None = None

    def begin(self, devices: Iterable[str], ends_at: float | None) -> None:
        """Something may have been missed, which nothing had told before of these."""
        if ends_at is None:
            self.devices.clear()
        else:
            self.devices.update(devices)
        if self.devices and ends_at is not None:
            self.ends_at = max(ends_at, self.ends_at or ends_at)
        else:
            self.ends_at = None

    def end(self, now: float) -> set[str]:
        """Those that are believed again at this time."""
        if self.ends_at is None or now < self.ends_at:
            return set()
        devices, self.devices, self.ends_at = self.devices, set(), None
        return devices
