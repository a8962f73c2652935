"""A projector whose role has the rights that it asks for, and no others; or lacks some."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import httpx
import pytest

from tests.support.roles import bare_role, give
from tests.support.topic_side import playing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from deploy.local.services import LocalServices
    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

    Connection = asyncpg.Connection[asyncpg.Record]
    RunCommand = Callable[..., Awaitable[RunningCommand]]


@pytest.fixture
async def role(settings: Settings, unique: str) -> AsyncIterator[tuple[str, Connection]]:
    """The DSN of a role that may do nothing, and a connection of one that may do everything."""
    async with bare_role(settings.postgres.dsn, unique) as dsn:
        owner = await asyncpg.connect(settings.postgres.dsn)
        yield dsn, owner
        await owner.close()


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
    await give(settings.postgres.dsn, "projector", unique)
    assert await owner.fetchval(day.format("'2026-11-23 00:00+00'"))  # that of the rows below
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
    await give(settings.postgres.dsn, "projector", unique)
    await owner.execute(f"REVOKE ALL ON measurements, rollups FROM {unique}")
    projector = await run_command("projector", "run", EDGE_POSTGRES_DSN=dsn)
    told = await projector.event("waiting", what="rights")
    assert told["reason"] == (
        "postgres.dsn's role lacks some; their owner gives them: "
        f"GRANT SELECT ON measurements TO {unique}; GRANT SELECT, UPDATE ON rollups TO {unique}"
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
