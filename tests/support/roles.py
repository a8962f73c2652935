"""Roles that have the rights of the list and no others."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg

from contract.rights import ROLES
from runtime.rights import script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def bare_role(dsn: str, name: str) -> AsyncIterator[str]:
    """The DSN of a role that may do nothing at all, in a database in which nobody else may either."""
    owner = await asyncpg.connect(dsn)
    database = urlsplit(dsn).path[1:]
    try:
        await owner.execute(
            f'REVOKE ALL ON DATABASE "{database}" FROM PUBLIC; REVOKE ALL ON SCHEMA public FROM PUBLIC'
        )
        await owner.execute(f"CREATE ROLE {name} LOGIN NOSUPERUSER")
        yield dsn.replace("postgres@", f"{name}@")
    finally:
        await owner.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")
        await owner.close()


async def give(dsn: str, kind: str, name: str) -> None:
    """Give a role what the list says of its kind, by the statements that a site runs."""
    owner = await asyncpg.connect(dsn)
    try:
        for statement in script(ROLES[kind], name, database=urlsplit(dsn).path[1:]):
            await owner.execute(statement)
    finally:
        await owner.close()
