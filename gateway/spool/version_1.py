"""Files of version 1, in which run and place of an entry stood beside its body, and not in it.

Who opens one to use it makes it one of today's, which an outage must not have to wait for: a few entries a
transaction, each in the room of the one that it replaces, and goes on where it was left when it was killed.
Who only looks sees it as one of today's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import zstandard

from gateway.spool.entry import compress, decompress
from runtime.postgres import load_queries

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from contextlib import AbstractContextManager

queries = load_queries("gateway.spool")

_AT_ONCE: Final = 16


def is_former(connection: sqlite3.Connection) -> bool:
    """Whether a file is one, or was left on the way."""
    return bool(connection.execute(queries.has_runs).fetchone()[0])


def is_begun(connection: sqlite3.Connection) -> bool:
    """Whether it was left on the way."""
    return bool(connection.execute(queries.has_former_entries).fetchone()[0])


def show(connection: sqlite3.Connection) -> None:
    """Let a connection that only reads see a file as one of today's."""
    connection.create_function("packed", 3, _packed, deterministic=True)
    connection.execute(queries.show_former_entries)
    connection.execute(queries.show_nothing_dropped)


def convert(connection: sqlite3.Connection, transaction: Callable[[], AbstractContextManager[None]]) -> None:
    """Make a file one of today's but for its number of version."""
    run = connection.execute
    connection.create_function("packed", 3, _packed, deterministic=True)
    if not is_begun(connection):
        with transaction():
            run(queries.put_former_entries_by)
            run(queries.make_entries)
            run(queries.make_dropped)
    left = True
    while left:
        with transaction():
            for _ in range(_AT_ONCE):
                row = run(queries.former_entry).fetchone()
                if left := row is not None:
                    run(queries.forget_former_entry, row[:1])
                    run(queries.append, row)
                else:
                    break
    with transaction():
        run(queries.forget_former_entries)
        run(queries.forget_runs)


def _packed(run: str, place: int, body: bytes) -> bytes:
    """The body that an entry has today; one that is damaged stays so, which is found when it is read."""
    try:
        records = decompress(body)
    except zstandard.ZstdError:
        return body
    return compress(msgspec.msgpack.encode((run, place, msgspec.Raw(records))))
