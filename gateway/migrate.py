"""Migrations: numbered SQL files, forward only, each in its own transaction, one migrator at a time.

The files of `gateway/migrations/` are authoritative; `schema_migrations` records what a database has had. A
migration that fails leaves the database at the version before it. A database that is newer than this program
is refused, because nothing here knows what its tables mean.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

import structlog

from runtime.errors import Stop
from runtime.postgres import ERRORS, as_retry, load_queries, open_pool

if TYPE_CHECKING:
    from runtime.postgres import Connection

log = structlog.get_logger()
queries = load_queries("gateway")


class Migration(NamedTuple):
    """One numbered file."""

    version: int
    name: str
    sql: str


def migrations() -> list[Migration]:
    """All migrations of this program in order."""
    folder = resources.files("gateway") / "migrations"
    files = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name
    )
    return [Migration(int(file.name[:4]), file.name.removesuffix(".sql"), file.read_text()) for file in files]


async def migrate(dsn: str) -> list[str]:
    """Bring the database to this program's version.

    Returns:
        The names of the migrations applied now, in order; empty when there was nothing to do.

    Raises:
        Retry: the server is away.
        Stop: the database is newer than this program, or a migration failed; it names which and why.
    """
    async with await open_pool(dsn, name="gateway-migrate", max_size=1) as pool, pool.acquire() as connection:
        return await _apply(connection)


async def _apply(connection: Connection) -> list[str]:
    known = migrations()
    applied_now = []
    for migration in known:
        try:
            async with connection.transaction():
                await connection.execute(queries.lock_migrations)
                if migration.version not in await _applied(connection, newest=known[-1].version):
                    await connection.execute(queries.create_ledger)
                    await connection.execute(migration.sql)
                    await connection.execute(queries.record_migration, migration.version, migration.name)
                    applied_now.append(migration.name)
        except ERRORS as error:
            raise as_retry(error) or Stop(f"migration {migration.name} failed: {error}") from error
        if migration.name in applied_now:
            log.info("migrated", version=migration.version, name=migration.name)
    return applied_now


async def _applied(connection: Connection, *, newest: int) -> set[int]:
    """Versions that the database has had; only reads, so that a current schema needs no right to make one."""
    if not await connection.fetchval(queries.has_ledger):
        return set()
    applied = {row["version"]: row["name"] for row in await connection.fetch(queries.applied_versions)}
    if applied and max(applied) > newest:
        raise Stop(
            f"the database has schema version {max(applied)} ({applied[max(applied)]}), this program knows "
            f"{newest}: run a program at least as new as the one that migrated it"
        )
    return set(applied)
