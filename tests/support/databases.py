"""Fresh databases for tests: each is a copy of one template that holds the migrated schema."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import asyncpg

from tests.support.roles import grant_kinds

if TYPE_CHECKING:
    from deploy.local.servers import Postgres

TEMPLATE = "migrated"


async def forget_the_disk(postgres: Postgres, *, forget: bool = True) -> None:
    """Leave it to the system when a server writes: its databases outlive no test, let alone a power cut."""
    connection = await asyncpg.connect(postgres.dsn())
    try:
        await connection.execute("ALTER SYSTEM SET fsync = off" if forget else "ALTER SYSTEM RESET fsync")
        await connection.execute("SELECT pg_reload_conf()")
    finally:
        await connection.close()


class Databases:
    """Makes and drops databases of one PostgreSQL server."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self._numbers = count(1)
        self._migrated = False

    async def create(self) -> str:
        """Create a database with the current schema and return its DSN; the first call makes the template."""
        if not self._migrated:
            from gateway.migrate import migrate  # noqa: PLC0415  # tests without a database do without it

            await self._run(f"CREATE DATABASE {TEMPLATE}")
            await migrate(self._postgres.dsn(TEMPLATE))
            await grant_kinds(self._postgres.dsn(TEMPLATE))
            self._migrated = True
        return await self.create_empty(template=TEMPLATE)

    async def create_empty(self, template: str = "template1") -> str:
        """Create a database without a schema, or with a template's, and return its DSN."""
        name = f"test_{next(self._numbers)}"
        # A copy of files is half the work of a copy of pages through the log.
        await self._run(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return self._postgres.dsn(name)

    async def create_latin(self) -> str:
        """Create a database that cannot hold every text and return its DSN."""
        name = f"test_{next(self._numbers)}"
        await self._run(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        return self._postgres.dsn(name)

    async def drop(self, dsn: str) -> None:
        """Drop a database, ending what still uses it."""
        await self._run(f"DROP DATABASE IF EXISTS {dsn.rpartition('/')[2]} WITH (FORCE)")

    async def _run(self, command: str) -> None:
        connection = await asyncpg.connect(self._postgres.dsn())
        try:
            await connection.execute(command)
        finally:
            await connection.close()
