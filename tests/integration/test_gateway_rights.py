"""A gateway whose role has the rights of the list and no others, nor the tables; or lacks some."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg
import httpx
import pytest

from contract.rights import GATEWAY
from runtime.rights import missing_rights
from tests.support.devices import publish
from tests.support.roles import bare_role, give

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from deploy.local.services import LocalServices
    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

    RunCommand = Callable[..., Awaitable[RunningCommand]]


@pytest.fixture
async def dsn(settings: Settings, unique: str) -> AsyncIterator[str]:
    """The DSN of a role that may do nothing."""
    async with bare_role(settings.postgres.dsn, unique) as name:
        yield name


async def tell(port: int, topic: str, key: str, at: datetime) -> None:
    """A device's message."""
    payload = json.dumps({"id": key, "ts": at.isoformat(), "region": "north", "t": 1}).encode()
    await publish(port, [(topic, payload)])


async def test_these_rights_are_enough(
    run_command: RunCommand,
    services: LocalServices,
    settings: Settings,
    unique: str,
    topic_prefix: str,
    dsn: str,
) -> None:
    """From the broker to a dropped partition, with chores and commands, nothing is refused to it."""
    owner_dsn, port = settings.postgres.dsn, services.mqtt_port
    await give(owner_dsn, "gateway", unique)
    log = services.postgres.log
    so_far = len(log.read_text(encoding="utf-8", errors="replace"))
    now = datetime.now(UTC)
    owner = await asyncpg.connect(owner_dsn)
    for days in (40, 3, 2):
        await owner.execute(
            """SELECT attach_partition('measurements', 'ts', day, day + interval '1 day')
            FROM date_trunc('day', now() - $1 * interval '1 day', 'UTC') AS day""",
            days,
        )
    topic = f"{topic_prefix}/a1/telemetry"
    gateway = await run_command("gateway", "run", "--log-level", "debug", EDGE_POSTGRES_DSN=dsn)
    await gateway.event("connected", client_id=settings.broker.client_id)
    for key, days in (("1", 0), ("1", 0), ("2", 2), ("3", 3), ("4", 40), ("5", 60)):
        await tell(port, topic, key, now - timedelta(days=days))
    await publish(port, [(topic, b"\x00rubbish")])
    await gateway.event("message_rejected")
    assert await gateway.terminate() == 0
    for row in await owner.fetch("SELECT name FROM partitions_of('measurements') WHERE until < now()"):
        await owner.execute(f"ANALYZE {row['name']}")
    retains = {"EDGE_POSTGRES_DSN": dsn, "EDGE_GATEWAY_RETENTION": "30d"}
    again = await run_command("gateway", "run", "--log-level", "debug", **retains)
    await again.event("partition_retired")
    # Where the two chores met over a lock the day has its turn in five minutes, or at the next start.
    assert await again.terminate() == 0
    again = await run_command("gateway", "run", "--log-level", "debug", **retains)
    async with asyncio.timeout(20):
        while not await owner.fetchval("SELECT count(*) FROM settled_days WHERE state = 'settled'"):  # noqa: ASYNC110  # it may have been told by the one before
            await asyncio.sleep(0.05)
    async with asyncio.timeout(20):
        retired = "SELECT sum(count) = 2 FROM retired_statistics WHERE metric = 't'"
        while not await owner.fetchval(retired):  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(0.05)
    assert await owner.fetchval("SELECT count(*) FROM measurements") == 3
    for command in (
        ("dead-letters", "list"),
        ("dead-letters", "replay"),
        ("devices", "set", "a1", "--name", "one"),
        ("devices", "list"),
        ("trace", "a1", "1"),
        ("check",),
    ):
        done = await run_command("gateway", *command, EDGE_POSTGRES_DSN=dsn)
        await done.exit_code()
        assert not [line for line in done.output if "permission" in line or "GRANT" in line], done.output
    assert await again.terminate() == 0
    said = log.read_text(encoding="utf-8", errors="replace")[so_far:]
    refusals = ("permission denied", "must be owner")
    assert [line for line in said.splitlines() if any(words in line for words in refusals)] == []
    await owner.close()


async def test_all_that_are_missing_are_said_at_once(
    run_command: RunCommand, settings: Settings, unique: str, dsn: str
) -> None:
    """It is not ready while rights are missing, says all with what gives them, and goes on then."""
    await give(settings.postgres.dsn, "gateway", unique)
    owner = await asyncpg.connect(settings.postgres.dsn)
    await owner.execute(f"REVOKE ALL ON dedup, outbox, regions_1h_default FROM {unique}")
    reader = await asyncpg.connect(dsn)
    lacking = await missing_rights(reader, GATEWAY)
    assert lacking == [
        f"GRANT SELECT, INSERT, DELETE ON outbox TO {unique}",
        f"GRANT SELECT, UPDATE ON dedup TO {unique}",
        f"GRANT SELECT, DELETE ON regions_1h_default TO {unique}",
    ]
    gateway = await run_command("gateway", "run", EDGE_POSTGRES_DSN=dsn)
    told = await gateway.event("waiting", what="rights")
    assert told["reason"] == f"postgres.dsn's role lacks some; their owner gives them: {'; '.join(lacking)}"
    async with httpx.AsyncClient(base_url=f"http://{settings.gateway.http}") as http:
        assert (await http.get("/readyz")).json()["reasons"]["rights"] == told["reason"]
        for statement in lacking:
            await owner.execute(statement)
        await gateway.event("available", what="rights")
        await gateway.event("gateway_started")
        async with asyncio.timeout(20):
            while (await http.get("/readyz")).status_code != 200:  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(0.05)
    assert await gateway.terminate() == 0
    await reader.close()
    await owner.close()


async def test_a_role_that_may_not_migrate_says_who_does(
    run_command: RunCommand, settings: Settings, unique: str, dsn: str
) -> None:
    """With migrations to do it waits for the owner, says by what command, and goes on when they are done."""
    await give(settings.postgres.dsn, "gateway", unique)
    owner = await asyncpg.connect(settings.postgres.dsn)
    newest = await owner.fetchrow(
        "DELETE FROM schema_migrations WHERE version = (SELECT max(version) FROM schema_migrations)"
        " RETURNING *"
    )
    assert newest is not None
    gateway = await run_command("gateway", "run", EDGE_POSTGRES_DSN=dsn)
    told = await gateway.event("waiting", what="postgres")
    assert "this role may not migrate: the owner of the tables runs `gateway migrate`" in told["reason"]
    await owner.execute("INSERT INTO schema_migrations VALUES ($1, $2, $3)", *newest)
    await gateway.event("gateway_started")
    assert await gateway.terminate() == 0
    await owner.close()
