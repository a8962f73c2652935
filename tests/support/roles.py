"""Roles that have the rights of the list and no others."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from urllib.parse import urlsplit

import asyncpg
from redis.asyncio import Redis

from contract.redis_rights import REDIS_USERS
from contract.rights import ROLES
from runtime.rights import script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from deploy.local.services import LocalServices

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

_OWNERS = frozenset({"migrate"})
"""Commands that are the owner's."""


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


def as_kind(dsn: str, kind: str) -> str:
    """The DSN of a database of `Databases` for a role that has a kind's rights and no others."""
    return dsn.replace("//postgres@", f"//tests_{kind}@")


class Pools(NamedTuple):
    """Connections to one database, by whom a test plays with them.

    Attributes:
        owner: of the tables, for what is prepared and looked at.
        gateway: has its rights and no others.
        projector: the same.
    """

    owner: Pool
    gateway: Pool
    projector: Pool


@contextlib.asynccontextmanager
async def open_pools(dsn: str, max_size: int = 4, **settings: str) -> AsyncIterator[Pools]:
    """Pools for a database of `Databases`, that connect when they are used.

    Args:
        dsn: of the database, as its owner.
        max_size: most connections of each.
        settings: of the sessions.
    """
    async with contextlib.AsyncExitStack() as stack:
        yield Pools(
            *[
                await stack.enter_async_context(
                    asyncpg.create_pool(each, min_size=0, max_size=max_size, server_settings=settings)
                )
                for each in (dsn, as_kind(dsn, "gateway"), as_kind(dsn, "projector"))
            ]
        )


async def grant_kinds(dsn: str) -> None:
    """Give the roles of `as_kind` their rights in a migrated database, and in all that are copied from it."""
    owner = await asyncpg.connect(dsn)
    try:
        for kind in ("gateway", "projector"):
            await owner.execute(f"CREATE ROLE tests_{kind} LOGIN NOSUPERUSER")
            for statement in script(ROLES[kind], f"tests_{kind}", database=urlsplit(dsn).path[1:]):
                await owner.execute(statement)
    finally:
        await owner.close()


async def make_redis_users(services: LocalServices) -> None:
    """Users of Redis that have what the list says, beside the one that may do everything."""
    async with Redis.from_url(services.redis.url()) as redis:
        for name, rights in REDIS_USERS.items():
            words = ("ACL", "SETUSER", name, "on", f">{_word(name)}", *rights.rules().split())
            await redis.execute_command(*words)  # type: ignore[no-untyped-call]  # ships it untyped


async def redis_refusals(services: LocalServices) -> list[str]:
    """What Redis has refused to users of the lists since it was asked last."""
    async with Redis.from_url(services.redis.url(), decode_responses=True) as redis:
        told = await redis.execute_command("ACL", "LOG")  # type: ignore[no-untyped-call]  # the same
        await redis.execute_command("ACL", "LOG", "RESET")  # type: ignore[no-untyped-call]  # the same
    entries = [
        dict(zip(each[::2], each[1::2], strict=True)) if isinstance(each, list) else each for each in told
    ]
    return [
        f"{entry['username']}: {entry['object']}" for entry in entries if "setinfo" not in entry["object"]
    ]


def _word(user: str) -> str:
    return f"word-of-{user}"


def least_rights(arguments: tuple[str, ...], path: Path, dsn: str, redis_url: str) -> dict[str, str]:
    """What has a command run with the rights of the list, where the configuration names these servers."""
    config = path.read_text(encoding="utf-8")
    program, command = arguments[0], arguments[1]
    told = {}
    if program in {"gateway", "projector"} and command not in _OWNERS and f'dsn = "{dsn}"' in config:
        told["EDGE_POSTGRES_DSN"] = as_kind(dsn, program)
    if program == "projector" and f'url = "{redis_url}"' in config and "prefix" not in config:
        user = "api" if command == "top" else "projector"
        told["EDGE_REDIS_URL"] = redis_url.replace("redis://", f"redis://{user}:{_word(user)}@")
        if command == "run":
            told["EDGE_REDIS_API_URL"] = redis_url.replace("redis://", f"redis://api:{_word('api')}@")
    return told


async def give(dsn: str, kind: str, name: str) -> None:
    """Give a role what the list says of its kind, by the statements that a site runs."""
    owner = await asyncpg.connect(dsn)
    try:
        for statement in script(ROLES[kind], name, database=urlsplit(dsn).path[1:]):
            await owner.execute(statement)
    finally:
        await owner.close()
