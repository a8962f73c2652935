"""Dead letters as they come, asked for by id twice a second.

Gateways commit in another order than ids are given out: a letter can appear behind one with a higher id, by
as long as a transaction may last. So the ids of the last half minute are asked for again, less those already
seen.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, NoReturn

from contract.events import format_time
from gateway.dead_letters.letters import database
from gateway.tail.items import DeadLetter
from runtime.backoff import Backoff
from runtime.errors import Retry
from runtime.postgres import address, load_queries

if TYPE_CHECKING:
    from collections.abc import Callable

    import asyncpg

    from gateway.tail.filters import Filters
    from gateway.tail.output import Output

queries = load_queries("gateway")

_POLL_S: Final = 0.5
_PAGE: Final = 1000
_OVERLAP_S: Final = 30.0
_OVERLAP_IDS: Final = 10_000
_BACKOFF_S: Final = (0.2, 3.0)  # somebody is watching


class Seen:
    """The ids of late, so that each letter is shown once.

    Attributes:
        floor: letters up to this id are not asked for any more.
    """

    def __init__(self, newest: int) -> None:
        self.floor = newest
        self._ids: deque[tuple[float, int]] = deque()

    @property
    def ids(self) -> list[int]:
        """Those above the floor that were shown."""
        return [id_ for _, id_ in self._ids]

    def add(self, id_: int, now_s: float) -> None:
        """Note a letter shown, and forget those that were half a minute ago or are too many."""
        self._ids.append((now_s, id_))
        while len(self._ids) > _OVERLAP_IDS or now_s - self._ids[0][0] > _OVERLAP_S:
            self.floor = max(self.floor, self._ids.popleft()[1])


async def follow(dsn: str, filters: Filters, output: Output, tell: Callable[[str | None], None]) -> NoReturn:
    """Put out dead letters that come from now on, until cancelled.

    Args:
        dsn: of the database.
        filters: what is wanted.
        output: where it goes.
        tell: told why the database does not answer, or None when it does.

    Raises:
        Stop: the schema is not this program's.
    """
    backoff = Backoff(*_BACKOFF_S)
    seen: Seen | None = None
    while True:
        try:
            async with database(dsn, name="gateway-tail") as pool:
                while True:
                    if seen is None:
                        seen = Seen(await pool.fetchval(queries.newest_dead_letter))
                    full = await _page(pool, seen, filters, output)
                    tell(None)
                    backoff.reset()
                    await asyncio.sleep(0 if full else _POLL_S)
        except Retry as error:
            tell(error.reason.removeprefix(f"{address(dsn)}: "))
            await asyncio.sleep(backoff.next_s())


async def _page(pool: asyncpg.Pool[asyncpg.Record], seen: Seen, filters: Filters, output: Output) -> bool:
    rows = await pool.fetch(queries.tail_dead_letters, seen.floor, seen.ids, _PAGE)
    now_s = asyncio.get_running_loop().time()
    for row in rows:
        seen.add(row["id"], now_s)
        if filters.letter(row["device_id"], row["reason"]):
            letter = DeadLetter(**{**row, "received_at": format_time(row["received_at"])})
            output.put(letter, len(letter.topic) + len(letter.error))
    return len(rows) == _PAGE
