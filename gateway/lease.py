"""Who may write a stream: one gateway at a time.

Two things together. An advisory lock, held by a connection of its own for as long as the gateway lives,
refuses a second gateway at its start; PostgreSQL frees it when the holder dies. A fencing token in
`streams.owner` decides at every append, so that a holder whose connection was lost, and whose lock somebody
else took, cannot write any more. The token is authoritative.
"""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from typing import TYPE_CHECKING

import asyncpg
import structlog

from runtime.errors import Stop
from runtime.lifecycle import keep_trying
from runtime.postgres import load_queries, retryable

if TYPE_CHECKING:
    from runtime.http import Health

log = structlog.get_logger()
queries = load_queries("gateway")

_CHECK_INTERVAL_S = 5.0
_ATTEMPTS = 50
_PAUSE_S = 0.1


class Lease:
    """The right to append to a stream.

    Attributes:
        stream: the stream's number.
        owner: this process's fencing token.
        epoch: the stream's epoch, known once acquired.
        head: the stream's last position when it was acquired.
        published: up to where the stream was known to be published then.
    """

    def __init__(self, dsn: str, *, stream: int, client_id: str, health: Health) -> None:
        self.stream = stream
        self.owner = uuid.uuid4()
        self.epoch = ""
        self.head = 0
        self.published = 0
        self._name = f"{client_id} on {socket.gethostname()}, pid {os.getpid()}"
        self._dsn = dsn
        self._health = health
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def acquire(self) -> None:
        """Take the stream, waiting for PostgreSQL as long as it takes.

        Raises:
            Stop: another gateway holds it.
        """
        await keep_trying("postgres", self._lock, self._health)
        row = await keep_trying("postgres", self._claim, self._health)
        self.epoch, self.head, self.published = row["epoch"], row["head"], row["published"]
        log.info("stream_claimed", stream=self.stream, head=self.head, published=self.published)

    async def hold(self) -> None:
        """Watch over the lock's connection and take the lock again when it was lost. Runs until cancelled.

        Raises:
            Stop: somebody else took the lock meanwhile.
        """
        while True:
            await asyncio.sleep(_CHECK_INTERVAL_S)
            if self._connection is None or self._connection.is_closed():
                log.warning("stream_lock_lost", stream=self.stream)
                await keep_trying("postgres", self._lock, self._health)

    async def release(self) -> None:
        """Give the lock back."""
        if self._connection is not None:
            await self._connection.close(timeout=2)

    async def _lock(self) -> None:
        name = f"gateway {self._name}"[:63]
        with retryable():
            connection = await asyncpg.connect(
                self._dsn, timeout=10, server_settings={"application_name": name}
            )
        try:
            with retryable():
                await self._lock_on(connection)
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection

    async def _lock_on(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        # A predecessor that was just killed may need a moment until the server has noticed.
        for _ in range(_ATTEMPTS):
            if await connection.fetchval(queries.lock_stream, self.stream):
                return
            await asyncio.sleep(_PAUSE_S)
        raise Stop(_refusal(self.stream, await connection.fetchrow(queries.stream_holder, self.stream)))

    async def _claim(self) -> asyncpg.Record:
        assert self._connection is not None
        with retryable():
            row = await self._connection.fetchrow(queries.claim_stream, self.stream, self.owner, self._name)
        assert row is not None
        return row


def _refusal(stream: int, holder: asyncpg.Record | None) -> str:
    who = "another gateway"
    if holder is not None:
        where, since = holder["client_addr"] or "local", holder["backend_start"]
        who = f"{holder['application_name']!r} ({where}, since {since:%F %T})"
    return f"stream {stream} is held by {who}: give each gateway its own gateway.stream and broker.client_id"
