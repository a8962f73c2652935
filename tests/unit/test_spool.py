"""The spool's file: what it holds when the power goes, the disk is full, or somebody else has been at it."""

from __future__ import annotations

import asyncio
import shutil
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest

from gateway.decode import Received
from gateway.spool.chunks import Passed
from gateway.spool.entry import Damaged, Kept, Packed, Record, pack, unpack
from gateway.spool.file import NAME, Broken, Full, SpoolFile
from gateway.spool.folder import Unusable
from gateway.spool.keeping import Keeping
from gateway.spool.rates import Rates
from gateway.spool.reports import lines
from gateway.spool.shelf import Shelf, open_shelf
from gateway.spool.signal import Signal
from runtime.settings import Spool
from tests.support.write_side import Delivered

if TYPE_CHECKING:
    from pathlib import Path

AT = "2026-11-23T09:00:00+00:00"


def record(number: int, *, size: int = 10) -> Record:
    return Record(AT, [Kept(f"devices/a{number}/telemetry", f"{number:0{size}}".encode(), 1)])


def spool(folder: Path, **options: str) -> Spool:
    return msgspec.structs.replace(Spool(path=str(folder), min_free_bytes="1"), **options)


def opened(folder: Path, **options: int) -> SpoolFile:
    return SpoolFile(folder / NAME, **{"max_bytes": 10_000_000, **options})


def body(*records: Record) -> bytes:
    return pack(Packed("r", 1, list(records)))


def numbers(file: SpoolFile) -> list[int]:
    return [int(r.deliveries[0].payload) for entry in file.read(0, 1000) for r in unpack(entry.body).records]


def fill(file: SpoolFile, count: int, first: int = 1) -> None:
    for number in range(first, first + count):
        file.append(body(record(number)), messages=1, at=AT)


def test_a_record_comes_back_as_it_was() -> None:
    """Bytes, quality of service, flags, properties and times survive."""
    kept = Kept("a/ü", b"\x00\xff", 2, retain=True, duplicate=True, user_properties=(("a", "b"),))
    whole = [Record(AT, [kept], 3, 1, "2026-11-23T08:59:59.000001Z", "2026-11-23T09:00:00.000001Z", 42)]
    assert unpack(pack(Packed("r", 7, whole))) == Packed("r", 7, whole)


@pytest.mark.parametrize("at", [0, 5, -5, -1])
def test_a_damaged_entry_is_noticed(at: int) -> None:
    """A byte that is not what was written is never read for another message."""
    damaged = bytearray(body(*(record(n, size=200) for n in range(5))))
    damaged[at] ^= 0x55
    with pytest.raises(Damaged):
        unpack(bytes(damaged))


@pytest.mark.parametrize("torn", [0, 1, 24, 32, 4000, 100_000])
def test_power_cut_after_any_append(tmp_path: Path, torn: int) -> None:
    """A copy of the files at any moment, whatever was half written behind, holds all that was appended."""
    (tmp_path / "a").mkdir()
    file = opened(tmp_path / "a")
    for number in range(1, 13):
        fill(file, 1, number)
        copy = tmp_path / f"copy-{number}"
        shutil.copytree(tmp_path / "a", copy)
        (copy / f"{NAME}-shm").unlink()
        with (copy / f"{NAME}-wal").open("ab") as journal:
            journal.write(b"\x5a" * torn)
        left = opened(copy)
        assert numbers(left) == list(range(1, number + 1))
        fill(left, 1, 99)
        left.close()
    file.close()


def test_what_was_never_finished_is_not_there(tmp_path: Path) -> None:
    """A journal that ends in the middle of an entry holds those before it."""
    file = opened(tmp_path)
    fill(file, 3)
    journal = tmp_path / f"{NAME}-wal"
    whole = journal.read_bytes()
    file.append(body(record(4, size=90_000)), messages=1, at=AT)
    longer = journal.read_bytes()
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(tmp_path / NAME, copy / NAME)
    (copy / f"{NAME}-wal").write_bytes(longer[: (len(whole) + len(longer)) // 2])
    left = opened(copy)
    assert numbers(left) == [1, 2, 3]
    left.close()
    file.close()


def test_full(tmp_path: Path) -> None:
    """What has no room is refused, and all before it stays; with room it goes on."""
    file = opened(tmp_path, max_bytes=200_000)
    kept = 0
    with pytest.raises(Full, match=r"spool\.max_bytes is 200,000"):  # noqa: PT012  # until it is full
        while True:
            file.append(bytes(range(256)) * 40, messages=1, at=AT)
            kept += 1
    assert kept > 10
    assert file.extent().messages == kept
    file.forget(kept // 2)
    fill(file, 1, kept + 1)
    file.close()


def test_others_keep_their_room(tmp_path: Path) -> None:
    """On a disk with less than `spool.min_free_bytes` nothing is appended."""
    file = opened(tmp_path, min_free_bytes=2**60)
    with pytest.raises(Full, match=r"spool\.min_free_bytes"):
        fill(file, 1)
    file.close()


def test_drained(tmp_path: Path) -> None:
    """What is drained goes, the rest stays in order, and counts are right without looking at all of it."""
    file = opened(tmp_path)
    fill(file, 10)
    file.forget(4)
    assert (numbers(file), file.extent().messages, file.extent().first) == ([5, 6, 7, 8, 9, 10], 6, 5)
    file.forget(10)
    assert file.extent().messages == 0
    file.close()


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    """What is written after the folder was removed is not believed: the file says so."""
    folder = tmp_path / "card"
    folder.mkdir()
    file = opened(folder)
    fill(file, 2)
    shutil.rmtree(folder)
    with pytest.raises(Broken, match=r"not there any more|No such file") as broken:
        fill(file, 1, 3)
    assert broken.value.legible
    file.close()


async def test_a_removed_folder_is_made_again(tmp_path: Path) -> None:
    """What was in the file that was removed, and can be read, goes into the next one, in order."""
    folder = tmp_path / "card"
    shelf = Shelf(spool(folder))
    for number in (1, 2):
        await shelf.append([record(number)], place=number)
    shutil.rmtree(folder)
    await shelf.append([record(3)], place=3)
    await shelf.close()
    assert [line["payload"] for line in lines(folder / NAME)] == [f"{n:010}" for n in (1, 2, 3)]


async def test_one_gateway_a_folder(tmp_path: Path) -> None:
    """The second one is told, and goes on without; when the first is gone another can have it."""
    shelf = Shelf(spool(tmp_path))
    with pytest.raises(Unusable, match=r"give each gateway its own spool\.path"):
        Shelf(spool(tmp_path))
    assert open_shelf(spool(tmp_path)) is None
    await shelf.close()
    await Shelf(spool(tmp_path)).close()


@pytest.mark.parametrize("path", ["", "/nowhere/at/all"])
def test_without_a_folder_there_is_no_spool(path: str) -> None:
    """Off, or a place that is not there, is no reason not to start."""
    assert open_shelf(Spool(path=path)) is None


async def test_the_loop_never_waits(tmp_path: Path) -> None:
    """While an entry is written others of the loop go on."""
    shelf = Shelf(spool(tmp_path))
    writing = asyncio.create_task(shelf.append([record(1)], place=1))
    await asyncio.sleep(0)
    assert not writing.done()
    await writing
    await shelf.close()


async def test_what_is_being_read_is_kept_once_it_has_been(tmp_path: Path) -> None:
    """A record says which times of arrival are its messages', so that none that is stored is stored again."""
    shelf, kept = Shelf(spool(tmp_path)), asyncio.Event()
    keeping = Keeping(
        shelf, Signal(), time.monotonic, kept=lambda *_: kept.set(), drop=None, say=lambda: None
    )
    come = SimpleNamespace(deliveries=[Delivered("devices/a1/telemetry", b"{}")], size_bytes=100)
    chunk = Passed(cast("Any", come), lambda _: None, at=AT, given_at=0.0, connection=1, sessions_lost=0)
    chunk.after = ""
    keeping.begin([chunk], since=1)
    running = asyncio.create_task(keeping.run())
    for _ in range(100):
        await asyncio.sleep(0)
    chunk.last = "2026-11-23T09:00:00.000001Z"
    await kept.wait()
    running.cancel()
    await asyncio.wait([running])
    found = await shelf.read(0)
    assert found is not None
    assert [each.last for each in found[1].records] == [chunk.last]
    await shelf.close()


def test_times_of_arrival_are_those_of_then() -> None:
    """Reading again gives the very times; behind them it goes on, also when the clock had gone back."""
    at = datetime(2026, 11, 23, 9, tzinfo=UTC)
    first = Received.of(at - timedelta(hours=1))
    first.reach(at)
    after = first.last
    given = [first.next() for _ in range(3)]
    again = Received.of(at + timedelta(hours=5))
    again.next()
    assert again.resume(at, after) == timedelta()
    assert [again.next() for _ in range(3)] == given
    again.resume(at - timedelta(minutes=1), None)
    assert again.next() == "2026-11-23T09:00:00.000003Z"
    behind = Received.of(at)
    behind.resume(at, "2026-11-23T09:00:00.000007Z")
    assert behind.next() == "2026-11-23T09:00:00.000008Z"


def test_when_it_is_drained() -> None:
    """What comes meanwhile counts; nobody can tell while it grows."""
    now = [100.0]
    rates = Rates(lambda: now[0])
    assert rates.drains_in_s(1000) is None
    for second in range(10):
        now[0] = 100.0 + second
        rates.drained(300)
        rates.kept(100)
    now[0] = 110.0
    assert rates.drains_in_s(2000) == pytest.approx(10.0)
    rates.kept(5000)
    assert rates.drains_in_s(2000) is None
