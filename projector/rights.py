"""Whether the projector's role may do in PostgreSQL what it will have to.

It would find out anyway, right by right, and some only at the next rebuild. So it asks at its start and now
and then, says all that are missing at once, and is not ready as long as there are some.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NoReturn

from projector.outbox import answering, queries
from runtime.lifecycle import Waiting, keep_trying

if TYPE_CHECKING:
    import asyncpg

    from runtime.http import Health

LOOK_S: Final = 10.0


class Rights:
    """The rights of the role of a pool's connections."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], health: Health) -> None:
        self._pool = pool
        self._health = health

    async def run(self) -> NoReturn:
        """Look until cancelled."""
        waiting = Waiting("rights", self._health)
        while True:
            if missing := await keep_trying("postgres", self.missing, self._health):
                waiting.failed(f"postgres.dsn's role lacks {'; '.join(missing)}: GRANT them to it")
            else:
                waiting.over()
            await asyncio.sleep(LOOK_S)

    async def missing(self) -> list[str]:
        """Read which it lacks, each as GRANT has it, such as `SELECT ON measurements`.

        Raises:
            Retry: PostgreSQL is away.
        """
        with answering():
            return [row["missing"] for row in await self._pool.fetch(queries.missing_rights)]
