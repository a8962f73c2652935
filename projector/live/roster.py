"""Every device, who of them is silent, and who has to be looked at next. Pure.

There may be hundreds of thousands, so no look may cost what all of them cost. A device that is not silent is
looked at again when it would be, if nothing had come from it since: until then its newest reading, which may
be newer than what is noted here, does not matter. So what a look costs follows from how many devices may have
fallen silent, whatever their number and however often they report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from projector.live.attention import FLOOR_MS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PIECE: Final = 5000


class Roster:
    """The devices as far as they are known.

    Attributes:
        seen: device → its newest reading when it was last looked at, epoch milliseconds.
        silent: device that is silent → how old its newest reading may be.
        names: all of them by name, as `sort` left them.
    """

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}
        self.silent: dict[str, int] = {}
        self.names: list[str] = []
        self._new: list[str] = []
        self._gone = False
        self._planned: dict[str, int] = {}
        self._due: dict[int, list[str]] = {}

    def note(self, id_: str, last_seen_ms: int) -> None:
        """A device was looked at; one that was not known will be judged when it may be silent."""
        if id_ not in self.seen:
            self._new.append(id_)
            self._plan(id_, last_seen_ms + FLOOR_MS)
        self.seen[id_] = last_seen_ms

    def drop(self, id_: str) -> None:
        """There is no such device any more."""
        if self.seen.pop(id_, None) is not None:
            self._gone = True
            self.silent.pop(id_, None)
            self._planned.pop(id_, None)

    def judge(self, id_: str, limit_ms: int, now_ms: int, *, again_ms: int) -> None:
        """Say whether a device is silent now, or when to look at it again.

        Args:
            id_: a device that is known.
            limit_ms: how old its newest reading may be.
            now_ms: the time.
            again_ms: look at it again by then in any case.
        """
        silent_at_ms = self.seen[id_] + limit_ms
        if now_ms > silent_at_ms:
            self.silent[id_] = limit_ms
            self._planned.pop(id_, None)
            return
        self.silent.pop(id_, None)
        self._plan(id_, min(silent_at_ms, again_ms))

    def due(self, now_ms: int, most: int) -> list[str]:
        """Devices that have to be judged now, those whose time came last first; they are not named again.

        Args:
            now_ms: the time.
            most: how many, at most. The others stay due.
        """
        found: list[str] = []
        for second in sorted((each for each in self._due if each * 1000 <= now_ms), reverse=True):
            ids = self._due.pop(second)
            if later := ids[most - len(found) :]:
                self._due[second] = later
            for id_ in ids[: most - len(found)]:
                if self._planned.get(id_) == second:
                    del self._planned[id_]
                    found.append(id_)
            if later:
                break
        return found

    def put_back(self, ids: list[str], now_ms: int) -> None:
        """These could not be judged after all."""
        for id_ in ids:
            if id_ in self.seen and id_ not in self.silent:
                self._plan(id_, now_ms)

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

    def refused(self, rejected: Mapping[str, int]) -> list[str]:
        """Devices with rejected messages that are not silent, those with most first.

        By powers of two, so that devices do not change places with every single message.

        Args:
            rejected: device → messages rejected a moment ago.
        """
        return sorted(
            (id_ for id_ in rejected if id_ in self.seen and id_ not in self.silent),
            key=lambda id_: (-rejected[id_].bit_length(), id_),
        )

    def urgency(self, id_: str, now_ms: int) -> float:
        """The less the longer a silent device has been silent in its own measure."""
        return (self.seen[id_] - now_ms) / self.silent[id_] if id_ in self.silent else 0

    def silent_at_ms(self, id_: str) -> int:
        """Since when a silent device is called so; 0 for one that is not."""
        return self.seen[id_] + self.silent[id_] if id_ in self.silent else 0

    def _plan(self, id_: str, at_ms: int) -> None:
        second = at_ms // 1000 + 1
        if self._planned.get(id_) != second:
            self._planned[id_] = second
            self._due.setdefault(second, []).append(id_)
