"""The spool as the event loop sees it: all that touches the disk happens in a thread, one thing at a time.

The loop never waits for a disk.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import structlog

from gateway.spool.folder import Folder, Unusable
from runtime.settings import size_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from gateway.spool.entry import Packed, Record
    from gateway.spool.file import Extent
    from runtime.settings import Spool

log = structlog.get_logger()
T = TypeVar("T")


class Shelf:
    """A spool that is open.

    Attributes:
        path: of its folder.
        max_bytes: that it may take.

    Raises:
        Unusable: with what is wrong and what to do.
    """

    def __init__(self, spool: Spool) -> None:
        self._folder = Folder(spool)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self.path: Path = self._folder.path
        self.max_bytes = size_bytes(spool.max_bytes)

    @property
    def extent(self) -> Extent:
        """What the file in use holds; kept up with."""
        return self._folder.extent

    @property
    def size_bytes(self) -> int:
        """Of it, when it was last looked at."""
        return self._folder.size_bytes

    @property
    def lost(self) -> int:
        """Messages of entries that were damaged, or could not be read any more."""
        return self._folder.lost

    def owns(self, run: str) -> bool:
        """Whether it is this process that has written a run."""
        return run in self._folder.runs

    async def close(self) -> None:
        """Close the file and let another process have the folder."""
        await self._do(self._folder.close)
        self._thread.shutdown(wait=False)

    async def append(self, records: Sequence[Record], *, place: int) -> int:
        """Append an entry; returns its number once it is durable.

        Args:
            records: in order, at least one.
            place: of the last of them among all that this process has appended; it only grows.

        Raises:
            Full: there is no room; nothing was appended.
            Unusable: the file broke, and there is no other.
        """
        return await self._do(lambda: self._folder.append(records, place=place), look=True)

    async def read(self, after: int) -> tuple[int, Packed] | None:
        """The next entry with its number; None when there is none.

        What is damaged is passed over: it is kept beside the file, and counted as lost.

        Raises:
            Full: there is no memory.
            Unusable: the file broke, and there is no other.
        """
        return await self._do(lambda: self._folder.read(after))

    async def forget(self, through: int) -> bool:
        """Remove what is drained; whether that could be done."""
        return await self._do(lambda: self._folder.forget(through), look=True)

    async def drop(self, after: int) -> tuple[int, int]:
        """Remove the first entry after one; its number and its messages, 0 and 0 when there is none.

        Raises:
            Full, Unusable: as `append`.
        """
        return await self._do(lambda: self._folder.drop(after), look=True)

    async def fact(self, name: str) -> str:
        """Something noted; empty when it is not."""
        return await self._do(lambda: self._folder.fact(name))

    async def note(self, name: str, value: str) -> None:
        """Note something, if it can be."""
        await self._do(lambda: self._folder.note(name, value))

    async def _do(self, work: Callable[[], T], *, look: bool = False) -> T:
        def do() -> T:
            try:
                return work()
            finally:
                if look:
                    self._folder.look()

        return await asyncio.get_running_loop().run_in_executor(self._thread, do)


def open_shelf(spool: Spool) -> Shelf | None:
    """Open the spool that is configured; None when it is off, or cannot be used, which the log says."""
    if not spool.path:
        return None
    try:
        return Shelf(spool)
    except Unusable as unusable:
        log.warning(
            "spool_unusable",
            reason=str(unusable),
            means="while PostgreSQL is away messages wait in the broker",
            mend='a folder that the gateway may write, or spool.path = "" if that is as it should be',
        )
        return None
