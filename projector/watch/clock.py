"""The time of a stream: what its newest row says, and when nothing came. Pure.

Silence is measured by this clock and no other. It stands while the projector is behind, and while nothing
comes because gateway or broker are away; and a pause of the whole stream that is long beside what a device
may pause begins its period anew, a few times in a row. So nobody is called silent for what others failed to
bring, and nobody at all while nothing comes.
"""

from __future__ import annotations

from typing import Final

SHORTEST_S: Final = 90  # half of what any device may pause
BACK_S: Final = 300  # a row that is older than the newest by more is of a clock that was set back

_FOR_EVER: Final = 1 << 62
_BITS: Final = 3


class Clock:
    """One stream's time, in epoch seconds.

    Attributes:
        begun: when the first row that was seen came; None before.
        now: when the newest did.
    """

    def __init__(self) -> None:
        self.begun: int | None = None
        self.now = 0
        self._pauses: list[tuple[int, int]] = []  # until when, for how long; each shorter than that before

    def advance(self, at: int) -> None:
        """Note that a row came; what was before the first is a pause of unknown length."""
        if self.begun is None:
            self.begun = self.now = at
            self._pauses = [(at, _FOR_EVER)]
            return
        pause = at - self.now
        if pause <= 0:
            return
        self.now = at
        if pause >= SHORTEST_S:
            size = _rounded_up(pause)
            while self._pauses[-1][1] <= size:
                self._pauses.pop()
            self._pauses.append((at, size))

    def resumed(self, longer_than_s: int) -> int:
        """When the last pause ended that was longer than so many seconds."""
        return next(until for until, pause in reversed(self._pauses) if pause > longer_than_s)


def _rounded_up(pause: int) -> int:
    """By a quarter at most, so that there are some dozens of sizes and no more."""
    digits = max(0, pause.bit_length() - _BITS)
    return -(-pause >> digits) << digits
