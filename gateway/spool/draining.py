"""Out of the spool to the pipeline: entries are read ahead, oldest first, and removed when they are stored.

What a process before has put there may be stored without having been removed. How far is asked of PostgreSQL,
run by run (`places`), so nothing is read before it answers. Of what this process has put there it is known.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

import structlog

from gateway.spool.chunks import Drained
from gateway.spool.file import Full
from gateway.spool.folder import Unusable
from gateway.spool.places import Place

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.spool.chunks import Tracked
    from gateway.spool.entry import Packed
    from gateway.spool.places import Known
    from gateway.spool.shelf import Shelf
    from gateway.spool.signal import Signal

log = structlog.get_logger()

_AHEAD_BYTES: Final = 2_000_000
_FORGET_S: Final = 1.0
_AGAIN_S: Final = 1.0


class Draining:
    """Reads, and removes.

    Args:
        signal: of the entrance.
        may_read: asked before an entry is read; the signal tells when that changes.
        settle: of chunks that are given out.

    Attributes:
        found: the last entry that a process before has put there.
        unread: messages that have not been read yet.
    """

    def __init__(
        self, shelf: Shelf, signal: Signal, *, may_read: Callable[[], bool], settle: Callable[[Tracked], None]
    ) -> None:
        self.found = shelf.extent.last
        self.unread = shelf.extent.messages
        self._shelf = shelf
        self._signal = signal
        self._may_read = may_read
        self._settle = settle
        self._known: Known | None = None
        self._places: dict[str, Place | None] = {}  # of runs of before, how far they have been read
        self._run_read = ""
        self._newest: Drained | None = None  # of those that were read
        self._ahead: deque[Drained] = deque()
        self._ahead_bytes = 0
        self._reading = asyncio.Lock()  # an entry that is being read is not dropped
        self._looking = False
        self._read_to = 0
        self._last = shelf.extent.last
        self._done = self._forgotten = max(0, shelf.extent.first - 1)

    @property
    def is_known(self) -> bool:
        """Whether it can be told what is drained."""
        return self._known is not None

    @property
    def has_given_all(self) -> bool:
        """Whether everything that is durable has been given out."""
        return self._read_to >= self._last and not self._looking and not self._ahead

    def learn(self, known: Known) -> None:
        """PostgreSQL can be asked."""
        self._known = known
        self._signal.tell()

    def skip(self) -> None:
        """What is there, and all that is appended until the next entry is read, has been given out."""
        self._read_to = self._last

    def note(self, seq: int, messages: int, *, given: bool) -> None:
        """An entry was appended, which the pipeline has got already or is to get."""
        self._last = max(self._last, seq)
        if given:
            self._read_to = max(self._read_to, seq)
        else:
            self.unread += messages
        self._signal.tell()

    def settled(self, seq: int) -> None:
        """An entry is stored."""
        if seq > self._done:
            self._done = seq
            self._signal.tell()

    def give(self) -> Drained | None:
        """The next record; None while none is there."""
        if not self._ahead:
            return None
        drained = self._ahead.popleft()
        self._ahead_bytes -= drained.size_bytes
        self._signal.tell()
        return drained

    async def drop(self) -> tuple[int, int]:
        """Drop the oldest entry that nobody is at; its number and messages, 0 and 0 when there is none."""
        async with self._reading:
            try:
                seq, messages = await self._shelf.drop(self._read_to)
            except (Full, Unusable):
                return 0, 0
            self._read_to = max(self._read_to, seq)
            self.unread -= messages
        return seq, messages

    async def run(self) -> None:
        """Read and remove until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read_on(), name="spool-read")
            tasks.create_task(self._forget_on(), name="spool-forget")

    async def finish(self) -> None:
        """Remove what is stored, now."""
        if self._done > self._forgotten:
            await self._forget()

    async def _read_on(self) -> None:
        while True:
            wanted = self._ahead_bytes < _AHEAD_BYTES and self._read_to < self._last
            if not wanted or self._known is None or not self._may_read():
                await self._signal.wait()
                continue
            try:
                await self._read(self._known)
            except (Full, Unusable) as error:
                log.error("spool_unreadable", reason=str(error))  # noqa: TRY400  # no defect
                await asyncio.sleep(_AGAIN_S)

    async def _read(self, known: Known) -> None:
        async with self._reading:
            found = await self._shelf.read(self._read_to)
            self._read_to = found[0] if found else self._last  # what was there is damaged, or gone
            self._looking = True
        if found:
            seq, packed = found
            self.unread -= sum(len(record.deliveries) for record in packed.records)
            records = await self._drained(packed, known)
            if records:
                self._newest = records[-1]
            if self._newest is None or self._newest.settled:
                self.settled(seq)
            else:  # what lies before an entry of which nothing is left is not stored yet
                self._newest.seq = seq
            self._ahead.extend(records)
            self._ahead_bytes += sum(chunk.size_bytes for chunk in records)
        self._looking = False
        self._signal.tell()

    async def _drained(self, packed: Packed, known: Known) -> list[Drained]:
        """The records of an entry, without those that are drained."""
        run, own = packed.run, self._shelf.owns(packed.run)
        place = stored = None
        if not own:
            if run not in self._places:
                self._places[run] = await known.place(run)
            place = self._places[run]
            stored = await known.stored(packed.records) or None
        found = []
        for at, record in enumerate(packed.records, packed.place - len(packed.records) + 1):
            if place is not None and at <= place.place:
                continue
            after = record.after
            if after is None and not own and run != self._run_read:
                after = place.last if place else ""  # as if the run went on
            self._run_read = run
            found.append(
                Drained(record, self._settle, run=run, place=at, after=after, own=own, stored=stored)
            )
        if not own and found:
            self._places[run] = Place(run, packed.place, "")
        return found

    async def _forget_on(self) -> None:
        while True:
            if self._done <= self._forgotten:
                await self._signal.wait()
                continue
            if self._done < self._last:
                await asyncio.sleep(_FORGET_S)
            if not await self._forget():
                await asyncio.sleep(_AGAIN_S)

    async def _forget(self) -> bool:
        done = self._done
        if await self._shelf.forget(done):
            self._forgotten = done
            self._signal.tell()
            return True
        return False
