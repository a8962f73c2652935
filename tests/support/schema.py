"""The schema as text. `python -m tests.support.schema` writes `gateway/schema.sql` from the migrations."""

from __future__ import annotations

import asyncio
import re
import subprocess
from pathlib import Path

from deploy.local.services import LocalServices
from gateway.migrate import migrate

_NOISE = re.compile(r"^(--.*|SET .*|SELECT pg_catalog\..*|\\(un)?restrict .*)\n", re.MULTILINE)
_HEADER = (
    "-- What the migrations in gateway/migrations/ add up to, for reading. Written by `make schema`.\n\n"
)


def dump_schema(dsn: str, pg_dump: Path) -> str:
    """Dump a database's schema without what differs from one server to the next."""
    dumped = subprocess.run(
        [pg_dump, "--schema-only", "--no-owner", "--no-privileges", f"--dbname={dsn}"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return _HEADER + re.sub(r"\n{3,}", "\n\n", _NOISE.sub("", dumped)).strip() + "\n"


async def migrated_schema() -> str:
    """Migrate an empty database and dump it."""
    async with LocalServices(["postgres"], environ={}) as services:
        await migrate(services.postgres_dsn)
        return dump_schema(services.postgres_dsn, services.postgres.tool("pg_dump"))


if __name__ == "__main__":
    Path("gateway/schema.sql").write_text(asyncio.run(migrated_schema()), encoding="utf-8")
