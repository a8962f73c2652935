"""The time of each stream, by which `for` and forgetting go. Pure.

A reading belongs to the stream that brought it. One that was read from the views may belong to any: it goes
by whichever is furthest behind of those that have brought rows within a day. A stream that was there at the
start stands where it was until it brings one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from projector.watch.clock import BACK_S, Clock
from projector.watch.silence import GOING_ON_S

if TYPE_CHECKING:
    from collections.abc import Sequence


class Clocks:
    """The clocks of a site.

    Attributes:
        site: goes with the newest row of any stream, and never ahead of now.
    """

    def __init__(self) -> None:
        self.site = Clock()
        self._streams: dict[int, Clock] = {}
        self._any: list[Clock] = []

    def expect(self, number: int, at: int) -> None:
        """Note a stream whose newest row came at `at`, epoch seconds, before anybody listened."""
        self._streams.setdefault(number, Clock()).advance(at)

    def advance(self, number: int, at: int) -> None:
        """Note that a stream brought a row; a clock that was set back begins anew."""
        clock = self._streams.get(number)
        if clock is None or at < clock.now - BACK_S:
            clock = self._streams[number] = Clock()
        clock.advance(at)

    def look(self, now: int) -> None:
        """Find out which streams go on, each turn; one ahead of now, epoch seconds, is at now for others."""
        if self._streams:
            newest = min(now, max(clock.now for clock in self._streams.values()))
            self.site.advance(newest)
            self._any = [clock for clock in self._streams.values() if clock.now > newest - GOING_ON_S]

    def of(self, stream: int | None) -> Sequence[Clock]:
        """Those by which a reading of a stream goes; of any, when it is not known which."""
        if stream is None:
            return self._any
        clock = self._streams.get(stream)
        return [clock] if clock else []


def resumed(clocks: Sequence[Clock], longer_than_s: int) -> int | None:
    """When the last pause ended that was longer, epoch seconds; None when none was seen."""
    ends = [(clock.resumed(longer_than_s), clock.begun) for clock in clocks]
    return max((end for end, begun in ends if end != begun), default=None)
