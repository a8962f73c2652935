"""The gateway that runs by a configuration, on this machine: found by who holds its stream."""

from __future__ import annotations

import os
import re
import signal
import socket
from typing import TYPE_CHECKING

from runtime.errors import Stop
from runtime.postgres import load_queries, open_pool

if TYPE_CHECKING:
    from runtime.settings import Settings

queries = load_queries("gateway")


async def hang_up(settings: Settings) -> int:
    """Send SIGHUP to the gateway of this stream and client id; returns its process id.

    Raises:
        Stop: there is none, or it runs elsewhere.
        Retry: PostgreSQL is away.
    """
    stream, client_id = settings.gateway.stream, settings.broker.client_id
    async with await open_pool(settings.postgres.dsn, name="gateway-reload", max_size=1) as pool:
        name: str | None = await pool.fetchval(queries.owner_name, stream)
    found = re.fullmatch(rf"{re.escape(client_id)} on (.+), pid (\d+)", name or "")
    if found is None:
        raise Stop(f"stream {stream} is not that of {client_id}, but of {name or 'nobody'}")
    if found[1] != socket.gethostname():
        raise Stop(f"{name}: run this there, or send that process SIGHUP")
    try:
        os.kill(int(found[2]), signal.SIGHUP)
    except (ProcessLookupError, PermissionError) as error:
        raise Stop(f"{name}: {error.strerror}") from error
    return int(found[2])
