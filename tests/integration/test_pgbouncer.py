"""Behind PgBouncer: in session mode as docs/operating.md says, and what is said of any other."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from deploy.local.server import free_port
from gateway import migrate, store, upkeep
from gateway.slot import letters_of
from runtime import postgres
from runtime.errors import Stop
from tests.support.write_side import decode, write_side

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from deploy.local.services import LocalServices

GUIDE = (Path(__file__).parents[2] / "docs" / "operating.md").read_text(encoding="utf-8")


def ignored() -> list[str]:
    """What the guide says is to be ignored."""
    found = re.search(r"^ignore_startup_parameters = (.*)$", GUIDE, re.MULTILINE)
    assert found is not None
    return found[1].split(", ")


def test_the_guide_names_what_sessions_are_opened_with() -> None:
    """Each parameter that PgBouncer would refuse is in the list that it is to ignore."""
    settings = [postgres._SERVER_SETTINGS, store.SESSION_SETTINGS, upkeep._CHORE_SETTINGS, migrate._UNLIMITED]
    used = {name for each in (*settings, letters_of("g")) for name in each} - {"TimeZone"}
    assert sorted(used) == sorted(ignored())


@pytest.mark.parametrize(
    "error", [asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError]
)
def test_any_other_mode_is_refused(error: type[asyncpg.PostgresError]) -> None:
    """What only a pooler leads to that mixes sessions up ends the process, with what to set."""
    with pytest.raises(Stop, match="pool_mode = session"), postgres.retryable():
        raise error


@asynccontextmanager
async def pooler(port: int, folder: Path, group: int) -> AsyncIterator[int]:
    """A PgBouncer in front of a server; gives its port."""
    binary = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if binary is None:
        pytest.skip("PgBouncer is not installed")
    own = free_port()
    ini = folder / "pgbouncer.ini"
    ini.write_text(
        f"[databases]\n* = host=127.0.0.1 port={port} user=tests_gateway\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {own}\nauth_type = any\nunix_socket_dir =\n"
        f"pool_mode = session\nignore_startup_parameters = {', '.join(ignored())}\n"
    )
    unprivileged = ("-u", "nobody") if os.geteuid() == 0 else ()
    process = await asyncio.create_subprocess_exec(
        binary, "-q", *unprivileged, str(ini), stderr=asyncio.subprocess.DEVNULL, process_group=group
    )
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", own)
                except OSError:
                    await asyncio.sleep(0.05)  # until it listens
                else:
                    writer.close()
                    break
        yield own
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.full
@pytest.mark.parametrize("isolation", ["read committed", "serializable"])
async def test_in_session_mode(
    services: LocalServices, database: str, tmp_path: Path, isolation: str
) -> None:
    """Batches are stored by both ways, whatever isolation the database has by default."""
    name = database.rpartition("/")[2]
    connection = await asyncpg.connect(database)
    await connection.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'")
    await connection.close()
    async with asyncio.timeout(60), pooler(services.postgres.port, tmp_path, services.place.group) as port:
        for stream, calls in enumerate((True, False)):
            dsn = f"postgresql://postgres@127.0.0.1:{port}/{name}"
            async with write_side(dsn, stream, calls=calls) as side:
                batches = [[b'{"id":"%d-%d","x":1}' % (stream, n), b'{"id":"same","x":1}'] for n in range(20)]
                stored = await asyncio.gather(*(side.store.commit(*decode(*each)) for each in batches))
                outcomes = [outcome for each in stored for outcome in each]
                assert sum(outcome.committed for outcome in outcomes) == 21 - stream
                assert sum(outcome.duplicates for outcome in outcomes) == 19 + stream
