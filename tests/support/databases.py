"""Fresh databases for tests: each is a copy of one template that holds the migrated schema."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploy.local.servers import Postgres

TEMPLATE = "migrated"


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

            await self._run("createdb", TEMPLATE)
            await migrate(self._postgres.dsn(TEMPLATE))
            self._migrated = True
        return await self.create_empty(template=TEMPLATE)

    async def create_empty(self, template: str = "template1") -> str:
        """Create a database without a schema, or with a template's, and return its DSN."""
        name = f"test_{next(self._numbers)}"
        await self._run("createdb", "--template", template, name)
        return self._postgres.dsn(name)

    async def create_latin(self) -> str:
        """Create a database that cannot hold every text and return its DSN."""
        name = f"test_{next(self._numbers)}"
        await self._run("createdb", "--encoding", "LATIN1", "--locale", "C", "--template", "template0", name)
        return self._postgres.dsn(name)

    async def drop(self, dsn: str) -> None:
        """Drop a database, ending what still uses it."""
        await self._run("dropdb", "--force", "--if-exists", dsn.rpartition("/")[2])

    async def _run(self, tool: str, *arguments: str) -> None:
        where = ["--host", "127.0.0.1", "--port", str(self._postgres.port), "--username", "postgres"]
        process = await asyncio.create_subprocess_exec(
            self._postgres.tool(tool), *where, *arguments, stderr=asyncio.subprocess.PIPE
        )
        _, errors = await process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"{tool} {' '.join(arguments)}: {errors.decode()}")
