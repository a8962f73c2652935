"""Says something of devices: all of them or none, in one transaction."""

from __future__ import annotations

import contextlib
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

import asyncpg

from projector.outbox import queries
from projector.watch.care import Care
from runtime.errors import Stop
from runtime.postgres import lent, open_pool, retryable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import timedelta

    from projector.watch.care import What
    from runtime.postgres import Connection

NAMED: Final = 5  # devices in an error
NEAR: Final = 3

_SETTINGS: Final = {
    "idle_in_transaction_session_timeout": "10s"
}  # a command that stands still lets others speak

_MOOT: Final[dict[str, frozenset[str]]] = {
    "muted": frozenset(),
    "unmuted": frozenset({"unmuted", "expired", "retired", "unretired", "returned"}),
    "retired": frozenset({"retired"}),
    "unretired": frozenset({"unretired", "returned", "muted", "unmuted", "expired"}),
}
"""After which words another changes nothing."""


@contextlib.asynccontextmanager
async def database(dsn: str) -> AsyncIterator[asyncpg.Pool[asyncpg.Record]]:
    """Open a pool for one command.

    Raises:
        Retry: PostgreSQL is away.
        Stop: it has no schema, or an older one.
    """
    async with await open_pool(dsn, name="projector-devices", max_size=2, settings=_SETTINGS) as pool:
        try:
            with retryable():
                yield pool
        except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError) as error:
            raise Stop("the database's schema is not this program's: run `gateway migrate`") from error


async def say(
    pool: asyncpg.Pool[asyncpg.Record],
    what: What,
    ids: Sequence[str],
    *,
    lasting: timedelta | None = None,
    by: str,
    reason: str = "",
) -> list[Care]:
    """Say something of devices; returns the words by which something changes.

    Args:
        pool: of the site's database.
        what: `muted`, `unmuted`, `retired` or `unretired`.
        ids: of which; each counts once.
        lasting: for how long, of a mute.
        by: who says so.
        reason: why.

    Raises:
        Stop: nothing was ever stored of one of them, or one that is to be muted is retired; it names some.
    """
    async with lent(pool) as connection:
        await _refuse_unknown(connection, ids)  # before anybody waits for the lock
        async with connection.transaction():
            await connection.execute(queries.lock_care)
            before = dict(map(tuple, await connection.fetch(queries.care_of, ids)))
            if what == "muted" and (retired := [id_ for id_, last in before.items() if last == "retired"]):
                raise Stop(f"{_named(retired)}: retired, so nobody is told of it; unretire it first")
            moot = _MOOT[what] | ({None} if what in {"unmuted", "unretired"} else set())
            about = [id_ for id_ in dict.fromkeys(ids) if before.get(id_) not in moot]
            said = await connection.fetch(queries.say_care, about, what, lasting, by, reason)
    return sorted(Care(*record) for record in said)


async def _refuse_unknown(connection: Connection, ids: Sequence[str]) -> None:
    unknown = [record["device_id"] for record in await connection.fetch(queries.unknown_devices, ids)]
    if not unknown:
        return
    near: dict[str, list[str]] = {}
    for id_ in unknown[:NAMED]:
        candidates = [record["device_id"] for record in await connection.fetch(queries.near_devices, id_)]
        by_letters = {each.casefold(): each for each in candidates}
        near[id_] = [by_letters[each] for each in get_close_matches(id_.casefold(), by_letters, NEAR)]
    said = "; ".join(f"{id_!r}" + (f", did you mean {_or(near[id_])}?" if near[id_] else "") for id_ in near)
    more = f"; and {len(unknown) - NAMED:,} more" if len(unknown) > NAMED else ""
    raise Stop(f"nothing has ever been stored of {said}{more}; nothing was changed")


def _or(ids: Sequence[str]) -> str:
    return " or ".join(map(repr, ids))


def _named(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - NAMED:,} more" if len(ids) > NAMED else ""
    return ", ".join(map(repr, ids[:NAMED])) + more
