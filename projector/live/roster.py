"""Every device that the views have, as far as they are known, and their order by name. Pure.

There may be hundreds of thousands, so that order is brought up to date in steps.
"""

from __future__ import annotations

from sys import intern
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping

_PIECE: Final = 5000


class Roster:
    """The devices as far as they are known.

    Attributes:
        seen: the devices.
        names: all of them by name, as `sort` left them.
    """

    def __init__(self) -> None:
        self.seen: dict[str, None] = {}
        self.names: list[str] = []
        self._new: list[str] = []
        self._gone = False

    def note(self, id_: str) -> None:
        """There is such a device."""
        if id_ not in self.seen:
            id_ = intern(id_)  # one text for all who keep it
            self._new.append(id_)
            self.seen[id_] = None

    def drop(self, id_: str) -> None:
        """There is no such device any more."""
        if id_ in self.seen:
            del self.seen[id_]
            self._gone = True

    def sort(self) -> Iterator[None]:
        """Bring `names` up to date, in steps of a few milliseconds."""
        while self._gone or self._new:
            if self._gone:  # and some have come back: they are new, once
                self._gone = False
                new = dict.fromkeys(self._new)
                self._new = list(new)
                self.names = [id_ for id_ in self.names if id_ in self.seen and id_ not in new]
                yield
                continue
            piece = {id_ for id_ in self._new[-_PIECE:] if id_ in self.seen}
            del self._new[-_PIECE:]
            self.names = self.names + sorted(piece)
            self.names.sort()  # two runs: merged, not sorted anew
            yield

    def refused(self, rejected: Mapping[str, int], silent: Container[str]) -> list[str]:
        """Devices with rejected messages that are not silent, those with most first.

        By powers of two, so that devices do not change places with every single message.

        Args:
            rejected: device → messages rejected a moment ago.
            silent: devices.
        """
        return sorted(
            (id_ for id_ in rejected if id_ in self.seen and id_ not in silent),
            key=lambda id_: (-rejected[id_].bit_length(), id_),
        )
