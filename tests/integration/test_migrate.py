"""Migrations on a real server."""

from __future__ import annotations

import asyncio
import subprocess
from importlib import resources
from typing import TYPE_CHECKING

import asyncpg
import pytest

from gateway.migrate import migrate, migrations
from runtime.errors import Retry, Stop
from tests.support.schema import dump_schema

if TYPE_CHECKING:
    from deploy.local.services import LocalServices


async def test_from_nothing_to_current(empty_database: str) -> None:
    """An empty database gets every migration once, in order; a second run does nothing."""
    assert await migrate(empty_database) == [migration.name for migration in migrations()]
    assert await migrate(empty_database) == []


async def test_many_migrators_at_once(empty_database: str) -> None:
    """Gateways that start together apply each migration once between them."""
    applied = await asyncio.gather(*(migrate(empty_database) for _ in range(5)))
    assert sorted(name for names in applied for name in names) == [each.name for each in migrations()]


async def test_a_newer_database_is_refused(empty_database: str) -> None:
    """A database that a newer program migrated is left alone, with both versions named."""
    await migrate(empty_database)
    connection = await asyncpg.connect(empty_database)
    await connection.execute("INSERT INTO schema_migrations VALUES (9999, '9999_future')")
    await connection.close()
    with pytest.raises(Stop, match="9999_future"):
        await migrate(empty_database)


async def test_an_absent_server_is_waited_for(services: LocalServices) -> None:
    """A server that is not there is something to wait for, not to die of."""
    absent = f"postgresql://postgres@127.0.0.1:{services.redis.port}/postgres"
    with pytest.raises(Retry):
        await asyncio.wait_for(migrate(absent), 20)


async def test_schema_file_is_all_migrations_replayed(database: str, services: LocalServices) -> None:
    """`gateway/schema.sql`, which people read, is what the migrations make. `make schema` writes it anew."""
    try:
        dumped = await asyncio.to_thread(dump_schema, database, services.postgres.tool("pg_dump"))
    except subprocess.CalledProcessError as error:
        pytest.fail(error.stderr)
    assert dumped == (resources.files("gateway") / "schema.sql").read_text()


async def test_streams_of_before_go_on(empty_database: str, unique: str) -> None:
    """Streams keep end, epoch and readers when their table becomes a view, their rows trimmed or not."""
    connection = await asyncpg.connect(empty_database)
    await connection.execute(f"CREATE ROLE {unique}")
    for migration in migrations():
        if migration.name.startswith("0005"):
            await connection.execute(
                "INSERT INTO streams (stream, head, published) VALUES (0, 7, 6), (1, 3, 3);"
                "INSERT INTO outbox SELECT 0, n, 0, '[]', now() FROM generate_series(5, 7) AS n"
            )
            await connection.execute(f"GRANT SELECT ON streams TO {unique}, public")
            before = await connection.fetch(
                "SELECT stream, epoch, head, published FROM streams ORDER BY stream"
            )
        await connection.execute(migration.sql)
    assert (
        await connection.fetch("SELECT stream, epoch, head, published FROM streams ORDER BY stream") == before
    )
    await connection.execute(f"SET ROLE {unique}")
    assert await connection.fetchval("SELECT sum(head) FROM streams") == 10
    await connection.execute(f"RESET ROLE; DROP OWNED BY {unique}; DROP ROLE {unique}")
    await connection.execute("UPDATE streams SET epoch = gen_random_uuid()")
    await connection.close()
