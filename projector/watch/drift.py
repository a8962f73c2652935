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
from struct import Struct
from typing import Final, Literal

import msgspec

from contract.times import epoch_microseconds

ClockState = Literal["right", "behind", "ahead"]

RIGHT, BEHIND, AHEAD = range(3)
CLOCKS: Final[tuple[ClockState, ...]] = ("right", "behind", "ahead")

WINDOW_S: Final = 600
MINUTES: Final = 3

_NONE: Final = 1 << 62
_LONGEST_S: Final = (1 << 32) - 1
_WINDOWS: Final = Struct("<qqIB")
"""Smallest lag of the window before, when this began, length of that before, minutes of this.

Packed, as there are 200,000 of them: four numbers would take three times as much.
"""
_NEW: Final = _WINDOWS.pack(_NONE, 0, 0, 0)
_NUMBER: Final = re.compile(r"[0-9]{1,20}(\.[0-9]{1,30})?")


class Drift(msgspec.Struct, gc=False):
    """What is known of a device's clock.

    Attributes:
        level: `RIGHT`, `BEHIND` or `AHEAD`.
        since: when that was found out, epoch seconds; 0 for never.
        told: the level that others are told of, as far as this process knows.
        least: the smallest lag of this window.
    """

    level: int = RIGHT
    since: int = 0
    told: int = RIGHT
    least: int = _NONE
    windows: bytes = _NEW

    def add(self, lag_s: int) -> None:
        """Note how late a message came, in seconds; negative when it was measured after it came."""
        self.least = min(self.least, lag_s)

    def next_minute(self, at: int, tolerance_s: float) -> int:
        """Note that a message came in another minute than the one before; what has been added is before it.

        Args:
            at: when, epoch seconds.
            tolerance_s: how wrong a clock may be.

        Returns:
            The level that the windows up to here show, which is the one that is known unless they agree.
        """
        least = self.least
        before, begun, length, minutes = _WINDOWS.unpack(self.windows)
        if least == _NONE or not begun:
            self.windows = _WINDOWS.pack(before, at, length, 0)
            return self.level
        minutes = min(minutes + 1, MINUTES)
        if minutes < MINUTES or 0 <= at - begun < WINDOW_S:
            self.windows = _WINDOWS.pack(before, begun, length, minutes)
            return self.level
        this_length = min(max(0, at - begun), _LONGEST_S)
        self.least = _NONE
        self.windows = _WINDOWS.pack(least, at, this_length, 0)
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
        before: int = _WINDOWS.unpack(self.windows)[0]
        lag = self.least if before == _NONE else before
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
