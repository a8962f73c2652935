"""How many blocks of a partition to work on in one transaction: as many as take some seconds."""

from __future__ import annotations

from typing import Final

LONGEST_S: Final = 300.0  # of a statement

_FIRST: Final = 4_000  # 32 MB
_FEWEST: Final = 50
_SHORT_S, _LONG_S = 4.0, 20.0


class Stride:
    """Longer after a piece that took no time, shorter after one that took long.

    Attributes:
        blocks: of the next piece.
    """

    def __init__(self) -> None:
        self.blocks = _FIRST

    def took(self, seconds: float) -> None:
        """Go by the last piece."""
        if seconds < _SHORT_S:
            self.blocks *= 2
        elif seconds > _LONG_S:
            self.blocks = max(_FEWEST, self.blocks // 2)

    def shorten(self) -> bool:
        """Try fewer, when the last piece did not end in time; False when they are as few as can be."""
        if self.blocks <= _FEWEST:
            return False
        self.blocks = max(_FEWEST, self.blocks // 4)
        return True
