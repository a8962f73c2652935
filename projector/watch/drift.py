"""How wrong a device's clock is, learned from how late its messages come. Pure.

What counts is the smallest lag, of receipt behind the device's time: everything on the way adds to a lag, and
nothing but a clock takes from it. A device that stores and forwards ends each of its bursts with a message
that is late by little. The smallest is taken window by window, of ten minutes and three minutes with messages
at least, and two windows have to say the same. So neither one message with a wrong time makes a clock wrong
nor one with a right time makes it right again, nor do three messages at boot. Lags that differ from one
window to the next are of somebody who catches up, or whose bursts take long, not of a clock; but those that
grow by as much as time goes on are of a clock that stands still.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final, Literal

from contract.times import epoch_microseconds

ClockState = Literal["right", "behind", "ahead"]

RIGHT, BEHIND, AHEAD = range(3)
CLOCKS: Final[tuple[ClockState, ...]] = ("right", "behind", "ahead")

WINDOW_S: Final = 600
MINUTES: Final = 3

_NONE: Final = 1 << 62
_NUMBER: Final = re.compile(r"[0-9]{1,20}(\.[0-9]{1,30})?")


class Drift:
    """What is known of a device's clock.

    Attributes:
        level: `RIGHT`, `BEHIND` or `AHEAD`.
        since: when that was found out, epoch seconds; 0 for never.
        told: the level that others are told of, as far as this process knows.
    """

    __slots__ = ("_before", "_begun", "_least", "_length", "_minutes", "level", "since", "told")

    def __init__(self) -> None:
        self.level = self.told = RIGHT
        self.since = 0
        self._begun = self._minutes = self._length = 0
        self._least = self._before = _NONE

    def add(self, lag_s: int) -> None:
        """Note how late a message came, in seconds; negative when it was measured after it came."""
        self._least = min(self._least, lag_s)

    def next_minute(self, at: int, tolerance_s: float) -> int:
        """Note that a message came in another minute than the one before; what has been added is before it.

        Args:
            at: when, epoch seconds.
            tolerance_s: how wrong a clock may be.

        Returns:
            The level that the windows up to here show, which is the one that is known unless they agree.
        """
        if self._least == _NONE or not self._begun:
            self._begun = at
            self._minutes = 0
            return self.level
        self._minutes += 1
        if self._minutes < MINUTES or 0 <= at - self._begun < WINDOW_S:
            return self.level
        before, least, length = self._before, self._least, self._length
        self._length, self._begun, self._minutes = at - self._begun, at, 0
        self._before, self._least = least, _NONE
        if before == _NONE:
            return self.level
        grown = least - before
        is_one = min(abs(grown), abs(grown - length)) <= tolerance_s / 10
        return self._judged(before, least, tolerance_s, is_one=is_one)

    @property
    def error_s(self) -> int | None:
        """By how many seconds a clock that is wrong is ahead, negative behind; None when it is right.

        Also when another process found it out, and nothing has come since.
        """
        if self.level == RIGHT:
            return None
        lag = self._least if self._before == _NONE else self._before
        return None if lag == _NONE else -lag

    def _judged(self, before: int, least: int, tolerance_s: float, *, is_one: bool) -> int:
        if before > tolerance_s and least > tolerance_s and is_one:
            return BEHIND
        if before < -tolerance_s and least < -tolerance_s:
            return AHEAD
        if max(abs(before), abs(least)) <= tolerance_s / 2:
            return RIGHT
        return self.level


def claimed_s(claimed: str) -> float | None:
    """The time that a device claimed and a gateway did not believe, epoch seconds; None for what is none.

    Args:
        claimed: as the tag `claimed_ts` has it.
    """
    if _NUMBER.fullmatch(claimed):
        return epoch_microseconds(float(claimed)) / 1_000_000
    try:
        moment = datetime.fromisoformat(claimed)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
