"""From the session into the spool: what was taken becomes durable, in order, and is acknowledged then.

What becomes durable together is one entry: as much as is there when it is much, else what comes within a
moment, because each entry costs the disk a page or two and a wait. First comes what the pipeline has as well;
it is left out as soon as the pipeline has stored it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final

import structlog

from gateway.spool.file import Full
from gateway.spool.folder import Unusable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from gateway.spool.chunks import Passed
    from gateway.spool.shelf import Shelf
    from gateway.spool.signal import Signal

log = structlog.get_logger()

_LINGER_S: Final = 0.1
_ENTRY_MESSAGES: Final = 1000
_ENTRY_BYTES: Final = 1_000_000
_WAITING_BYTES: Final = 4_000_000  # taken from the session and not yet durable; the rest stays in the broker
_AGAIN_S: Final = 1.0


class Keeping:
    """Appends what it is given.

    Args:
        signal: of the entrance.
        monotonic: seconds for measuring.
        kept: told of chunks that are durable, and the number of their entry.
        drop: drops the oldest in the spool to make room; says whether there was something.
        say: says what there is in the spool.

    Attributes:
        behind: of the chunks that wait, how many the pipeline has as well; they are the first.
        held: whether nothing more is appended, but for these.
        busy: whether an entry is on its way.
        why_full: why nothing more is taken; empty while it is.
    """

    def __init__(
        self,
        shelf: Shelf,
        signal: Signal,
        monotonic: Callable[[], float],
        *,
        kept: Callable[[list[Passed], int], None],
        drop: Callable[[], Awaitable[bool]] | None,
        say: Callable[[], None],
    ) -> None:
        self.behind = 0
        self.held = False
        self.busy = False
        self.why_full = ""
        self._shelf = shelf
        self._signal = signal
        self._monotonic = monotonic
        self._kept = kept
        self._drop = drop
        self._say = say
        self._waiting: deque[Passed] = deque()
        self._messages = self._bytes = 0  # that wait
        self._place = 0
        self._hurried = False

    @property
    def has_room(self) -> bool:
        """Whether more can be added."""
        return self._bytes < _WAITING_BYTES

    @property
    def is_idle(self) -> bool:
        """Whether everything that was added is durable."""
        return not self._waiting and not self.busy

    def begin(self, has: list[Passed], since: int) -> None:
        """Begin with what the pipeline has.

        Args:
            has: in order, all of it.
            since: the row of the stream from which on it may be stored.
        """
        self.held = False
        self.behind = len(has)
        for chunk in has:
            chunk.since = since
            self._put(chunk)
        self.add(has)

    def add(self, chunks: Iterable[Passed]) -> None:
        """Add chunks, in order."""
        for chunk in chunks:
            self._waiting.append(chunk)
            self._count(chunk, 1)
        self._signal.tell()

    def take_back(self) -> list[Passed]:
        """Everything that waits, which is not to be kept after all; only while nothing is on its way."""
        waiting = list(self._waiting)
        self._waiting.clear()
        self._messages = self._bytes = 0
        self.held = False
        return waiting

    def hurry(self) -> None:
        """Wait for nothing more to come."""
        self._hurried = True
        self._signal.tell()

    async def run(self) -> None:
        """Append until cancelled."""
        while True:
            if not self._is_due():
                await self._signal.wait()
                continue
            await self._linger()
            if self._is_due():
                self.busy = True
                try:
                    await self._append(self._cut())
                finally:
                    self.busy = False
                    self._signal.tell()

    def _is_due(self) -> bool:
        return bool(self._waiting) and (self.behind > 0 or not self.held)

    async def _linger(self) -> None:
        """Let more come before it is made durable, unless much is there."""
        due = self._waiting[0].given_at + _LINGER_S
        while (
            self._is_due()
            and self._messages < _ENTRY_MESSAGES
            and self._bytes < _ENTRY_BYTES
            and not self.behind
            and not self._hurried
            and (left_s := due - self._monotonic()) > 0
        ):
            try:
                async with asyncio.timeout(left_s):
                    await self._signal.wait()
            except TimeoutError:
                return

    def _cut(self) -> list[Passed]:
        """The chunks of the next entry: either such as the pipeline has, or others."""
        messages = size = count = 0
        for chunk in islice(self._waiting, self.behind or None):
            messages += len(chunk.deliveries)
            size += chunk.size_bytes
            if count and (messages > _ENTRY_MESSAGES or size > _ENTRY_BYTES):
                break
            count += 1
        cut = [self._waiting.popleft() for _ in range(count)]
        for chunk in cut:
            self._count(chunk, -1)
        return cut

    async def _append(self, chunks: list[Passed]) -> None:
        has = self.behind > 0
        left = [chunk for chunk in chunks if not chunk.settled]
        if left and not has:
            for chunk in left:
                self._put(chunk)
        seq = await self._make_durable(left) if left else 0
        if seq:
            self._kept(left, seq)
        elif not has:
            for chunk in reversed(left):
                self._waiting.appendleft(chunk)
                self._count(chunk, 1)
        if has:
            self.behind -= len(chunks)
        self._say()

    async def _make_durable(self, chunks: list[Passed]) -> int:
        """Append, waiting or dropping for as long as there is no room; 0 when it is no longer needed."""
        while any(chunk.is_being_read for chunk in chunks):  # noqa: ASYNC110  # for a few turns of the loop
            await asyncio.sleep(0)
        records = [chunk.record() for chunk in chunks]
        while (self.behind or not self.held) and not all(chunk.settled for chunk in chunks):
            try:
                seq = await self._shelf.append(records, place=chunks[-1].place)
            except (Full, Unusable) as error:
                if isinstance(error, Full) and self._drop is not None and await self._drop():
                    continue
                if not self.why_full:
                    log.error("spool_takes_no_more", reason=str(error))  # noqa: TRY400  # no defect
                self.why_full = str(error)
                self._say()
                self._signal.tell()
                await asyncio.sleep(_AGAIN_S)
            else:
                if self.why_full:
                    log.info("spool_takes_again")
                self.why_full = ""
                return seq
        self.why_full = ""
        return 0

    def _put(self, chunk: Passed) -> None:
        self._place += 1
        chunk.place = self._place

    def _count(self, chunk: Passed, sign: int) -> None:
        self._messages += sign * len(chunk.deliveries)
        self._bytes += sign * chunk.size_bytes
