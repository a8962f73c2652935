"""One file of the spool: SQLite, a transaction an entry, durable when `append` returns. For a thread.

An append is believed when SQLite has synced it and the file is still the one that was opened: who removes the
folder, or the card under it, takes the name away and not the open file, and all that is written from then on
is lost with it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gateway.spool import version_1
from runtime.postgres import load_queries

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

queries = load_queries("gateway.spool")

NAME: Final = "spool.db"
APPLICATION: Final = 0x4D514547
VERSION: Final = 2

_JOURNAL_BYTES: Final = 8_000_000  # a journal that grew beyond is cut when its pages are in the file
_BUSY_MS: Final = 5000
_COMPACTED: Final = 2000  # pages from which on an empty file gives its room back
_FULL: Final = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_SPARE_BYTES: Final = 1_000_000


class Full(Exception):  # noqa: N818  # no error: wait, or drop
    """There is no room; or somebody else is at the file for long."""


class Broken(Exception):  # noqa: N818  # no error: begin another file
    """The file cannot be used, or not any more.

    Attributes:
        legible: whether what it holds can still be read, though nothing that is written now would last.
    """

    def __init__(self, reason: str, *, legible: bool = False) -> None:
        super().__init__(reason)
        self.legible = legible


class Entry(NamedTuple):
    """A row; see `sql/file.sql`."""

    seq: int
    messages: int
    at: str
    body: bytes


class Extent(NamedTuple):
    """What a file holds.

    Attributes:
        first: entry; 0 when there is none.
        last: entry; likewise.
        messages: that are in it.
        oldest: when its first entry came, ISO 8601; empty when there is none.
    """

    first: int = 0
    last: int = 0
    messages: int = 0
    oldest: str = ""


class Numbers(NamedTuple):
    """How far entries, and the messages in them, were ever counted, as far as a file tells."""

    entries: int = 0
    messages: int = 0


class SpoolFile:
    """An open file, of the thread that opened it and those it takes turns with.

    Args:
        path: of the database.
        max_bytes: of the file.
        min_free_bytes: that are left to others on its disk.

    Attributes:
        numbers: of what is appended next.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        min_free_bytes: int = 0,
    ) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._min_free_bytes = min_free_bytes
        with self._told():
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            with self._told():
                self._prepare()
                self.numbers = Numbers(*(each or 0 for each in self._row(queries.numbers)))
            self._identity = _identity(path)
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close it; what was appended stays."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    def extent(self) -> Extent:
        """What it holds.

        Raises:
            Broken: a page of it cannot be read.
        """
        with self._told():
            return extent_of(self._connection)

    def continue_after(self, numbers: Numbers) -> None:
        """Number what is appended behind what another file had."""
        self.numbers = Numbers(*map(max, self.numbers, numbers))

    def append(self, body: bytes, *, messages: int, at: str) -> int:
        """Append an entry and wait until it is durable; returns its number.

        Raises:
            Full: nothing was appended.
            Broken: nothing was appended that will last.
        """
        self.take([Entry(self.numbers.entries + 1, messages, at, body)])
        return self.numbers.entries

    def take(self, entries: Sequence[Entry]) -> None:
        """Append entries under their own numbers, which are higher than any that are there.

        Raises:
            Full, Broken: as `append`.
        """
        if why := self.why_full(sum(len(entry.body) for entry in entries)):
            raise Full(why)
        seq, through = self.numbers
        with self._told(), self._transaction():
            for seq, messages, at, body in entries:
                through += messages
                self._connection.execute(queries.append, (seq, messages, through, at, body))
        self._refuse_if_gone()
        self.numbers = Numbers(max(seq, self.numbers.entries), through)

    def read(self, after: int, count: int = 1) -> list[Entry]:
        """The next entries.

        Raises:
            Broken: a page of it cannot be read.
        """
        with self._told():
            return read_from(self._connection, after, count)

    def forget(self, through: int) -> None:
        """Remove entries that are drained; an empty file gives its room back.

        Raises:
            Full: it takes room to write that; nothing was removed.
            Broken: nothing was.
        """
        with self._told():
            with self._transaction():
                self._connection.execute(queries.forget, (through,))
                self._connection.execute(queries.forget_dropped)
            if not self.extent().first and self._pages() > _COMPACTED:
                self._connection.execute("VACUUM")
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def drop(self, after: int) -> tuple[int, int]:
        """Remove the first entry after one; its number and its messages, 0 and 0 when there is none."""
        with self._told(), self._transaction():
            row = self._connection.execute(queries.oldest, (after,)).fetchone()
            if row is None:
                return 0, 0
            seq, messages, is_between = row
            self._connection.execute(queries.drop_entry, (seq,))
            self._connection.execute(queries.forget_dropped)
            if is_between:
                self._connection.execute(queries.begin_dropped)
                self._connection.execute(queries.count_dropped, (seq, messages))
        return int(seq), int(messages)

    def fact(self, name: str) -> str:
        """Something noted; empty when it is not."""
        with self._told():
            row = self._connection.execute(queries.fact, (name,)).fetchone()
        return str(row[0]) if row else ""

    def note(self, name: str, value: str) -> None:
        """Note something."""
        if self.fact(name) != value:
            with self._told(), self._transaction():
                self._connection.execute(queries.note_fact, (name, value))

    def size_bytes(self) -> int:
        """What entries take, their journal and pages that are free again left aside."""
        with self._told():
            return (self._pages() - self._free_pages()) * self._page_bytes

    def why_full(self, more: int = 0) -> str:
        """Why there is no room for so many bytes; empty when there is.

        Raises:
            Broken: there is no folder.
        """
        size = self.size_bytes()
        if size + more > self._max_bytes:
            return f"{size:,} bytes are in it, and spool.max_bytes is {self._max_bytes:,}"
        free = self._free_on_disk() + self._free_pages() * self._page_bytes
        if free - more < self._min_free_bytes:
            return (
                f"{free:,} bytes are free on its disk, and spool.min_free_bytes is {self._min_free_bytes:,}"
            )
        return ""

    def _free_on_disk(self) -> int:
        try:
            disk = os.statvfs(self.path.parent)
        except OSError as error:
            raise Broken(f"{self.path.parent}: {error.strerror}", legible=True) from error
        return disk.f_bavail * disk.f_frsize

    def _pages(self) -> int:
        return int(self._row("PRAGMA page_count")[0])

    def _free_pages(self) -> int:
        return int(self._row("PRAGMA freelist_count")[0])

    def _prepare(self) -> None:
        run = self._connection.execute
        run(f"PRAGMA busy_timeout = {_BUSY_MS}")
        (application,), (version,) = self._row("PRAGMA application_id"), self._row("PRAGMA user_version")
        (tables,) = self._row("SELECT count(*) FROM sqlite_schema")
        if tables and application != APPLICATION:
            raise Broken("it is a database of somebody else")
        if version > VERSION:
            raise Broken(f"it is of version {version}, and this gateway knows {VERSION}")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        run(f"PRAGMA journal_size_limit = {_JOURNAL_BYTES}")
        self._page_bytes = int(self._row("PRAGMA page_size")[0])
        run(f"PRAGMA max_page_count = {max(64, (self._max_bytes + _SPARE_BYTES) // self._page_bytes)}")
        if not tables:
            with self._transaction():
                run(f"PRAGMA application_id = {APPLICATION}")
                run(queries.make_entries)
                run(queries.make_dropped)
                run(queries.make_facts)
        elif version_1.is_former(self._connection):
            version_1.convert(self._connection, self._transaction)
        if version != VERSION:
            run(f"PRAGMA user_version = {VERSION}")

    def _row(self, statement: str, *arguments: object) -> tuple[Any, ...]:
        row: tuple[Any, ...] = self._connection.execute(statement, arguments).fetchone()
        return row

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what SQLite says into what is to be done.

        Raises:
            Full: there is no room; also where SQLite calls that an error of the disk, such as for `-shm`.
            Broken: anything else.
        """
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in _FULL or (code == sqlite3.SQLITE_IOERR and self._free_on_disk() < _SPARE_BYTES):
                raise Full(f"{error}") from error
            raise Broken(f"{error}") from error

    def _refuse_if_gone(self) -> None:
        if _identity(self.path) != self._identity:
            raise Broken("it is not there any more: its folder was removed or replaced", legible=True)


def _identity(path: Path) -> tuple[tuple[int, int], ...]:
    """Which files these are: the database and its journal."""
    found = []
    for each in (path, path.with_name(f"{path.name}-wal")):
        try:
            status = each.stat()
        except OSError:
            return ()
        found.append((status.st_dev, status.st_ino))
    return tuple(found)


def extent_of(connection: sqlite3.Connection) -> Extent:
    """What a file holds, by any connection to it."""
    first, last, messages, oldest = connection.execute(queries.ends).fetchone()
    return Extent(first or 0, last or 0, messages or 0, oldest or "")


def read_from(connection: sqlite3.Connection, after: int, count: int) -> list[Entry]:
    """The next entries of a file, by any connection to it."""
    return [Entry(*row) for row in connection.execute(queries.read, (after, count))]
