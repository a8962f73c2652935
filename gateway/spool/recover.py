"""What can be saved of a file that was set aside: each entry that is whole goes into the spool.

Entry by entry, by number, so that a page that cannot be read costs those that lie on it and no others. They
keep their runs and places: what PostgreSQL knows to be drained is not drained again.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, NamedTuple

from gateway.spool.entry import Damaged, unpack
from gateway.spool.file import Entry, Full, extent_of, read_from
from gateway.spool.folder import Unusable
from gateway.spool.reports import opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gateway.spool.folder import Folder


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


def recover(path: Path, folder: Folder) -> Recovered:
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
                folder.take(entry)
            except Full as full:
                raise Unusable(f"{folder.path}: {full}; {messages:,} messages are in it") from full
            messages += entry.messages
    return Recovered(messages, damaged, unreadable)


def _entries(connection: sqlite3.Connection) -> Iterator[Entry | None]:
    """Each entry, and None for each number at which there is something that cannot be read."""
    extent = extent_of(connection)
    after = extent.first - 1
    while after < extent.last:
        try:
            entries = read_from(connection, after, 1)
        except sqlite3.DatabaseError:
            after += 1
            yield None
            continue
        if not entries:
            return
        after = entries[0].seq
        yield entries[0]
