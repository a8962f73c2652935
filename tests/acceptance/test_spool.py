"""`gateway spool`, as somebody at the site runs it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import asyncpg

from gateway.spool.entry import Kept, Record
from gateway.spool.file import NAME
from gateway.spool.shelf import Shelf
from runtime.settings import Spool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.support.commands import RunningCommand

    RunCommand = Callable[..., Awaitable[RunningCommand]]


async def test_looked_at_written_out_and_stored(
    run_command: RunCommand, database: str, tmp_path: Path, topic_prefix: str
) -> None:
    """Status and export say what there is; what was set aside is recovered; drain stores it all, once."""
    folder = tmp_path / "spool"
    shelf = Shelf(Spool(path=str(folder), min_free_bytes="1"))
    topic = f"{topic_prefix}/a1/telemetry"
    for number in (1, 2):
        record = Record("2026-11-23T09:00:00+00:00", [Kept(topic, b'{"x": %d}' % number, 1)])
        await shelf.append([record], place=number)
    await shelf.close()
    here = {"EDGE_SPOOL_PATH": str(folder), "EDGE_SPOOL_MIN_FREE_BYTES": "1"}

    async def said(*words: str) -> list[str]:
        command = await run_command("gateway", "spool", *words, **here)
        assert await command.exit_code() == 0, command.output
        return command.stdout

    (status,) = await said("status", "--json")
    assert json.loads(status)["messages"] == 2
    exported = [json.loads(line) for line in await said("export")]
    assert [(line["topic"], line["payload"]) for line in exported] == [
        (topic, '{"x": 1}'),
        (topic, '{"x": 2}'),
    ]
    aside = folder / "aside-1.db"
    (folder / NAME).rename(aside)
    assert "2 messages are in the spool" in (await said("recover", str(aside)))[0]
    assert "committed=2" in (await said("drain"))[-1]
    connection = await asyncpg.connect(database)
    try:
        assert await connection.fetchval("SELECT count(*) FROM measurements") == 2
    finally:
        await connection.close()
    (status,) = await said("status", "--json")
    assert json.loads(status)["messages"] == 0


async def test_stopped_while_it_drains(
    run_command: RunCommand, database: str, tmp_path: Path, topic_prefix: str
) -> None:
    """What it had stored by then has its devices too: one may not say anything again for weeks."""
    folder = tmp_path / "spool"
    shelf = Shelf(Spool(path=str(folder), min_free_bytes="1"))
    for n in range(40):
        messages = [Kept(f"{topic_prefix}/d{n}-{i}/telemetry", b'{"x": 1}', 1) for i in range(500)]
        await shelf.append([Record("2026-11-23T09:00:00+00:00", messages)], place=n + 1)
    await shelf.close()
    here = {"EDGE_SPOOL_PATH": str(folder), "EDGE_SPOOL_MIN_FREE_BYTES": "1"}
    gateway = await run_command("gateway", "run", "--log-level", "debug", **here)
    await gateway.event("batch_stored")
    assert await gateway.terminate() == 0
    connection = await asyncpg.connect(database)
    try:
        stored = await connection.fetchval("SELECT count(*) FROM measurements")
        assert await connection.fetchval("SELECT count(*) FROM devices") == stored > 0
    finally:
        await connection.close()
