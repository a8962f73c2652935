"""The spool between a session and PostgreSQL: which way messages go, and that each is stored once."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import msgspec
import structlog
from prometheus_client import CollectorRegistry

from gateway.batcher import BatchPolicy
from gateway.beside import Beside
from gateway.decode import Decoder, Limits, Received
from gateway.decode.routes import compile_routes
from gateway.ledger import Ledger
from gateway.pipeline import Pipeline
from gateway.sparkplug.keeper import Keeper
from gateway.spool.entrance import Entrance
from gateway.spool.entry import Kept, Record
from gateway.spool.file import NAME
from gateway.spool.folder import Folder
from gateway.spool.places import Known
from gateway.spool.recover import recover
from gateway.spool.shelf import Shelf
from gateway.store import Store
from runtime.http import Health
from runtime.logs import RateLimit
from runtime.mqtt.port import SessionStatus
from runtime.settings import Route, Spool
from tests.support.write_side import decode, write_side

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gateway.door import Door
    from gateway.relay import Relay
    from runtime.mqtt import Session
    from tests.support.write_side import WriteSide

AT = "2026-11-23T09:00:00+00:00"
QUIET = BatchPolicy(1000, 1_000_000, 0)


class Silent:
    """A session by which nothing comes."""

    status = SessionStatus()

    async def receive(self) -> object:
        await asyncio.Event().wait()
        return None

    def stop_receiving(self) -> list[object]:
        return []


class Nobody:
    """A relay that publishes nothing."""

    def offer(self, row: object) -> None:
        """Take a row."""


def message(number: int) -> Record:
    payload = b'{"x": %d}' % number  # neither a key nor a time
    return Record(AT, [Kept("devices/a1/telemetry", payload, 0)])


def spool(folder: Path) -> Spool:
    return msgspec.structs.replace(Spool(), path=str(folder), min_free_bytes="1")


async def drain(
    side: WriteSide,
    folder: Path,
    stream: int = 0,
    *,
    routes: Sequence[Route] = (Route(),),
    door: Door | None = None,
) -> Ledger:
    """Store what a spool holds, as a process does that starts."""
    shelf = Shelf(spool(folder))
    entrance = Entrance(cast("Session", Silent()), shelf, after_s=60, health=Health())
    store = Store(
        side.pool,
        lease=side.lease,
        devices=side.devices,
        health=Health(),
        presence=side.store._presence,
        keeper=Beside(Keeper(stream), stream),
    )
    ledger = Ledger(CollectorRegistry(), now=lambda: datetime.now(UTC))
    ledger.spooled = lambda: entrance.spooled
    pipeline = Pipeline(
        entrance,
        decoder=Decoder(compile_routes(routes), Limits()),
        policy=QUIET,
        store=store,
        relay=cast("Relay", Nobody()),
        ledger=ledger,
        rejected=RateLimit(structlog.get_logger().warning),
        received=Received.of(datetime.now(UTC)),
        now=lambda: datetime.now(UTC),
        writers=2,
        door=door,
        entrance=entrance,
    )

    entrance.learn(Known(side.pool, stream, Health()))
    stop = asyncio.Event()
    working = asyncio.create_task(entrance.run())
    running = asyncio.create_task(pipeline.run(stop))
    async with asyncio.timeout(20):
        await entrance.emptied()
        await entrance.flushed()
    stop.set()
    await running
    working.cancel()
    await asyncio.wait([working])
    await shelf.close()
    assert shelf.extent.messages == 0
    return ledger


async def filled(folder: Path, *entries: list[Record]) -> None:
    shelf = Shelf(spool(folder))
    place = 0
    for records in entries:
        place += len(records)
        await shelf.append(records, place=place)
    await shelf.close()


async def test_what_gave_no_reading_is_looked_for_nowhere(database: str) -> None:
    """What is first after a start, and nothing but empty payloads, has no time of arrival: it comes out."""
    first = Record(AT, [Kept("devices/a1/telemetry", b"", 1)], after="", last="", since=1)
    async with write_side(database) as side:
        await side.store.commit(*decode(b"{"))  # letters are looked through
        assert not await Known(side.pool, 0, Health()).stored([first])


async def test_drained_in_order_as_of_then(database: str, tmp_path: Path) -> None:
    """What another process left is stored, in order, with the times at which it came."""
    folder = tmp_path / "spool"
    await filled(folder, [message(1), message(2)], [message(3)])
    async with write_side(database) as side:
        ledger = await drain(side, folder)
        rows = await side.pool.fetch("SELECT metrics, received_at FROM measurements ORDER BY received_at")
    assert [row["metrics"] for row in rows] == ['{"x": 1}', '{"x": 2}', '{"x": 3}']
    base = datetime.fromisoformat(AT)
    assert [(row["received_at"] - base).microseconds for row in rows] == [0, 1, 2]
    assert (ledger.received, ledger.committed, ledger.in_flight(), ledger.spooled()) == (3, 3, 0, 0)


async def test_drained_and_killed_before_it_is_removed(database: str, tmp_path: Path) -> None:
    """The same file once more: nothing is stored again, though nothing has a key and keys are forgotten."""
    folder, copy = tmp_path / "spool", tmp_path / "copy"
    await filled(folder, [message(1), message(2)], [message(3)])
    shutil.copytree(folder, copy)
    async with write_side(database) as side:
        await drain(side, folder)
        await side.pool.execute("TRUNCATE message_keys_0, message_keys_1")
        ledger = await drain(side, copy)
        assert await side.pool.fetchval("SELECT count(*) FROM measurements") == 3
    assert ledger.received == 0


def flown(number: int, after: str, *payloads: bytes) -> Record:
    """A record that was in flight when it went into the spool, of messages that came one after the other."""
    base = "2026-11-23T09:00:00.00000"
    kept = [Kept("devices/a1/telemetry", payload, 0) for payload in payloads]
    return Record(AT, kept, after=after, last=f"{base}{number + len(kept) - 1}Z", since=1)


async def test_what_a_commit_without_an_answer_stored(database: str, tmp_path: Path) -> None:
    """What was in flight when it went into the spool, and was stored after all, is left out; nothing else is.

    Of one record a part was stored, as when a batch is cut in two; a letter is not written twice. A row
    of the outbox that nobody can read, as somebody edited it, keeps nothing from being stored.
    """
    first, again = tmp_path / "first", tmp_path / "again"
    bad = Kept("devices/a1/telemetry", b"{", 0)
    await filled(first, [Record(AT, [bad, *message(1).deliveries])])
    last = "2026-11-23T09:00:00.000001Z"
    async with write_side(database) as side:
        await drain(side, first)
        whole = [flown(0, "", b"{", b'{"x": 1}', b'{"x": 2}'), flown(3, f"{last[:-2]}2Z", b'{"x": 3}')]
        await filled(again, whole)
        await side.pool.execute("TRUNCATE message_keys_0, message_keys_1")
        await side.pool.execute("INSERT INTO outbox VALUES (0, 2, 1, '{', now())")
        ledger = await drain(side, again)
        rows = await side.pool.fetch("SELECT metrics FROM measurements ORDER BY received_at")
        letters = await side.pool.fetchval("SELECT count(*) FROM dead_letters")
    assert [row["metrics"] for row in rows] == ['{"x": 1}', '{"x": 2}', '{"x": 3}']
    assert (ledger.received, letters) == (2, 1)


async def test_a_spool_that_comes_to_another_stream(database: str, tmp_path: Path) -> None:
    """What others sent at the same time, or under the same number of another stream, hides nothing."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    other = Record(AT, [Kept(f"devices/b{n}/telemetry", b'{"x": 9}', 0) for n in range(3)])
    await filled(theirs, [other])
    await filled(ours, [flown(0, "", b'{"x": 1}', b'{"x": 2}')])
    async with write_side(database, stream=1) as side:
        await drain(side, theirs, stream=1)
        ledger = await drain(side, ours, stream=1)
    assert (ledger.received, ledger.committed) == (2, 2)


async def test_recovered_after_its_process_went_on(database: str, tmp_path: Path) -> None:
    """How far a later file is drained says nothing of one set aside; recovered twice it is stored once."""
    path = tmp_path / "spool"
    folder = Folder(spool(path))
    for number in range(1, 41):
        noise = b'{"x": %d, "noise": "%s"}' % (number, os.urandom(2000).hex().encode())
        folder.append([Record(AT, [Kept("devices/a1/telemetry", noise, 0)])], place=number)
    with sqlite3.connect(path / NAME) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with (path / NAME).open("r+b") as file:
        file.seek(30 * 4096)
        file.write(b"\xff" * 8192)
    after = 0
    while (found := folder.read(after)) is not None:
        after = found[0]
    folder.append([message(41)], place=41)
    folder.close()
    (aside,) = folder.set_aside
    async with write_side(database) as side:
        ledger = await drain(side, path)
        assert ledger.committed == 1
        saved = 0
        for _ in range(2):
            folder = Folder(spool(path))
            saved = recover(aside, folder).messages
            folder.close()
        ledger = await drain(side, path)
        stored = await side.pool.fetchval("SELECT count(*) FROM measurements")
    assert 30 < saved < 40
    assert (ledger.committed, stored) == (saved, saved + 1)
