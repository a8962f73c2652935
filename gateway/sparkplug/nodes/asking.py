"""When to ask an edge node for a rebirth: at once, and then less and less often. Pure.

A node may be unable to answer, or what is missing may be missing again after each rebirth, where some of its
messages never come this way. It is asked as long as something of it comes, or a few times.
"""

from __future__ import annotations

from typing import Final

_FIRST_S: Final = 10.0
_LONGEST_S: Final = 3600.0
_CALM_S: Final = 300.0  # so long after a birth it was worth asking for
_TRIES: Final = 5  # while nothing comes
_PATIENCE: Final = 3  # times


class Asking:
    """Of one edge node.

    Attributes:
        wanted: whether something is missing that a rebirth would bring.
        why: in a word or two.
        due: whether to ask now; whoever asks clears it.
    """

    def __init__(self) -> None:
        self.wanted = self.due = False
        self.why = ""
        self._pause_s = _FIRST_S
        self._not_before = 0.0
        self._tries = 0
        self._asked = 0
        self._calm_at: float | None = None

    @property
    def waits(self) -> bool:
        """Whether it is asked again by and by."""
        return self.wanted and self._tries < _TRIES

    @property
    def unanswered(self) -> bool:
        """Whether it was asked again and again, and there was no birth."""
        return self.wanted and self._asked >= _PATIENCE

    def want(self, now: float, why: str, after_s: float = 0.0) -> None:
        """Something has come, or a connection, and something is missing."""
        if not self.wanted:
            self.wanted, self.why = True, why
            if self._calm_at is not None and now >= self._calm_at:
                self._pause_s = _FIRST_S
        self._tries = 0
        self._not_before = max(self._not_before, now + after_s if after_s else 0.0)
        self.tick(now)

    def tick(self, now: float) -> None:
        """Time has passed."""
        if self.waits and now >= self._not_before:
            self.due = True
            self._tries += 1
            self._asked += 1
            self._not_before = now + self._pause_s
            self._pause_s = min(2 * self._pause_s, _LONGEST_S)

    def born(self, now: float) -> None:
        """The birth has come."""
        self.wanted = self.due = False
        self._asked = 0
        self._calm_at = now + _CALM_S

    def died(self) -> None:
        """There is nobody to answer."""
        self.wanted = self.due = False
        self._asked = 0
