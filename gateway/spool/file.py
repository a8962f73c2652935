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

from runtime.postgres import load_queries

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

queries = load_queries("gateway.spool")

NAME: Final = "spool.db"
APPLICATION: Final = 0x4D514547
VERSION: Final = 1

_PAGE_BYTES: Final = 4096
_JOURNAL_BYTES: Final = 8_000_000  # a journal that grew beyond is cut when its pages are in the file
_BUSY_MS: Final = 5000
_COMPACTED: Final = 8_000_000  # an empty file that is larger gives its room back
_FULL: Final = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM}
_SPARE_BYTES: Final = 1_000_000


class Full(Exception):  # noqa: N818  # no error: wait, or drop
    """There is no room."""


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
    run: str
    place: int
    messages: int
    at: str
    body: bytes


class Extent(NamedTuple):
    """What a file holds.

    Attributes:
        first: entry; 0 when there is none.
        last: entry that was ever appended, as far as the file tells.
        messages: about, when entries were dropped out of the middle.
        oldest: when its first entry came, ISO 8601; empty when there is none.
        through: messages that were ever appended, likewise.
    """

    first: int = 0
    last: int = 0
    messages: int = 0
    oldest: str = ""
    through: int = 0


class SpoolFile:
    """An open file, of the thread that opened it and those it takes turns with.

    Args:
        path: of the database.
        run: name of this process's entries.
        max_bytes: of the file.
        min_free_bytes: that are left to others on its disk.
        page_bytes: of a new file.
    """

    def __init__(
        self,
        path: Path,
        *,
        run: str,
        max_bytes: int,
        min_free_bytes: int = 0,
        page_bytes: int = _PAGE_BYTES,
    ) -> None:
        self.path = path
        self.run = run
        self._max_bytes = max_bytes
        self._min_free_bytes = min_free_bytes
        with _told():
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            with _told():
                self._prepare(page_bytes)
            self._identity = _identity(path)
            self._run = 0
            self._last = self.extent()
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close it; what was appended stays."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    def extent(self) -> Extent:
        """What it holds."""
        first, last, messages, oldest, through = self._row(queries.ends)
        return Extent(first or 0, last or 0, messages or 0, oldest or "", through or 0)

    @property
    def next_seq(self) -> int:
        """The number of the next entry."""
        return self._last.last + 1

    def continue_after(self, last: Extent) -> None:
        """Number what is appended behind what another file had."""
        self._last = self._last._replace(
            last=max(self._last.last, last.last), through=max(self._last.through, last.through)
        )

    def append(self, body: bytes, *, place: int, messages: int, at: str) -> int:
        """Append an entry and wait until it is durable; returns its number.

        Raises:
            Full: nothing was appended.
            Broken: nothing was appended that will last.
        """
        self._refuse_if_full(len(body))
        seq, through = self._last.last + 1, self._last.through + messages
        with _told(), self._transaction():
            if not self._run:
                self._connection.execute(queries.begin_run, (self.run,))
                (self._run,) = self._row(queries.run_of, self.run)
            self._connection.execute(queries.append, (seq, self._run, place, messages, through, at, body))
        self._refuse_if_gone()
        self._last = self._last._replace(last=seq, through=through)
        return seq

    def take(self, entries: Sequence[Entry]) -> None:
        """Append entries of another file under their own numbers and runs.

        Raises:
            Full, Broken: as `append`.
        """
        self._refuse_if_full(sum(len(entry.body) for entry in entries))
        through, last = self._last.through, self._last.last
        with _told(), self._transaction():
            for entry in entries:
                self._connection.execute(queries.begin_run, (entry.run,))
                (run,) = self._row(queries.run_of, entry.run)
                through += entry.messages
                last = max(last, entry.seq)
                row = (entry.seq, run, entry.place, entry.messages, through, entry.at, entry.body)
                self._connection.execute(queries.append, row)
        self._refuse_if_gone()
        self._last = self._last._replace(last=last, through=through)

    def read(self, after: int, count: int = 1) -> list[Entry]:
        """The next entries.

        Raises:
            Broken: a page of it cannot be read.
        """
        with _told():
            rows = self._connection.execute(queries.read, (after, count)).fetchall()
        return [
            Entry(seq, run or "", place, messages, at, bytes(body))
            for seq, run, place, messages, at, body in rows
        ]

    def forget(self, through: int) -> None:
        """Remove entries that are drained, or cannot be; an empty file gives its room back."""
        with _told():
            with self._transaction():
                self._connection.execute(queries.forget, (through,))
                self._connection.execute(queries.forget_runs, (self.run,))
            if not self.extent().first and self.size_bytes() > _COMPACTED:
                self._connection.execute("VACUUM")
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def drop_oldest(self, after: int) -> tuple[int, int]:
        """Remove the first entry after one; its number and its messages, 0 and 0 when there is none."""
        with _told(), self._transaction():
            row = self._connection.execute(queries.oldest, (after,)).fetchone()
            if row is None:
                return 0, 0
            self._connection.execute(queries.drop_entry, (row[0],))
        return int(row[0]), int(row[1])

    def runs(self) -> list[str]:
        """Whose entries there are."""
        with _told():
            return [name for (name,) in self._connection.execute(queries.names_of_runs)]

    def fact(self, name: str) -> str:
        """Something noted; empty when it is not."""
        with _told():
            row = self._connection.execute(queries.fact, (name,)).fetchone()
        return str(row[0]) if row else ""

    def note(self, name: str, value: str) -> None:
        """Note something."""
        if self.fact(name) != value:
            with _told(), self._transaction():
                self._connection.execute(queries.note_fact, (name, value))

    def size_bytes(self) -> int:
        """What entries take, their journal left aside."""
        with _told():
            (pages,) = self._row("PRAGMA page_count")
            (free,) = self._row("PRAGMA freelist_count")
            (page,) = self._row("PRAGMA page_size")
        return (int(pages) - int(free)) * int(page)

    def why_full(self, more: int = 0) -> str:
        """Why there is no room for so many bytes; empty when there is."""
        size = self.size_bytes()
        if size + more > self._max_bytes:
            return f"{size:,} bytes are in it, and spool.max_bytes is {self._max_bytes:,}"
        try:
            disk = os.statvfs(self.path.parent)
        except OSError as error:
            raise Broken(f"{self.path.parent}: {error.strerror}", legible=True) from error
        free = disk.f_bavail * disk.f_frsize
        if free - more < self._min_free_bytes:
            return (
                f"{free:,} bytes are free on its disk, and spool.min_free_bytes is {self._min_free_bytes:,}"
            )
        return ""

    def _prepare(self, page_bytes: int) -> None:
        run = self._connection.execute
        run(f"PRAGMA busy_timeout = {_BUSY_MS}")
        (application,), (version,) = self._row("PRAGMA application_id"), self._row("PRAGMA user_version")
        (tables,) = self._row("SELECT count(*) FROM sqlite_schema")
        if tables and application != APPLICATION:
            raise Broken("it is a database of somebody else")
        if version > VERSION:
            raise Broken(f"it is of version {version}, and this gateway knows {VERSION}")
        if not tables:
            run(f"PRAGMA page_size = {page_bytes}")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        run(f"PRAGMA journal_size_limit = {_JOURNAL_BYTES}")
        (page,) = self._row("PRAGMA page_size")
        run(f"PRAGMA max_page_count = {max(64, (self._max_bytes + _SPARE_BYTES) // page)}")
        if not tables:
            with self._transaction():
                run(f"PRAGMA application_id = {APPLICATION}")
                run(f"PRAGMA user_version = {VERSION}")
                run(queries.make_runs)
                run(queries.make_entries)
                run(queries.make_facts)

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

    def _refuse_if_full(self, more: int) -> None:
        if why := self.why_full(more):
            raise Full(why)

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


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn what SQLite says into what is to be done.

    Raises:
        Full: there is no room.
        Broken: anything else.
    """
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _FULL:
            raise Full(f"{error}") from error
        raise Broken(f"{error}") from error
