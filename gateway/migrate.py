"""Migrations: numbered SQL files, forward only, one migrator at a time, for as long as they take.

The files of `gateway/migrations/` are authoritative; `schema_migrations` records what a database has had. A
migration is one transaction, so one that fails leaves the database at the version before it. One that begins
with the line `-- no transaction` is applied statement by statement instead, each to be written so that it can
be applied again (`CREATE INDEX CONCURRENTLY IF NOT EXISTS …`): a migrator that was killed goes on where it
was, and makes the index anew that it left unfinished.

No time-out ends a migration. What it is at, and who keeps it waiting, is told every few seconds. A database
that is newer than this program is refused, because nothing here knows what its tables mean; so is one that
cannot hold every text.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from importlib import resources
from typing import TYPE_CHECKING, Final, NamedTuple

import asyncpg
import structlog

from runtime.errors import Retry, Stop
from runtime.postgres import ERRORS, as_retry, lent, load_queries, open_pool, retryable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from runtime.http import Health
    from runtime.postgres import Connection

log = structlog.get_logger()
queries = load_queries("gateway")

_PAUSE_S: Final = 0.2
_TELL_S: Final = 5.0
_UNLIMITED: Final = {
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
_NOT_OURS: Final = "this role may not migrate: the owner of the tables runs `gateway migrate`"
_INDEX: Final = re.compile(
    r"CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(?:IF\s+NOT\s+EXISTS\s+)?(\w+)", re.IGNORECASE
)


class Migration(NamedTuple):
    """One numbered file."""

    version: int
    name: str
    sql: str

    @property
    def statements(self) -> list[str] | None:
        """Those of a migration without a transaction, each with `;` at the end of its line; else None."""
        if not self.sql.startswith("-- no transaction\n"):
            return None
        return [
            part
            for part in re.split(r";[ \t]*\n", self.sql + "\n")
            if re.search(r"^\s*[^-\s]", part, re.MULTILINE)
        ]


def migrations() -> list[Migration]:
    """All migrations of this program in order."""
    folder = resources.files("gateway") / "migrations"
    files = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name
    )
    return [Migration(int(file.name[:4]), file.name.removesuffix(".sql"), file.read_text()) for file in files]


async def migrate(
    dsn: str,
    *,
    health: Health | None = None,
    known: Sequence[Migration] | None = None,
    tell_s: float = _TELL_S,
) -> list[str]:
    """Bring the database to this program's version.

    Args:
        dsn: the database.
        health: where `schema` says what is waited for meanwhile.
        known: all migrations; None for this program's.
        tell_s: how often it is told what a migration is at.

    Returns:
        The names of the migrations applied now, in order; empty when there was nothing to do.

    Raises:
        Retry: the server is away.
        Stop: the database is newer than this program or not in UTF-8, or a migration failed; it names which
            and why.
    """
    pool = await open_pool(dsn, name="gateway-migrate", max_size=2, settings=_UNLIMITED, unlimited=True)
    async with pool, pool.acquire() as connection:
        migrator = _Migrator(pool, connection, known or migrations(), health, tell_s)
        return await migrator.run()


async def require(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    """Make sure that the database is at this program's version, where somebody else brings it there.

    Raises:
        Retry: it is not yet, or the server is away.
        Stop: it is newer than this program.
    """
    with retryable():
        async with lent(pool) as connection:
            missing = await _missing(connection, migrations())
    if missing:
        raise Retry(
            "postgres", f"{missing[0].name} is not applied: run `gateway migrate`; gateway.migrate is off"
        )


async def _missing(connection: Connection, known: Sequence[Migration]) -> list[Migration]:
    """What has not been applied yet.

    Raises:
        Stop: more has been than is known.
    """
    if not await connection.fetchval(queries.has_ledger):
        return list(known)
    applied = {row["version"]: row["name"] for row in await connection.fetch(queries.applied_versions)}
    newest = known[-1].version
    if applied and max(applied) > newest:
        raise Stop(
            f"the database has schema version {max(applied)} ({applied[max(applied)]}), this program "
            f"knows {newest}: run a program at least as new as the one that migrated it"
        )
    return [migration for migration in known if migration.version not in applied]


def refuse_encoding(encoding: str) -> None:
    """Refuse a database that cannot hold every text.

    Raises:
        Stop: it says how to make one that can.
    """
    if encoding != "UTF8":
        raise Stop(
            f"the database's encoding is {encoding}, which cannot hold all that devices send: dump it, make "
            f"a new one with `createdb --encoding UTF8 --template template0 …`, restore there"
        )


class _Migrator:
    """Applies what is missing, on one connection; another one looks at what it is at."""

    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        connection: Connection,
        known: Sequence[Migration],
        health: Health | None,
        tell_s: float,
    ) -> None:
        self._pool = pool
        self._connection = connection
        self._known = known
        self._health = health
        self._tell_s = tell_s

    async def run(self) -> list[str]:
        """Apply what is missing; returns the names."""
        applied_now = []
        try:
            refuse_encoding(self._connection.get_settings().server_encoding)
            if not await _missing(self._connection, self._known):
                return []
            await self._lock()
            for migration in await _missing(self._connection, self._known):
                await self._apply(migration)
                applied_now.append(migration.name)
        except ERRORS as error:
            raise as_retry(error) or Stop(f"cannot migrate: {error}") from error
        finally:
            self._say(None)
        return applied_now

    async def _lock(self) -> None:
        self._say("waiting for another migrator")
        while not await self._connection.fetchval(queries.lock_migrations):  # noqa: ASYNC110  # a lock of the server
            await asyncio.sleep(_PAUSE_S)

    async def _apply(self, migration: Migration) -> None:
        began = time.monotonic()
        log.info("migrating", version=migration.version, name=migration.name)
        self._say(f"migrating {migration.name}")
        self._connection.add_log_listener(_hand_on)
        try:
            async with self._told(migration, began):
                if migration.statements is None:
                    async with self._connection.transaction():
                        await self._connection.execute(queries.create_ledger)
                        await self._connection.execute(migration.sql)
                        await self._record(migration)
                else:
                    await self._apply_statements(migration, migration.statements)
        except asyncpg.InsufficientPrivilegeError as error:
            raise Retry("postgres", f"{_NOT_OURS} ({migration.name}: {error})") from error
        except ERRORS as error:
            cancelled = isinstance(error, asyncpg.QueryCanceledError)  # by somebody: there is no time-out
            retry = None if cancelled else as_retry(error)
            raise retry or Stop(f"migration {migration.name} failed: {error}") from error
        finally:
            self._connection.remove_log_listener(_hand_on)
        took_s = round(time.monotonic() - began, 1)
        log.info("migrated", version=migration.version, name=migration.name, took_s=took_s)

    async def _apply_statements(self, migration: Migration, statements: Sequence[str]) -> None:
        await self._connection.execute(queries.create_ledger)
        indexes = _INDEX.findall(migration.sql)
        for row in await self._connection.fetch(queries.drop_unfinished_indexes, indexes):
            await self._connection.execute(row[0])
        for statement in statements:
            await self._connection.execute(statement)
        await self._record(migration)

    async def _record(self, migration: Migration) -> None:
        await self._connection.execute(queries.record_migration, migration.version, migration.name)

    @contextlib.asynccontextmanager
    async def _told(self, migration: Migration, began: float) -> AsyncIterator[None]:
        telling = asyncio.create_task(self._tell(migration, began), name="migration-progress")
        try:
            yield
        finally:
            telling.cancel()
            await asyncio.wait({telling})

    async def _tell(self, migration: Migration, began: float) -> None:
        pid = self._connection.get_server_pid()
        while True:
            await asyncio.sleep(self._tell_s)
            with contextlib.suppress(*ERRORS):
                row = await self._pool.fetchrow(queries.migration_progress, pid)
                seen = {name: value for name, value in (row or {}).items() if value is not None}
                running_s = round(time.monotonic() - began, 1)
                log.info(
                    "migrating", version=migration.version, name=migration.name, running_s=running_s, **seen
                )
                waits = seen.get("blocked_by")
                self._say(f"migrating {migration.name}" + (f", blocked by {waits}" if waits else ""))

    def _say(self, reason: str | None) -> None:
        if self._health is not None:
            self._health.set("schema", reason)


def _hand_on(_connection: object, message: asyncpg.PostgresLogMessage) -> None:
    """Log what a migration warns of."""
    if message.severity_en == "WARNING":
        log.warning("migration_warns", message=message.message)
