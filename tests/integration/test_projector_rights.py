"""A projector whose role has the rights that it asks for, and no others; or lacks some."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from projector.outbox import queries
from tests.support.topic_side import playing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from deploy.local.services import LocalServices
    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

    Connection = asyncpg.Connection[asyncpg.Record]
    RunCommand = Callable[..., Awaitable[RunningCommand]]


@pytest.fixture
async def role(
    settings: Settings, unique: str
) -> AsyncIterator[tuple[str, asyncpg.Connection[asyncpg.Record]]]:
    """The DSN of a role that may do nothing, and a connection of one that may do everything."""
    owner = await asyncpg.connect(settings.postgres.dsn)
    database = urlsplit(settings.postgres.dsn).path[1:]
    await owner.execute(f'REVOKE TEMPORARY ON DATABASE "{database}" FROM PUBLIC; CREATE ROLE {unique} LOGIN')
    yield settings.postgres.dsn.replace("postgres@", f"{unique}@"), owner
    await owner.execute(f"DROP OWNED BY {unique}; DROP ROLE {unique}")
    await owner.close()


async def missing(dsn: str) -> list[str]:
    """What a role lacks."""
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch(queries.missing_rights)
    await connection.close()
    return [row["missing"] for row in rows]


async def test_these_rights_are_enough(
    run_command: RunCommand,
    services: LocalServices,
    settings: Settings,
    unique: str,
    role: tuple[str, Connection],
) -> None:
    """With what it asks for, and nothing else, every part of it works, and its commands do."""
    dsn, owner = role
    day = (
        "SELECT attach_partition('measurements', 'ts', {0}::timestamptz, {0}::timestamptz + interval '1 day')"
    )
    assert await owner.fetchval(day.format("'2026-11-20 00:00+00'"))
    needed = await missing(dsn)
    assert "SELECT ON measurements_p20261120" in needed
    for each in needed:
        await owner.execute(f"GRANT {each} TO {unique}")
    assert await owner.fetchval(day.format("'2026-11-23 00:00+00'"))  # that of the rows below
    assert await missing(dsn) == []
    log = services.postgres.log
    so_far = len(log.read_text(encoding="utf-8", errors="replace"))
    async with playing(settings) as side:
        for n in (1, 2, 3):
            await side.append(n, n)
        await owner.execute("INSERT INTO devices VALUES ('d', 'north', now(), now())")
        projector = await run_command("projector", "run", "--log-level", "debug", EDGE_POSTGRES_DSN=dsn)
        await projector.event("run_applied", last=3)
        await projector.event("history_written", last=3)
        await projector.event("watch_begins")
        await side.append(4, 4)
        await side.publish(4, 4)
        await projector.event("run_applied", last=4)
        for command in (
            ("verify",),
            ("rebuild",),
            ("verify",),
            ("devices", "mute", "d", "--for", "1s", "--reason", "x"),
            ("devices", "unmute", "d"),
            ("devices", "retire", "d"),
            ("devices", "list"),
        ):
            done = await run_command("projector", *command, EDGE_POSTGRES_DSN=dsn)
            assert await done.exit_code() == 0, done.output
        await projector.event("device_retired")
        async with httpx.AsyncClient(base_url=f"http://{settings.projector.http}") as http:
            for path in ("/devices/d/history?metric=t", "/devices/d/windows", "/devices/d/stats", "/regions"):
                assert (await http.get(path)).status_code in {200, 400}, path
            assert (await http.get("/readyz")).status_code == 200
        assert await projector.terminate() == 0
    said = log.read_text(encoding="utf-8", errors="replace")[so_far:]
    assert [line for line in said.splitlines() if "permission denied" in line] == []


async def test_all_that_are_missing_are_said_at_once(
    run_command: RunCommand,
    settings: Settings,
    unique: str,
    role: tuple[str, Connection],
) -> None:
    """It is not ready as long as a right is missing that it will need, and says which, in one line."""
    dsn, owner = role
    for each in await missing(dsn):
        if each not in {"SELECT ON measurements", "SELECT, UPDATE ON rollups"}:
            await owner.execute(f"GRANT {each} TO {unique}")
    projector = await run_command("projector", "run", EDGE_POSTGRES_DSN=dsn)
    told = await projector.event("waiting", what="rights")
    assert told["reason"] == (
        "postgres.dsn's role lacks SELECT ON measurements; SELECT, UPDATE ON rollups: GRANT them to it"
    )
    async with httpx.AsyncClient(base_url=f"http://{settings.projector.http}") as http:
        answer = await http.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["reasons"]["rights"] == told["reason"]
        await owner.execute(
            f"GRANT SELECT ON measurements TO {unique}; GRANT SELECT, UPDATE ON rollups TO {unique}"
        )
        await projector.event("available", what="rights")
        async with asyncio.timeout(20):
            while (await http.get("/readyz")).status_code != 200:  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(0.05)
    assert await projector.terminate() == 0
