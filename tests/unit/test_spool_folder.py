"""The spool's folder: files that break and are replaced, and disks that are full, read-only or gone."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
from typing import TYPE_CHECKING

import msgspec
import pytest

from gateway.spool.entry import Kept, Record, unpack
from gateway.spool.file import NAME, Full
from gateway.spool.folder import Folder, Unusable
from gateway.spool.recover import recover
from gateway.spool.reports import entries, extent, lines
from runtime.settings import Spool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AT = "2026-11-23T09:00:00+00:00"
PAGE = 4096


def record(number: int, *, noise: int = 0) -> Record:
    payload = b"%d" % number + (b" " + os.urandom(noise) if noise else b"")
    return Record(AT, [Kept("devices/a1/telemetry", payload, 1)])


def spool(folder: Path, **options: str) -> Spool:
    return msgspec.structs.replace(Spool(path=str(folder), min_free_bytes="1"), **options)


def filled(folder: Path, numbers: range, *, noise: int = 0, **options: str) -> Folder:
    opened = Folder(spool(folder, **options))
    for number in numbers:
        opened.append([record(number, noise=noise)], place=number)
    return opened


def numbers(folder: Path) -> list[int]:
    found = [unpack(entry.body).records for entry in entries(folder / NAME)]
    return [int(each.deliveries[0].payload.split()[0]) for records in found for each in records]


def read_on(folder: Folder, after: int = 0) -> list[int]:
    found = []
    while (entry := folder.read(after)) is not None:
        after, packed = entry
        found += [int(each.deliveries[0].payload.split()[0]) for each in packed.records]
    return found


def damage(path: Path, at: int, length: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xff" * length)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MB, of its own."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", path], check=False)
    if mounted.returncode:
        pytest.skip("no right to mount")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


@pytest.mark.parametrize("kind", ["rubbish", "of another version", "of somebody else", "empty"])
def test_a_file_that_cannot_be_used_is_set_aside(tmp_path: Path, kind: str) -> None:
    """It keeps its bytes under another name; the gateway goes on with a new one."""
    path = tmp_path / NAME
    if kind == "rubbish":
        path.write_bytes(b"no database" * 1000)
    elif kind == "empty":
        path.write_bytes(b"")
    else:
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE t (a)")
            if kind == "of another version":
                database.execute("PRAGMA application_id = 1297171783")
                database.execute("PRAGMA user_version = 3")
        database.close()
    before = path.read_bytes()
    folder = filled(tmp_path, range(1, 2))
    assert read_on(folder) == [1]
    folder.close()
    aside = [each.read_bytes() for each in tmp_path.glob("aside-*.db")]
    assert aside == ([] if kind == "empty" else [before])


def test_a_corrupted_page_costs_no_other(tmp_path: Path) -> None:
    """A page that is broken: the file is set aside when it is met, and recovering saves the others."""
    folder = filled(tmp_path, range(1, 81), noise=3000)
    folder.close()
    damage(tmp_path / NAME, 20 * PAGE, 2 * PAGE)
    folder = Folder(spool(tmp_path))
    read_on(folder)
    folder.append([record(1000)], place=1)
    folder.close()
    (aside,) = folder.set_aside
    again = Folder(spool(tmp_path / "again"))
    saved = recover(aside, again)
    again.close()
    assert saved.damaged + saved.unreadable
    assert 60 <= saved.messages < 80
    assert extent(tmp_path / "again" / NAME).messages == saved.messages


def test_another_file_another_run(tmp_path: Path) -> None:
    """How far the next file is drained says nothing of the one that was set aside, which may be recovered."""
    folder = filled(tmp_path, range(1, 41), noise=3000)
    damage(tmp_path / NAME, PAGE, 20 * PAGE)
    with sqlite3.connect(tmp_path / NAME) as database:  # no page is left in the journal
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    damage(tmp_path / NAME, PAGE, 20 * PAGE)
    before = folder.runs[-1]
    read_on(folder)
    folder.append([record(41)], place=41)
    (found,) = [packed.run for _, packed in [folder.read(0)] if packed]  # type: ignore[misc]  # it is there
    folder.close()
    assert folder.set_aside
    assert found == folder.runs[-1] != before


def test_a_damaged_entry_is_kept_beside_the_file(tmp_path: Path) -> None:
    """It is counted once, is not in the file any more, and what is around it comes out."""
    folder = filled(tmp_path, range(1, 4))
    folder.close()
    with sqlite3.connect(tmp_path / NAME) as database:
        database.execute("UPDATE entries SET body = X'00' WHERE seq = 2")
    database.close()
    folder = Folder(spool(tmp_path))
    assert read_on(folder) == [1, 3]
    assert read_on(folder) == [1, 3]
    folder.look()
    assert (folder.lost, folder.extent.messages) == (1, 2)
    folder.close()
    (beside,) = tmp_path.glob("damaged-*.bin")
    assert beside.read_bytes() == b"\0"


def test_dropped_out_of_the_middle(tmp_path: Path) -> None:
    """What is dropped behind entries that somebody is at does not count, nor when it is opened anew."""
    folder = filled(tmp_path, range(1, 7))
    assert [folder.drop(2), folder.drop(2)] == [(3, 1), (4, 1)]
    folder.look()
    assert folder.extent.messages == 4
    folder.close()
    folder = Folder(spool(tmp_path))
    assert folder.extent.messages == 4
    folder.forget(2)
    assert folder.drop(0) == (5, 1)
    folder.look()
    assert (folder.extent.messages, read_on(folder), folder.drop(6)) == (1, [6], (0, 0))
    folder.close()


def test_an_empty_file_gives_its_room_back(tmp_path: Path) -> None:
    """After an outage the disk is as free as before."""
    folder = filled(tmp_path, range(1, 13), noise=1_000_000, max_bytes="100MB")
    assert (tmp_path / NAME).stat().st_size > 8_000_000
    folder.forget(12)
    assert sum(each.stat().st_size for each in tmp_path.glob(f"{NAME}*")) < 200_000
    folder.close()


def test_a_full_disk(disk: Path) -> None:
    """Nothing is appended, removed or set aside while there is no room; then all goes on."""
    folder = filled(disk / "spool", range(1, 6), noise=100_000)
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(1000)):
            pass
    with pytest.raises(Full):
        folder.append([record(6, noise=300_000)], place=6)
    was_removed = folder.forget(2)
    assert read_on(folder) == ([3, 4, 5] if was_removed else [1, 2, 3, 4, 5])
    filler.unlink()
    folder.append([record(6)], place=6)
    assert folder.forget(2)
    assert (read_on(folder), folder.set_aside, folder.lost) == ([3, 4, 5, 6], [], 0)
    folder.close()


def test_a_disk_that_can_only_be_read(disk: Path) -> None:
    """Nothing is lost, renamed or told to be: it goes on when the disk can be written."""

    def remount(how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", disk], check=True)

    folder = filled(disk / "spool", range(1, 4))
    holds = os.open(disk / "spool", os.O_RDONLY)
    folder.close()
    remount("ro")
    with pytest.raises(Unusable):
        Folder(spool(disk / "spool"))
    remount("rw")
    os.close(holds)
    folder = Folder(spool(disk / "spool"))
    assert (read_on(folder), folder.set_aside) == ([1, 2, 3], [])
    folder.close()


def test_a_card_that_is_out_and_in(tmp_path: Path) -> None:
    """Another card in its place is set aside; nothing of ours is there twice, or between what it held."""
    card, pocket = tmp_path / "card", tmp_path / "pocket"
    filled(pocket, range(90, 93)).close()
    folder = filled(card, range(1, 4))
    card.rename(tmp_path / "lost")
    pocket.rename(card)
    folder.append([record(4)], place=4)
    folder.close()
    assert numbers(card) == [1, 2, 3, 4]
    assert next(each for path in folder.set_aside for each in lines(path))["payload"] == "90"


def test_no_room_for_what_was_there(tmp_path: Path, disk: Path) -> None:
    """What is in a file that was removed waits for room in the next one, and comes before what is new."""
    card = tmp_path / "card"
    card.symlink_to(tmp_path / "large")
    (tmp_path / "large").mkdir()
    folder = filled(card, range(1, 31), noise=500_000, min_free_bytes="1MB")
    shutil.rmtree(tmp_path / "large")
    card.unlink()
    (disk / "small").mkdir()
    card.symlink_to(disk / "small")
    with pytest.raises(Full):
        folder.append([record(31)], place=31)
    found: list[int] = []
    after = 0
    while len(found) < 30 and (entry := folder.read(after)) is not None:
        after, packed = entry
        found += [int(each.deliveries[0].payload.split()[0]) for each in packed.records]
        folder.forget(after)
    folder.append([record(31)], place=31)
    assert (found, read_on(folder, after), folder.lost) == (list(range(1, 31)), [31], 0)
    folder.close()


def test_recovering_as_root_leaves_the_file_to_the_gateway(tmp_path: Path) -> None:
    """What a command of root's makes belongs to whose folder it is."""
    if os.geteuid():
        pytest.skip("not root")
    folder = tmp_path / "spool"
    folder.mkdir()
    os.chown(folder, 1234, 1234)
    filled(folder, range(1, 3)).close()
    assert {each.stat().st_uid for each in folder.iterdir()} == {1234}
