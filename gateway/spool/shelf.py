"""The spool as the event loop sees it: a folder with one file in use, which may break, and be replaced.

All that touches the disk happens in a thread of its own, one thing at a time; the loop never waits for a
disk. The folder is of one gateway: a lock of the kernel's says so, and goes with the process that has it. A
file that cannot be used, whatever the reason, is set aside under a name with the time, and another one begun;
nothing is ever overwritten or thrown away. What was in it and is still legible goes along.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from gateway.spool.entry import Damaged, Record, pack, unpack
from gateway.spool.file import NAME, Broken, Entry, Extent, Full, SpoolFile
from runtime.settings import size_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runtime.settings import Spool

log = structlog.get_logger()
T = TypeVar("T")

LOCK: Final = "lock"
_TAKEN_ALONG: Final = 16  # entries at a time


class Unusable(Exception):  # noqa: N818  # no error: the gateway goes on without
    """There is no spool to be had at this path, for the reason given."""


class Shelf:
    """A spool that is open.

    Attributes:
        run: name of this process's entries.
        extent: what the file in use holds; kept up with.
        size_bytes: of the file, when it was last looked at.
        lost: messages of entries that were damaged, or could not be read any more.
        set_aside: files that were, by this process.
    """

    def __init__(self, folder: Path, spool: Spool) -> None:
        """Open the spool in a folder.

        Raises:
            Unusable: with what is wrong and what to do.
        """
        self.folder = folder
        self.run = str(uuid.uuid4())
        self.lost = 0
        self.set_aside: list[Path] = []
        self._spool = spool
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._lock = _hold(folder)
        try:
            self._file = self._begin()
        except BaseException:
            os.close(self._lock)
            raise
        self.extent = self._file.extent()
        self.size_bytes = self._file.size_bytes()

    @property
    def max_bytes(self) -> int:
        """Of the file in use."""
        return size_bytes(self._spool.max_bytes)

    async def close(self) -> None:
        """Close the file and let another process have the folder."""
        await self._do(self._file.close)
        self._thread.shutdown(wait=False)
        os.close(self._lock)

    async def append(self, records: Sequence[Record], *, place: int) -> int:
        """Append an entry; returns its number once it is durable.

        Args:
            records: in order, at least one.
            place: of the last of them.

        Raises:
            Full: there is no room; nothing was appended.
            Unusable: the file broke, and there is no other.
        """
        messages = sum(len(record.deliveries) for record in records)

        def append() -> int:
            body = pack(records)
            try:
                return self._file.append(body, place=place, messages=messages, at=records[0].at)
            except Broken as broken:
                self._replace(broken)
                return self._file.append(body, place=place, messages=messages, at=records[0].at)

        try:
            seq = await self._do(append)
        except Broken as broken:
            raise Unusable(str(broken)) from broken
        finally:
            await self._look()
        return seq

    async def read(self, after: int) -> tuple[Entry, list[Record]] | None:
        """The next entry with its records; None when there is none.

        What is damaged is passed over: it is kept beside the file, and counted as lost.

        Raises:
            Unusable: the file broke, and there is no other.
        """

        def read() -> tuple[Entry, list[Record]] | None:
            place = after
            while entries := self._read(place):
                (entry,) = entries
                try:
                    return entry, unpack(entry.body)
                except Damaged as damaged:
                    self._put_by(entry, damaged)
                    place = entry.seq
            return None

        return await self._do(read)

    async def forget(self, through: int) -> None:
        """Remove what is drained."""

        def forget() -> None:
            try:
                self._file.forget(through)
            except Full:
                pass  # next time: an emptier file takes room to write
            except Broken as broken:
                self._replace(broken, after=through)

        with contextlib.suppress(Unusable):  # whoever appends or reads next finds out as well
            await self._do(forget)
        await self._look()

    async def drop_oldest(self, after: int) -> tuple[int, int]:
        """Remove the first entry after one; see `SpoolFile.drop_oldest`."""
        with contextlib.suppress(Full, Broken):
            return await self._do(lambda: self._file.drop_oldest(after))
        return 0, 0

    def take(self, entry: Entry) -> None:
        """Append an entry of another file, with its run and place; for whoever recovers one, and blocks.

        Raises:
            Full, Broken: as `SpoolFile.append`.
        """
        self._file.take([entry._replace(seq=self._file.next_seq)])

    async def why_full(self) -> str:
        """Why nothing more can be appended; empty when it can."""
        try:
            return await self._do(self._file.why_full)
        except (Broken, Full) as error:
            return str(error)

    async def runs(self) -> list[str]:
        """Whose entries there are."""
        try:
            return await self._do(self._file.runs)
        except (Broken, Full):
            return []

    async def fact(self, name: str) -> str:
        """Something noted; empty when it is not."""
        try:
            return await self._do(lambda: self._file.fact(name))
        except (Broken, Full):
            return ""

    async def note(self, name: str, value: str) -> None:
        """Note something, if it can be."""
        with contextlib.suppress(Broken, Full):
            await self._do(lambda: self._file.note(name, value))

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _look(self) -> None:
        def look() -> tuple[Extent, int]:
            return self._file.extent(), self._file.size_bytes()

        with contextlib.suppress(Broken, Full):
            self.extent, self.size_bytes = await self._do(look)

    def _open(self) -> SpoolFile:
        return SpoolFile(
            self.folder / NAME,
            run=self.run,
            max_bytes=self.max_bytes,
            min_free_bytes=size_bytes(self._spool.min_free_bytes),
        )

    def _begin(self) -> SpoolFile:
        """Open the file that is there, or a new one when that cannot be used."""
        try:
            return self._open()
        except Full as full:
            raise Unusable(f"{self.folder}: {full}") from full
        except Broken as broken:
            self._put_aside(str(broken), messages=None)
        try:
            return self._open()
        except (Broken, Full) as error:
            raise Unusable(f"{self.folder}: {error}") from error

    def _read(self, after: int) -> list[Entry]:
        try:
            return self._file.read(after)
        except Broken as broken:
            self._replace(broken, after=after)
            return self._file.read(after)
        except Full as full:  # of memory
            raise Unusable(str(full)) from full

    def _replace(self, broken: Broken, after: int = 0) -> None:
        """Begin another file; what can still be read of this one and is not drained goes along.

        Raises:
            Unusable: there can be no other.
        """
        former, extent = self._file, self.extent
        if not broken.legible:
            former.close()
            if self._put_aside(str(broken), messages=extent.messages):
                self.lost += extent.messages
        self._hold_again()
        file = self._begin()
        if broken.legible and file.extent().last:  # another card is in: not ours to write between
            file.close()
            self._put_aside("it came where ours was", messages=None)
            file = self._begin()
        self._file = file
        file.continue_after(extent)
        if broken.legible:
            log.error("spool_gone", path=str(self.folder), reason=str(broken), messages=extent.messages)
            self._take_along(former, max(after, extent.first - 1))
            former.close()

    def _hold_again(self) -> None:
        """Lock the folder that is there now, unless it is the same."""
        try:
            there, ours = (self.folder / LOCK).stat(), os.fstat(self._lock)
        except OSError:
            pass
        else:
            if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                return
        self._lock, lock = _hold(self.folder), self._lock
        os.close(lock)

    def _take_along(self, former: SpoolFile, after: int) -> None:
        while entries := former.read(after, _TAKEN_ALONG):
            self._file.take(entries)
            after = entries[-1].seq

    def _put_aside(self, reason: str, messages: int | None) -> bool:
        """Give a file that cannot be used another name, and say so; whether there was one."""
        if not (self.folder / NAME).exists():
            return False
        now = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
        aside = self.folder / f"aside-{now}.db"
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                (self.folder / f"{NAME}{suffix}").rename(aside.with_name(f"{aside.name}{suffix}"))
        self.set_aside.append(aside)
        log.error(
            "spool_set_aside",
            path=str(aside),
            reason=reason,
            messages=messages,
            mend=f"stop the gateway; gateway spool recover {aside}; start it",
        )
        return True

    def _put_by(self, entry: Entry, damaged: Damaged) -> None:
        """Keep what is left of an entry that is damaged."""
        path = self.folder / f"damaged-{entry.run[:8]}-{entry.place}.bin"
        with contextlib.suppress(OSError):
            path.write_bytes(entry.body)
        self.lost += entry.messages
        log.error("spool_entry_damaged", path=str(path), messages=entry.messages, reason=str(damaged))


def _hold(folder: Path) -> int:
    """Make the folder if it is not there, and lock it; returns the lock's descriptor.

    Raises:
        Unusable: it cannot be made or written, or another process has it.
    """
    try:
        folder.mkdir(exist_ok=True)  # what it stands in belongs to whoever set the machine up
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unusable(f"{folder}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise Unusable(
            f"{folder} is in use by another process: give each gateway its own spool.path"
        ) from error
    return lock


def open_shelf(spool: Spool) -> Shelf | None:
    """Open the spool that is configured; None when it is off, or cannot be used, which the log says."""
    if not spool.path:
        return None
    try:
        return Shelf(Path(spool.path), spool)
    except Unusable as unusable:
        log.warning(
            "spool_unusable",
            reason=str(unusable),
            means="while PostgreSQL is away messages wait in the broker",
            mend='a folder that the gateway may write, or spool.path = "" if that is as it should be',
        )
        return None
