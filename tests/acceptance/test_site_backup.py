"""Backup and restore as `docs/site.md` has them, word for word."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from deploy.local.services import LocalServices
from tests.support.devices import publish
from tests.support.roles import as_kind, give

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

    Run = Callable[..., Awaitable[RunningCommand]]

pytestmark = pytest.mark.full

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs/site.md"


def commands(heading: str) -> str:
    """The commands below a heading of the guide."""
    section = GUIDE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2]
    found = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert found, heading
    return found[1]


async def shell(script: str, folder: Path, **environment: str) -> None:
    """Run commands as an operator would."""
    process = await asyncio.create_subprocess_exec(
        "bash", "-eux", "-c", script, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


async def test_a_dump_restored_on_another_server(
    run_command: Run,
    services: LocalServices,
    settings: Settings,
    broker_port: int,
    topic_prefix: str,
    tmp_path: Path,
    redis_url: str,
    config_file: Path,
) -> None:
    """What was stored before the dump is there, whole and once; repeats are known, and all goes on."""
    topic = f"{topic_prefix}/a1/telemetry"
    sent = [(topic, b'{"id": "%d", "t": %d}' % (n, n)) for n in range(50)]
    gateway = await run_command("gateway", "run", "--log-level", "debug")
    projector = await run_command("projector", "run")
    await gateway.event("subscriptions_remembered")
    await publish(broker_port, sent)
    await rows(settings.postgres.dsn, 50)
    path = os.pathsep.join(
        [str(services.postgres.tool("pg_dump").parent), str(Path(sys.executable).parent), os.environ["PATH"]]
    )
    await shell(commands("Backup"), tmp_path, PATH=path, DSN=settings.postgres.dsn)
    await publish(broker_port, [(topic, b'{"id": "after", "t": 1}')])
    await rows(settings.postgres.dsn, 51)
    assert await gateway.terminate() == 0
    assert await projector.terminate() == 0
    async with LocalServices(["postgres"], environ={}) as elsewhere:
        dsn = elsewhere.postgres_dsn
        new = {"EDGE_REDIS_URL": redis_url}
        await execute(dsn, "CREATE ROLE tests_gateway LOGIN; CREATE ROLE tests_projector LOGIN")
        await shell(
            commands("Restore"), tmp_path,
            PATH=path, DSN=dsn, EDGE_CONFIG=str(config_file), EDGE_POSTGRES_DSN=dsn, **new,
        )  # fmt: skip
        for kind in ("gateway", "projector"):
            await give(dsn, kind, f"tests_{kind}")
        as_gateway = new | {"EDGE_POSTGRES_DSN": as_kind(dsn, "gateway")}
        new |= {"EDGE_POSTGRES_DSN": as_kind(dsn, "projector")}
        gateway = await run_command("gateway", "run", "--log-level", "debug", **as_gateway)
        projector = await run_command("projector", "run", **new)
        await gateway.event("history_replaced")
        await publish(broker_port, [*sent[:10], (topic, b'{"id": "new", "t": 7}')])
        await rows(elsewhere.postgres_dsn, 51)
        await projector.event("rebuild_finished")
        verify = await run_command("projector", "verify", **new)
        assert await verify.exit_code() == 0, verify.output
        assert await gateway.terminate() == 0
        assert await projector.terminate() == 0
        connection = await asyncpg.connect(elsewhere.postgres_dsn)
        keys = await connection.fetch("SELECT message_key FROM measurements")
        await connection.close()
    assert sorted(row["message_key"] for row in keys) == sorted([*(str(n) for n in range(50)), "new"])


async def execute(dsn: str, statements: str) -> None:
    """Run statements as the administrator."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(statements)
    await connection.close()


async def rows(dsn: str, wanted: int) -> None:
    """Wait until so many measurements are stored."""
    connection = await asyncpg.connect(dsn)
    async with asyncio.timeout(20):
        while await connection.fetchval("SELECT count(*) FROM measurements") < wanted:
            pass
    await connection.close()
