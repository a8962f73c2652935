"""Who may write a stream: one gateway at a time.

Two things together. An advisory lock, held by a connection of its own for as long as the gateway lives,
refuses a second gateway at its start; PostgreSQL frees it when the holder dies. A fencing token in
`streams.owner` decides at every append, so that a holder whose lock somebody else took cannot write any more.
The token is authoritative.

A holder that is there and gives no sign of life (a stopped process, a machine that vanished) is replaced:
who comes after it ends its connection. When it wakes up, its token is no longer the stream's. A process that
ended while the network was down leaves a connection that only looks alive. Its successor does not wait for
it: the connection's name says where the process ran, and there it can be looked for; and whoever comes under
the same client id takes two missed signs of life for enough.

Whoever has the stream also sees whether its server is another one than before, by cluster and timeline, at
every new connection. Then rows may be missing that readers have, and the stream gets a new epoch.

Whoever has the stream signs its rows on the internal topic (`contract/signature.py`), with a key that the
database keeps for as long as the stream has this epoch. Who may not write the key publishes unsigned, and
readers read the outbox instead.

Appending leaves the stream's row as it is (`gateway/sql/store.sql`). What is worth noting in it goes with the
signs of life: how far the relay has come, which only saves work at the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg
import structlog

from contract.signature import KEY_BYTES
from gateway.slot import is_gone, is_of_client
from gateway.trip import Trip
from runtime.errors import Retry, Stop
from runtime.lifecycle import keep_trying
from runtime.postgres import ERRORS, connect, ending, load_queries, retryable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from gateway.slot import Slot
    from runtime.http import Health

log = structlog.get_logger()
queries = load_queries("gateway")

_BEAT_INTERVAL_S = 5.0
_MISSED_S = 2.5 * _BEAT_INTERVAL_S
_ATTEMPTS = 50
_PAUSE_S = 0.1
_ANSWER_S = 10
_LAST_WORD_S = 2.0
_TAKEN_OVER = "stream {} was taken over by another gateway while this one was silent"
_NOT_TOLD = (  # by a server that does not let its clients know
    asyncpg.InsufficientPrivilegeError,
    asyncpg.FeatureNotSupportedError,
    asyncpg.UndefinedFunctionError,
)


class Lease:
    """The right to append to a stream.

    Args:
        dsn: where the stream is.
        slot: the stream, and who this is.
        health: of this process.
        silent_s: seconds without a sign of life after which a holder is replaced.

    Attributes:
        slot: as given.
        stream: its number.
        owner: this process's fencing token, another one after `renew`.
        epoch: the stream's epoch, known once acquired; another one after a failover.
        key: with which its rows are signed; None when that may not be known.
        head: the stream's last position when it was acquired.
        published: up to where the stream was known to be published then.
        publishing: asked for the same from then on.
        trip: to the server and back, measured with each sign of life.
    """

    def __init__(
        self,
        dsn: str,
        *,
        slot: Slot,
        health: Health,
        silent_s: float = 30.0,
    ) -> None:
        self.slot = slot
        self.stream = slot.stream
        self.owner = uuid.uuid4()
        self.epoch = ""
        self.key: bytes | None = None
        self.head = 0
        self.published = 0
        self.trip = Trip()
        self.publishing: Callable[[], int] = lambda: self.published
        self._dsn = dsn
        self._health = health
        self._silent_s = silent_s
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._cluster_noted = False
        self._signs_for = ""
        self._given_up = 0
        self._asking = asyncio.Lock()

    async def acquire(self) -> None:
        """Take the stream, waiting for PostgreSQL as long as it takes.

        Raises:
            Stop: another gateway holds it.
        """
        await keep_trying("postgres", self._claim, self._health)
        await keep_trying("postgres", self._beat, self._health)
        log.info("stream_claimed", stream=self.stream, head=self.head, published=self.published)

    async def hold(self) -> None:
        """Give signs of life, and take the lock again when its connection was lost. Runs until cancelled.

        Raises:
            Stop: somebody else has the stream now.
        """
        while True:
            await asyncio.sleep(_BEAT_INTERVAL_S)
            await keep_trying("postgres", self._beat, self._health)

    async def renew(self) -> None:
        """Take another token, waiting for PostgreSQL as long as it takes.

        Whatever was sent under the one before has been carried out by then, or never will be.

        Raises:
            Stop: somebody else has the stream now.
        """
        new = uuid.uuid4()

        async def renew() -> None:
            async with self._locked() as connection:
                renewed = self.stream, self.owner, new
                if await connection.fetchrow(queries.renew_owner, *renewed, timeout=_ANSWER_S) is None:
                    raise Stop(_TAKEN_OVER.format(self.stream))

        async with self._asking:  # a sign of life under the old token would find the stream taken
            await keep_trying("postgres", renew, self._health)
            self.owner = new

    async def release(self) -> None:
        """Say how far things have come, and give the lock back."""
        if self._connection is not None:
            with contextlib.suppress(*ERRORS):  # then the server frees it by itself
                if not self._connection.is_closed():
                    await self._connection.fetchrow(queries.beat, *self._sign(), timeout=_LAST_WORD_S)
                await self._connection.close(timeout=_LAST_WORD_S)

    async def _beat(self) -> None:
        async with self._asking, self._locked() as connection:
            if not self._cluster_noted:
                await self._note_cluster(connection)
            asked_at = time.perf_counter()
            await connection.execute(queries.ask_nothing, timeout=_ANSWER_S)
            self.trip.took(time.perf_counter() - asked_at)
            row = await connection.fetchrow(queries.beat, *self._sign(), timeout=_ANSWER_S)
            if row is None:
                raise Stop(_TAKEN_OVER.format(self.stream))
            key = await self._key(connection) if row["epoch"] != self._signs_for else self.key
        if row["epoch"] != self.epoch:
            log.warning("history_replaced", stream=self.stream)
        self.epoch = self._signs_for = row["epoch"]
        self.key = key

    async def _key(self, connection: asyncpg.Connection[asyncpg.Record]) -> bytes | None:
        new = secrets.token_bytes(KEY_BYTES)
        try:
            key: bytes | None = await connection.fetchval(
                queries.stream_key, self.stream, self.owner, new, timeout=_ANSWER_S
            )
        except asyncpg.InsufficientPrivilegeError as error:
            log.warning(
                "rows_unsigned",
                stream=self.stream,
                detail=str(error),
                advice="GRANT SELECT, INSERT, UPDATE ON stream_keys TO the gateway's role",
            )
            return None
        return key

    def _sign(self) -> tuple[int, uuid.UUID, int]:
        return self.stream, self.owner, self.publishing()

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        """The connection that holds the lock; the lock is taken again when that was lost.

        Raises:
            Retry: PostgreSQL is away, and with it the connection.
        """
        if self._connection is not None and self._connection.is_closed():
            log.warning("stream_lock_lost", stream=self.stream)
            self._connection = None
        if self._connection is None:
            await self._lock()
        assert self._connection is not None
        try:
            with retryable():
                yield self._connection
        except Retry:
            self._given_up = self._connection.get_server_pid()
            self._connection.terminate()
            raise

    async def _lock(self) -> None:
        with retryable():
            connection = await connect(self._dsn, name=self.slot.holder_name)
        try:
            with retryable():
                await self._lock_on(connection)
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection
        self._cluster_noted = False

    async def _lock_on(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        # A predecessor that was just killed may need a moment until the server has noticed.
        holder = None
        attempts = 0
        while not await connection.fetchval(queries.lock_stream, self.stream):
            holder = await connection.fetchrow(queries.stream_holder, self.stream)
            if holder is not None and (why := self._may_be_ended(holder)):
                log.warning(
                    "silent_holder_replaced",
                    stream=self.stream,
                    holder=holder["application_name"],
                    why=why,
                    silent_s=round(holder["silent_s"], 1),
                )
                await connection.fetchval(queries.end_holder, holder["pid"])
            attempts += 1
            if attempts >= _ATTEMPTS and not self._may_be_silent(holder):
                raise Stop(_refusal(f"stream {self.stream}", holder))
            await asyncio.sleep(_PAUSE_S)
        client = self.slot.session
        while client and not await connection.fetchval(queries.lock_client, client):
            holder = await connection.fetchrow(queries.client_holder, client)
            if holder is None or holder["is_stranger"] or not is_gone(holder["application_name"]):
                raise Stop(_refusal(f"client id {client}", holder))
            await connection.fetchval(queries.end_holder, holder["pid"])
            await asyncio.sleep(_PAUSE_S)

    def _may_be_ended(self, holder: asyncpg.Record) -> str:
        """Why a holder's connection may be ended; empty when it may not, as that of another role cannot."""
        if holder["is_stranger"]:
            return ""
        if holder["pid"] == self._given_up:
            return "it is this process's own, which got no answer on it"
        if is_gone(holder["application_name"]):
            return "its process is gone"
        if holder["silent_s"] > self._silent_s:
            return "it gives no sign of life"
        if holder["silent_s"] > _MISSED_S and is_of_client(holder["application_name"], self.slot):
            return "it is this client's own, and gives no sign of life"
        return ""

    def _may_be_silent(self, holder: asyncpg.Record | None) -> bool:
        """Whether a holder may turn out to be this client's own of before, having missed a sign of life."""
        return (
            holder is not None
            and holder["silent_s"] > _BEAT_INTERVAL_S
            and is_of_client(holder["application_name"], self.slot)
        )

    async def _claim(self) -> None:
        async with self._locked() as connection:
            claim = self.stream, self.owner, self.slot.owner_name
            await connection.execute(queries.claim_stream, *claim, timeout=_ANSWER_S)
            row = await connection.fetchrow(queries.read_stream, self.stream, timeout=_ANSWER_S)
        assert row is not None
        self.epoch, self.head, self.published = row["epoch"], row["head"], row["published"]

    async def _note_cluster(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        try:
            await connection.execute(queries.note_cluster, self.stream, self.owner, timeout=_ANSWER_S)
        except _NOT_TOLD as error:
            log.info("cluster_unknown", stream=self.stream, detail=str(error))
        self._cluster_noted = True


def _refusal(what: str, holder: asyncpg.Record | None) -> str:
    who = "another gateway"
    if holder is not None:
        if holder["is_stranger"]:  # of whom PostgreSQL tells no more
            return (
                f"{what} is held by the role {holder['role']}, which is no gateway's: end it as a superuser, "
                f"{ending(holder['pid'])} `gateway check` says how to keep it off"
            )
        where, since = holder["client_addr"] or "local", holder["backend_start"]
        when = f", since {since:%F %T}" if since else ""
        who = f"{holder['application_name']!r} ({where}{when})"
    return f"{what} is held by {who}: give each gateway its own gateway.stream and broker.client_id"
