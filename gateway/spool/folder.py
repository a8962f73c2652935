"""A folder with one file in use, which may break, and be replaced. For a thread; blocks.

The folder is of one gateway: a lock of the kernel's says so, and goes with the process that has it. A file
that cannot be used, whatever the reason, is set aside under a name with the time, and another one begun;
nothing is ever overwritten or thrown away. What was in it and is still legible goes along. Whoever writes on
in another file does it under another name, a run of its own: how far one is drained then says nothing of the
other, which may come back.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import uuid
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from gateway.spool.entry import Damaged, Packed, Record, pack, unpack
from gateway.spool.file import NAME, Broken, Entry, Extent, Full, Numbers, SpoolFile
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


class _Former:
    """A file that is there no more but for this process, which has it open.

    Attributes:
        after: the entry up to which it is drained, or is in the next file.
        last: entry that was appended with success.
        messages: that are in neither.
    """

    def __init__(self, file: SpoolFile, after: int, messages: int) -> None:
        self.file = file
        self.after = after
        self.last = file.numbers.entries
        self.messages = messages


class Folder:
    """A spool that is open.

    Attributes:
        path: of the folder.
        extent: what the file in use holds, when it was last looked at.
        size_bytes: of it, likewise.
        runs: names of this process's entries; the last is that of what is appended now.
        lost: messages of entries that were damaged, or could not be read any more.
        set_aside: files that were, by this process.
    """

    def __init__(self, spool: Spool) -> None:
        """Open the spool in a folder.

        Raises:
            Unusable: with what is wrong and what to do.
        """
        self.path = Path(spool.path)
        self.runs = [str(uuid.uuid4())]
        self.lost = 0
        self.set_aside: list[Path] = []
        self._spool = spool
        self.extent = Extent()
        self.size_bytes = 0
        self._numbers = Numbers()
        self._formers: list[_Former] = []
        self._lock = _hold(self.path)
        self._file: SpoolFile | None = None
        try:
            self._in_use()
            self.look()
        except BaseException:
            os.close(self._lock)
            raise

    def close(self) -> None:
        """Close the file and let another process have the folder."""
        if self._file is not None:
            self._file.close()
        for former in self._formers:
            self._lose(former, "the next file has no room for it")
        os.close(self._lock)

    def append(self, records: Sequence[Record], *, place: int) -> int:
        """Append an entry; see `Shelf.append`."""
        messages = sum(len(record.deliveries) for record in records)

        def append(file: SpoolFile) -> int:
            if self._formers:
                raise Full("what was in the file before has no room in it")
            body = pack(Packed(self.runs[-1], place, list(records)))
            return file.append(body, messages=messages, at=records[0].at)

        return self._with_file(append)

    def read(self, after: int) -> tuple[int, Packed] | None:
        """The next entry; see `Shelf.read`."""
        while entries := self._with_file(partial(SpoolFile.read, after=after), after=after):
            (entry,) = entries
            try:
                return entry.seq, unpack(entry.body)
            except Damaged as damaged:
                self._put_by(entry, damaged)
                after = entry.seq
        return None

    def take(self, entry: Entry) -> None:
        """Append an entry of another file as it is.

        Raises:
            Full, Unusable: as `append`.
        """
        self._with_file(lambda file: file.take([entry._replace(seq=file.numbers.entries + 1)]))

    def forget(self, through: int) -> bool:
        """Remove what is drained; whether that could be done."""
        try:
            self._with_file(lambda file: file.forget(through), after=through)
        except (Full, Unusable):
            return False
        return True

    def drop(self, after: int) -> tuple[int, int]:
        """Remove the first entry after one; see `SpoolFile.drop`.

        Raises:
            Full, Unusable: as `append`.
        """
        return self._with_file(lambda file: file.drop(after), after=after)

    def fact(self, name: str) -> str:
        """Something noted; empty when it is not."""
        try:
            return self._with_file(lambda file: file.fact(name))
        except (Full, Unusable):
            return ""

    def note(self, name: str, value: str) -> None:
        """Note something, if it can be."""
        with contextlib.suppress(Full, Unusable):
            self._with_file(lambda file: file.note(name, value))

    def look(self) -> None:
        """See what the file holds, if it can be seen."""
        with contextlib.suppress(Full, Unusable):
            self.extent, self.size_bytes = self._with_file(lambda file: (file.extent(), file.size_bytes()))

    def _with_file(self, work: Callable[[SpoolFile], T], *, after: int = 0) -> T:
        """Do something with the file in use, or with the next one when that breaks.

        Args:
            work: what; done once more when it broke.
            after: the entry up to which everything is drained.

        Raises:
            Full: there is no room.
            Unusable: it broke, and there is no other.
        """
        file = self._in_use()
        try:
            try:
                self._take_along(file)
                return work(file)
            except Broken as broken:
                file = self._replace(file, broken, max(after, self.extent.first - 1))
                self._take_along(file)
                return work(file)
        except Broken as broken:
            raise Unusable(f"{self.path}: {broken}") from broken
        finally:
            self._numbers = file.numbers

    def _in_use(self) -> SpoolFile:
        """The file that is open; opens it, or a new one when it cannot be used.

        Raises:
            Unusable: there is none.
        """
        if self._file is not None:
            return self._file
        self._hold_again()
        try:
            try:
                file = self._open()
            except Broken as broken:
                self._put_aside(str(broken), messages=None)
                file = self._open()
            if self._formers and file.numbers.entries:  # another card is in: not ours to write between
                file.close()
                self._put_aside("it came where ours was", messages=None)
                file = self._open()
        except (Broken, Full) as error:
            raise Unusable(f"{self.path}: {error}") from error
        _leave_to_owner(self.path)
        file.continue_after(self._numbers)
        self._file = file
        return file

    def _replace(self, file: SpoolFile, broken: Broken, after: int) -> SpoolFile:
        """Begin another file; what can still be read of this one and is not drained goes along.

        Raises:
            Unusable: there can be no other, for now.
        """
        self._file, messages = None, self.extent.messages
        self._numbers = file.numbers
        if broken.legible:
            log.error("spool_gone", path=str(self.path), reason=str(broken), messages=messages)
            self._formers.append(_Former(file, after, messages))
        else:
            file.close()
            self._put_aside(str(broken), messages=messages)
            self.lost += messages
        self.runs.append(str(uuid.uuid4()))
        return self._in_use()

    def _take_along(self, file: SpoolFile) -> None:
        """Put into a file what is in those before it; what has no room waits."""
        while self._formers:
            former = self._formers[0]
            try:
                entries = [
                    each for each in former.file.read(former.after, _TAKEN_ALONG) if each.seq <= former.last
                ]
            except Broken as broken:
                self._lose(self._formers.pop(0), str(broken))
                continue
            if not entries:
                self._formers.pop(0).file.close()
                continue
            try:
                file.take(entries)
            except Full:
                entries = entries[:1]
                try:
                    file.take(entries)
                except Full:
                    return
            former.after = entries[-1].seq
            former.messages -= sum(entry.messages for entry in entries)

    def _lose(self, former: _Former, reason: str) -> None:
        former.file.close()
        self.lost += max(0, former.messages)
        log.error("spool_lost", messages=former.messages, reason=reason)

    def _hold_again(self) -> None:
        """Lock the folder that is there now, unless it is the same."""
        try:
            there, ours = (self.path / LOCK).stat(), os.fstat(self._lock)
        except OSError:
            pass
        else:
            if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                return
        self._lock, lock = _hold(self.path), self._lock
        os.close(lock)

    def _put_aside(self, reason: str, messages: int | None) -> None:
        """Give a file that cannot be used another name, and say so.

        Raises:
            Unusable: it cannot have one.
        """
        now = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
        aside = self.path / f"aside-{now}.db"
        try:
            (self.path / NAME).rename(aside)
        except OSError as error:
            raise Unusable(
                f"{self.path}: {reason}, and {NAME} cannot be renamed: {error.strerror}"
            ) from error
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(OSError):
                (self.path / f"{NAME}{suffix}").rename(aside.with_name(f"{aside.name}{suffix}"))
        self.set_aside.append(aside)
        log.error(
            "spool_set_aside",
            path=str(aside),
            reason=reason,
            messages=messages,
            mend=f"stop the gateway; gateway spool recover {aside}; start it",
        )

    def _put_by(self, entry: Entry, damaged: Damaged) -> None:
        """Keep what is left of an entry that is damaged beside the file, and not in it."""
        path = self.path / f"damaged-{entry.seq}-{uuid.uuid4()}.bin"
        self.lost += entry.messages
        log.error("spool_entry_damaged", path=str(path), messages=entry.messages, reason=str(damaged))
        with contextlib.suppress(OSError, Full, Unusable):
            path.write_bytes(entry.body)
            self.drop(entry.seq - 1)

    def _open(self) -> SpoolFile:
        return SpoolFile(
            self.path / NAME,
            max_bytes=size_bytes(self._spool.max_bytes),
            min_free_bytes=size_bytes(self._spool.min_free_bytes),
        )


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


def _leave_to_owner(folder: Path) -> None:
    """Let what a command of root's makes belong to whose folder it is, or the gateway could not use it."""
    if os.geteuid() == 0:
        owner = folder.stat()
        for path in (*folder.glob(f"{NAME}*"), folder / LOCK):
            os.chown(path, owner.st_uid, owner.st_gid)
