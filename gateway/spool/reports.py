"""A spool looked at from outside, while its gateway runs or does not: nothing is changed."""

from __future__ import annotations

import base64
import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from gateway.spool import version_1
from gateway.spool.entry import Damaged, unpack
from gateway.spool.file import APPLICATION, VERSION, Entry, Extent, extent_of, read_from
from gateway.spool.folder import Unusable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BUSY_S: Final = 5.0


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a file to read it.

    Raises:
        Unusable: it is not there, or no spool that this version knows.
    """
    if not path.exists():
        raise Unusable(f"{path} is not there")
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=_BUSY_S)
    except sqlite3.Error as error:
        raise Unusable(f"{path}: {error}") from error
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION or version > VERSION:
            raise Unusable(f"{path} is no spool of version {VERSION} or before")
        if version_1.is_begun(connection):
            raise Unusable(f"{path} is on its way from version 1 to {VERSION}: the gateway goes on with it")
        if version_1.is_former(connection):
            version_1.show(connection)
        yield connection
    except sqlite3.Error as error:
        raise Unusable(f"{path}: {error}") from error
    finally:
        connection.close()


def extent(path: Path) -> Extent:
    """What a file holds.

    Raises:
        Unusable: it cannot be read.
    """
    with opened(path) as connection:
        return extent_of(connection)


def entries(path: Path) -> Iterator[Entry]:
    """All entries that can be read, in order.

    Raises:
        Unusable: the file cannot be read, or not further.
    """
    after = -1
    with opened(path) as connection:
        while found := read_from(connection, after, 1):
            yield found[0]
            after = found[0].seq


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """All messages, in order; an entry that is damaged is one that says so.

    Raises:
        Unusable: as `entries`.
    """
    for entry in entries(path):
        try:
            records = unpack(entry.body).records
        except Damaged as damaged:
            yield {"damaged": str(damaged), "messages": entry.messages, "received_at": entry.at}
            continue
        for record in records:
            for each in record.deliveries:
                line: dict[str, Any] = {"received_at": record.at, "topic": each.topic, "qos": each.qos}
                if each.retain:
                    line["retain"] = True
                if each.user_properties:
                    line["user_properties"] = list(map(list, each.user_properties))
                try:
                    line["payload"] = each.payload.decode()
                except UnicodeDecodeError:
                    line["payload_base64"] = base64.b64encode(each.payload).decode()
                yield line
