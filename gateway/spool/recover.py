"""What can be saved of a file that was set aside: each entry that is whole goes into the spool.

Entry by entry, by number, so that a page that cannot be read costs those that lie on it and no others. They
keep their runs and places: what PostgreSQL knows to be drained is not drained again.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, NamedTuple

from gateway.spool.entry import Damaged, unpack
from gateway.spool.file import Broken, Entry, Full, queries
from gateway.spool.reports import opened
from gateway.spool.shelf import Unusable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gateway.spool.shelf import Shelf


class Recovered(NamedTuple):
    """What came of it.

    Attributes:
        messages: that are in the spool now.
        damaged: entries that are not what was written.
        unreadable: places at which the file could not be read.
    """

    messages: int
    damaged: int
    unreadable: int


def recover(path: Path, shelf: Shelf) -> Recovered:
    """Put what is whole in a file into the spool.

    Raises:
        Unusable: nothing of the file can be read, or the spool takes no more.
    """
    messages = damaged = unreadable = 0
    with opened(path) as connection:
        for entry in _entries(connection):
            if entry is None:
                unreadable += 1
                continue
            try:
                unpack(entry.body)
            except Damaged:
                damaged += 1
                continue
            try:
                shelf.take(entry)
            except (Broken, Full) as error:
                raise Unusable(f"{shelf.folder}: {error}") from error
            messages += entry.messages
    return Recovered(messages, damaged, unreadable)


def _entries(connection: sqlite3.Connection) -> Iterator[Entry | None]:
    """Each entry, and None for each number at which there is something that cannot be read."""
    after, last = _ends(connection)
    while after < last:
        try:
            rows = connection.execute(queries.read, (after, 1)).fetchall()
        except sqlite3.DatabaseError:
            after += 1
            yield None
            continue
        if not rows:
            return
        (seq, run, place, messages, at, body) = rows[0]
        after = seq
        yield Entry(seq, run or "", place, messages, at, bytes(body))


def _ends(connection: sqlite3.Connection) -> tuple[int, int]:
    first, last, *_ = connection.execute(queries.ends).fetchone()
    return (first or 0) - 1, last or 0
