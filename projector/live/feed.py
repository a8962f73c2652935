"""One look a second for all who look, and none when nobody does.

A viewer has no queue. It waits for the next frame; one who has the frame before gets what has changed, and
any other, be it new or too slow for the last ones, gets the newest state as a whole. So a slow viewer costs
nothing but its own freshness. Who reads nothing keeps its place only as long as nobody else wants one: when
somebody was refused, viewers are doubted until they have read on.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from projector.live.frames import Frames
from runtime.lifecycle import raise_if_cancelled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from projector.live.frames import Frame
    from projector.live.state import State
    from projector.meters import Meters

VIEWERS: Final = 500
LOOK_S: Final = 1.0
PROVEN_FOR_S: Final = 12.0
LINGER_S: Final = 5.0  # a page that is loaded again finds what it left

log = structlog.get_logger()


class TooManyViewersError(Exception):
    """As many look as may."""


class Sight(Protocol):
    """What can be looked at."""

    async def look(self) -> State:
        """How things are now."""

    def forget(self) -> None:
        """Nobody looks any more."""


class Viewer:
    """Somebody who looks."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._seq: int | None = None
        self.has_read()  # so far: it asked

    @property
    def doubted(self) -> bool:
        """Whether somebody else would take this place, and nothing shows that this viewer reads."""
        return self._feed.wanted_after(self._read_at)

    def has_read(self) -> None:
        """Lately sent more than fits on the way, it took that."""
        self._read_at = asyncio.get_running_loop().time()

    async def next(self, timeout_s: float) -> bytes | None:
        """The next frame for this viewer; None when there is none within the time.

        Raises:
            EOFError: there will be no more.
        """
        frame = await self._feed.after(self._seq, timeout_s)
        if frame is None:
            return None
        follows = self._seq is not None and frame.seq == self._seq + 1
        self._seq = frame.seq
        return frame.delta if follows else frame.full


class Feed:
    """Looks while there are viewers."""

    def __init__(self, sight: Sight, meters: Meters) -> None:
        self._sight = sight
        self._meters = meters
        self._frames = Frames()
        self._frame: Frame | None = None
        self._viewers = 0
        self._came = asyncio.Event()
        self._news = asyncio.Condition()
        self._ended = False
        self._refused_at: float | None = None

    @contextmanager
    def viewer(self) -> Iterator[Viewer]:
        """Somebody who looks, for as long as the block lasts.

        Raises:
            TooManyViewersError: as many look as may.
        """
        if self._viewers >= VIEWERS:
            self._refused_at = asyncio.get_running_loop().time()
            self._meters.viewers_refused.inc()
            raise TooManyViewersError
        self._viewers += 1
        self._meters.viewers.set(self._viewers)
        self._came.set()
        try:
            yield Viewer(self)
        finally:
            self._viewers -= 1
            self._meters.viewers.set(self._viewers)

    def wanted_after(self, read_at: float) -> bool:
        """Whether somebody was refused when it was a while ago that a viewer was known to read."""
        return self._refused_at is not None and self._refused_at > read_at + PROVEN_FOR_S

    async def run(self, stop: asyncio.Event) -> None:
        """Look, whenever somebody is there to see it, until `stop` is set; then send the viewers away."""
        stopped = asyncio.create_task(stop.wait(), name="live-stop")
        looking = asyncio.create_task(self._look(), name="live-look")
        try:
            await asyncio.wait({stopped, looking}, return_when=asyncio.FIRST_COMPLETED)
            if looking.done():
                looking.result()
        finally:
            stopped.cancel()
            looking.cancel()
            await asyncio.wait({stopped, looking})
            async with self._news:
                self._ended = True
                self._news.notify_all()

    async def after(self, seq: int | None, timeout_s: float) -> Frame | None:
        """The newest frame as soon as it is another than `seq`; None when that takes longer than the time.

        Raises:
            EOFError: there will be no more.
        """
        try:
            async with asyncio.timeout(timeout_s), self._news:
                await self._news.wait_for(lambda: self._ended or self._newer(seq))
        except TimeoutError:
            return None
        if self._ended:
            raise EOFError
        return self._frame

    def _newer(self, seq: int | None) -> bool:
        return self._frame is not None and self._frame.seq != seq

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._came.wait()
            log.info("live_page_watched")
            seen_at = due = loop.time()
            while self._viewers or loop.time() - seen_at < LINGER_S:
                state = await self._sight.look()
                raise_if_cancelled()
                async with self._news:
                    self._frame = self._frames.next(state)
                    self._news.notify_all()
                if self._viewers:
                    seen_at = loop.time()
                due = max(due + LOOK_S, loop.time())
                await asyncio.sleep(due - loop.time())
            self._came.clear()
            self._frame = None
            self._sight.forget()
            log.info("live_page_left")
