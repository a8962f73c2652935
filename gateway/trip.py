"""How long the way to the database and back is, and what follows from it. Pure.

Near the database a trip costs next to nothing, so a large batch goes in by COPY, which takes several and is
cheapest by the row; and a batch is stored before the next is sent, so that batches grow while there is much
to do. Far from it the trips are what batches wait for: then all go as one call, several at once. The figures
are those of `python -m bench.crossover` (ADR 27).
"""

from __future__ import annotations

from collections import deque
from typing import Final

MOST: Final = 12  # batches under way at once: as many connections

_REMEMBERED: Final = 16
_FEW: Final = 300  # readings of a batch, up to which a call takes less of client and server together
_FAR_S: Final = (
    0.001  # from here on what a call saves, four trips, is more than what a thousand rows cost beyond COPY
)
_PAUSE_S: Final = 0.005  # between batches, at least


class Trip:
    """The shortest of the last that were measured: anything longer had something else in it.

    Attributes:
        s: seconds.
    """

    def __init__(self) -> None:
        self.s = 0.0
        self._last: deque[float] = deque(maxlen=_REMEMBERED)

    def took(self, s: float) -> None:
        """Note how long something took that the server had nothing to do for."""
        self._last.append(s)
        self.s = min(self._last)

    @property
    def is_long(self) -> bool:
        """Whether it is worth sending a batch before the one before is answered."""
        return self.s >= _PAUSE_S

    def is_worth_a_call(self, readings: int) -> bool:
        """Whether a batch of so many had better be one call."""
        return readings <= _FEW or self.s >= _FAR_S

    def at_once(self, linger_s: float) -> int:
        """How many batches that come so far apart can be on their way at once."""
        return min(MOST, 1 + int(self.s / max(linger_s, _PAUSE_S)))
