"""A spool that a gateway before has left, in a file of version 1: nothing of it is lost by an upgrade."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

import msgspec
import pytest
import zstandard

from gateway.spool import version_1
from gateway.spool.entry import Kept, Record
from gateway.spool.file import APPLICATION, NAME
from gateway.spool.folder import Folder, Unusable
from gateway.spool.recover import recover
from gateway.spool.reports import extent, lines
from runtime.settings import Spool

if TYPE_CHECKING:
    from pathlib import Path

AT = "2026-11-23T09:00:00+00:00"
RUNS = ("6b0e7c1e-0000-4000-8000-000000000001", "6b0e7c1e-0000-4000-8000-000000000002")
LAYOUT = f"""
PRAGMA journal_mode = WAL;
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = 1;
CREATE TABLE runs (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE entries (
    seq      INTEGER PRIMARY KEY,
    run      INTEGER NOT NULL,
    place    INTEGER NOT NULL,
    messages INTEGER NOT NULL,
    through  INTEGER NOT NULL,
    at       TEXT    NOT NULL,
    body     BLOB    NOT NULL
);
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


def body(number: int) -> bytes:
    records = [Record(AT, [Kept("devices/a1/telemetry", b"%d" % number, 1)], 3, 1, f"{AT} before", AT, 7)]
    return zstandard.ZstdCompressor(level=1, write_checksum=True).compress(msgspec.msgpack.encode(records))


def written(path: Path, entries: int = 40, damaged: int = 0) -> Path:
    """A file with entries 11 to 10 + `entries`, half of them of each run."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(LAYOUT)
        connection.executemany("INSERT INTO runs VALUES (?, ?)", enumerate(RUNS, 1))
        for at in range(1, entries + 1):
            second, bytes_ = at > entries // 2, body(at)
            place = at - entries // 2 if second else at
            whole = bytes_[:-3] if at == damaged else bytes_
            row = (10 + at, 1 + second, place, 1, 100 + at, AT, whole)
            connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        connection.execute("INSERT INTO facts VALUES ('subscriptions', 'known')")
    return path


def opened(folder: Path) -> Folder:
    return Folder(Spool(path=str(folder), min_free_bytes="1"))


def read_on(folder: Folder) -> list[tuple[int, str, int, int]]:
    """Each entry: its number, run, place, and the number in its message."""
    found, after = [], 0
    while (entry := folder.read(after)) is not None:
        after, packed = entry
        assert packed.records[0].since == 7
        found.append((after, packed.run, packed.place, int(packed.records[0].deliveries[0].payload)))
    return found


WHOLE = [(10 + at, RUNS[at > 20], at - 20 if at > 20 else at, at) for at in range(1, 41)]


def test_it_is_used_on(tmp_path: Path) -> None:
    """All entries are there, in order, with run and place; what comes is appended; nothing is set aside."""
    written(tmp_path / NAME)
    folder = opened(tmp_path)
    assert (folder.extent.first, folder.extent.last, folder.extent.messages) == (11, 50, 40)
    assert folder.append([Record(AT, [Kept("t", b"41", 1)], since=7)], place=1) == 51
    assert read_on(folder) == [*WHOLE, (51, folder.runs[0], 1, 41)]
    assert (folder.set_aside, folder.lost, folder.fact("subscriptions")) == ([], 0, "known")
    assert folder.forget(49)
    folder.close()
    again = opened(tmp_path)
    assert [entry[0] for entry in read_on(again)] == [50, 51]
    again.close()


def test_killed_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was killed while a file was made one of today's goes on there; until then looking says so."""
    written(tmp_path / NAME)
    appended = iter(range(24))  # in the second of three transactions
    append = version_1.queries.append

    class Killed(BaseException):
        pass

    class Queries:
        def __getattr__(self, name: str) -> str:
            if name == "append" and next(appended, None) is None:
                raise Killed
            return append if name == "append" else str(getattr(queries, name))

    queries = version_1.queries
    monkeypatch.setattr(version_1, "queries", Queries())
    with pytest.raises(Killed):
        opened(tmp_path)
    monkeypatch.undo()
    with pytest.raises(Unusable, match="on its way from version 1 to 2: the gateway goes on with it"):
        extent(tmp_path / NAME)
    folder = opened(tmp_path)
    assert read_on(folder) == WHOLE
    assert folder.set_aside == []
    folder.close()
    assert extent(tmp_path / NAME).messages == 40


def test_looked_at_and_recovered(tmp_path: Path) -> None:
    """One that was set aside is read as it is, and goes into the spool; it stays as it was."""
    aside = written(tmp_path / "aside-1.db", damaged=5)
    before = aside.read_bytes()
    assert extent(aside).messages == 40
    assert [line.get("payload", "damaged") for line in lines(aside)] == [
        "damaged" if at == 5 else str(at) for at in range(1, 41)
    ]
    folder = opened(tmp_path)
    assert recover(aside, folder) == (39, 1, 0)
    assert [entry[1:] for entry in read_on(folder)] == [entry[1:] for entry in WHOLE if entry[3] != 5]
    folder.close()
    assert aside.read_bytes() == before


def test_a_damaged_entry(tmp_path: Path) -> None:
    """It is passed over as any, and kept beside the file."""
    written(tmp_path / NAME, damaged=5)
    folder = opened(tmp_path)
    assert read_on(folder) == [entry for entry in WHOLE if entry[3] != 5]
    assert folder.lost == 1
    folder.close()
    assert [each.read_bytes() for each in tmp_path.glob("damaged-15-*.bin")] == [body(5)[:-3]]
