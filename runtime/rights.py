"""Whether a process's role may do in PostgreSQL what it will have to.

It would find out anyway, right by right, and some only at the next rebuild or at midnight. So it asks at its
start and now and then, says all that are missing at once with the statements that give them, and is not ready
as long as there are some.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NoReturn, TypeAlias

from runtime.lifecycle import Waiting, keep_trying
from runtime.postgres import load_queries, retryable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import asyncpg

    from runtime.http import Health

_LOOK_S: Final = 10.0
_AGAIN_S: Final = 1.0

_GRANT_DAYS: Final = (
    "SELECT grant_as_parent('{0}', c.relname) FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid "
    "WHERE i.inhparent = '{0}'::regclass"
)

Asked: TypeAlias = "tuple[str, str, str, tuple[str, ...]]"
"""Kind, name, verb and columns of a right (`contract.rights.Right`)."""

queries = load_queries("runtime")


class Rights:
    """The rights of the role of a pool's connections.

    Args:
        pool: whose role it is.
        wanted: all that this process needs.
        health: where `rights` says what is missing.
    """

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], wanted: Sequence[Asked], health: Health) -> None:
        self._pool = pool
        self._wanted = wanted
        self._health = health

    async def run(self) -> NoReturn:
        """Look until cancelled."""
        waiting = Waiting("rights", self._health)
        while True:
            if lacking := await keep_trying("postgres", self._lacking, self._health):
                waiting.failed(
                    f"postgres.dsn's role lacks some; their owner gives them: {'; '.join(lacking)}"
                )
            else:
                waiting.over()
            await asyncio.sleep(_AGAIN_S if lacking else _LOOK_S)

    async def _lacking(self) -> list[str]:
        with retryable():
            return await missing_rights(self._pool, self._wanted)


async def missing_rights(
    connection: asyncpg.Pool[asyncpg.Record] | asyncpg.Connection[asyncpg.Record], wanted: Sequence[Asked]
) -> list[str]:
    """The statements that give the role what it lacks, such as `GRANT SELECT ON measurements TO reader`."""
    kinds, names, verbs, columns = zip(*wanted, strict=True)
    rows = await connection.fetch(
        queries.missing_rights, kinds, names, verbs, [", ".join(each) for each in columns]
    )
    if not rows:
        return []
    return grants(((row["verb"], row["name"]) for row in rows), await connection.fetchval(queries.our_role))


def grants(rights: Iterable[tuple[str, str]], role: str) -> list[str]:
    """The statements that give a role rights.

    Args:
        rights: each as its verb, with the columns it is about, and the object as GRANT names it.
        role: as SQL has it, with quotes where it needs some.
    """
    verbs: dict[str, list[str]] = {}
    for verb, name in rights:
        verbs.setdefault(name, []).append(verb)
    return [f"GRANT {', '.join(said)} ON {name} TO {role}" for name, said in verbs.items()]


def script(wanted: Iterable[Asked], role: str, *, database: str, schema: str = "public") -> list[str]:
    """The statements that give a role all of these rights, to be run by the owner; names are quoted here."""
    quoted = _quote(role)
    named: list[tuple[str, str]] = []
    days: list[str] = []
    for kind, name, verb, columns in wanted:
        on = {
            "TABLE": name,
            "SCHEMA": f"SCHEMA {_quote(schema)}",
            "DATABASE": f"DATABASE {_quote(database)}",
        }.get(kind, f"{kind} {name}")
        if kind == "DAYS":
            days.append(_GRANT_DAYS.format(name))
        else:
            named.append((f"{verb} ({', '.join(columns)})" if columns else verb, on))
    return [*grants(named, quoted), *days]


def _quote(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'
