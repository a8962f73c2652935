"""With what gateways sign their rows, so that nobody else's are shown (`contract/signature.py`).

As long as PostgreSQL does not tell, whatever comes is shown, and that is said.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NoReturn

from gateway.dead_letters.letters import database
from runtime.backoff import Backoff
from runtime.errors import Retry, Stop
from runtime.postgres import load_queries

if TYPE_CHECKING:
    from gateway.tail.output import Output
    from gateway.tail.quiet import Heard

queries = load_queries("gateway")

_LOOK_S: Final = 1.0
_BACKOFF_S: Final = (0.2, 3.0)


async def follow(dsn: str, keys: dict[int, bytes | None], output: Output, heard: Heard) -> NoReturn:
    """Keep streams and their keys up to date, until cancelled.

    Args:
        dsn: of the database.
        keys: to be kept so, None where a gateway does not sign; as they were while the database does not
            answer.
        output: told why it does not, once.
        heard: told who writes.
    """
    backoff = Backoff(*_BACKOFF_S)
    told = ""
    while True:
        try:
            async with database(dsn, name="gateway-tail") as pool:
                while True:
                    found = await pool.fetch(queries.tail_keys)
                    keys.clear()
                    keys.update({row["stream"]: row["key"] for row in found})
                    heard.gateways = {row["stream"]: (row["owner_name"], row["silent_s"]) for row in found}
                    backoff.reset()
                    told = ""
                    await asyncio.sleep(_LOOK_S)
        except (Retry, Stop) as error:
            heard.gateways = None
            if not keys and not told:
                told = f"whether rows are signed is not looked at: {error}"
                output.note(told)
            await asyncio.sleep(backoff.next_s())
