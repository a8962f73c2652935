"""A transaction carried to its end: committed, and known to be (promises 1 and 2).

What a failure leads to, for batches and for pages of a replay alike:

- The server is away, or refuses for a while: nothing was kept, and it is written again until it commits.
- COMMIT got no answer: its outcome is unknown. What the transaction would have left is looked for: the very
  outbox row, dead letter or mark of a replay. Numbers and ids are names in one history of a database, and
  after a failover another one may answer, in which somebody else has them; so they are asked for together
  with the moment of writing. A transaction id has no such company: it is used for one question only, whether
  the transaction is still at it, and only of the run of the server that gave the id (ADR 9). What is not
  there is written again; should it have been there and been trimmed, dedup resolves it.
- The append is refused: PostgreSQL is asked what it is that no longer holds. The dedup window has turned: the
  batch is written again, in the new generation. The stream ends elsewhere, because a failover lost rows: it
  goes on from there. Another gateway owns the stream: the process stops.
- A call (`gateway/one_call.py`) got no answer: the row that it would have left is looked for, by the readings
  in it, before each further attempt: a call may be carried out late. Before its batch is left to a
  transaction, because rows are refused, the stream gets another token, so that it no longer can be.
- The batch before has to be written again (`gateway/turns.py`): so has this one, after it.
- PostgreSQL refuses a statement for good: the process stops with what it said. No error but one of the rows'
  own table is ever taken for the fault of a message.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, NoReturn, Protocol, TypeVar

import asyncpg
import structlog

from gateway.transaction import AppendRefused, Position, RowsRefused, is_in_progress, left_its_evidence
from gateway.turns import OutOfTurn
from runtime import faults
from runtime.errors import Retry, Stop
from runtime.lifecycle import keep_trying
from runtime.postgres import ERRORS, as_retry, lent, load_queries, retryable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from asyncpg.transaction import Transaction

    from gateway.lease import Lease
    from gateway.one_call import Called, OneCall
    from gateway.transaction import Appended, Evidence
    from gateway.turns import Turn
    from runtime.http import Health
    from runtime.postgres import Connection

log = structlog.get_logger()
queries = load_queries("gateway")


class Written(Protocol):
    """What a transaction came to, if it commits."""

    @property
    def appended(self) -> Appended | None:
        """Its outbox row."""

    @property
    def evidence(self) -> Evidence | None:
        """What it leaves behind; None when it leaves nothing that must not be left twice."""


T = TypeVar("T")
W = TypeVar("W", bound=Written)


class _Again(Exception):  # noqa: N818  # no error: what was written for has changed
    """Write it again, at once."""


class Committing:
    """Commits to one stream, in turns.

    Args:
        went_back: called with the end of the stream when that is lower than it was.
    """

    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        *,
        lease: Lease,
        health: Health,
        went_back: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._pool = pool
        self._lease = lease
        self._health = health
        self._went_back = went_back
        self._head = lease.head
        self._generation = 0

    @property
    def generation(self) -> int:
        """Of keys, to claim from."""
        return self._generation

    def position(self, generation: int) -> Position:
        """Where what claimed from a generation goes; to be asked when it is its turn."""
        return Position(self._lease.stream, self._lease.owner, generation, self._head + 1)

    async def run(self, turn: Turn, write: Callable[[Connection], Awaitable[W]]) -> W:
        """Write and commit, however long PostgreSQL takes.

        Args:
            turn: in which this is committed; `write` says to it when it has claimed, and asks it before it
                appends.
            write: everything between BEGIN and COMMIT; called again when an attempt has failed.

        Raises:
            RowsRefused: by `write`; nothing was kept.
            Stop: the stream belongs to another gateway now, or PostgreSQL refuses for good.
        """
        unknown: list[W] = []

        async def attempt() -> W:
            await turn.may_claim()
            with turn.attempt(), retryable():
                async with lent(self._pool) as connection:
                    if unknown and await _took_effect(connection, unknown[-1].evidence):
                        return unknown[-1]
                    unknown.clear()
                    return await self._transact(connection, write, unknown)

        written = await self._carry(attempt)
        if written.appended is not None:
            self._head = written.appended.n
        return written

    async def call(self, turn: Turn, call: OneCall, *, last: bool) -> Called:
        """Store by one call, however long PostgreSQL takes, and wait for the turn to end.

        Args:
            turn: in which this is committed.
            call: called again when an attempt has failed.
            last: whether nothing more of the turn comes, so that the next may be sent behind it.

        Raises:
            RowsRefused: something refuses a row; nothing was kept.
            Stop: as `run`.
        """
        attempts = 0
        lost: list[int] = []  # places of calls without an answer

        async def attempt() -> Called:
            nonlocal attempts
            attempts += 1
            after = await turn.may_send(behind=attempts == 1, wholes=call.is_whole)
            with turn.attempt(), retryable():
                async with lent(self._pool) as connection:
                    if lost and (found := await self._look(connection, call, min(lost))) is not None:
                        return found
                    position = Position(
                        self._lease.stream, self._lease.owner, self._generation, 1 + (after or self._head)
                    )
                    says_something = call.ask()
                    may_be_followed = last and not says_something and self._lease.trip.is_long
                    turn.send(position.n if may_be_followed else None, whole=call.is_whole)
                    faults.point("before_commit")
                    try:
                        called = await call.send(connection, position, follows=after is not None)
                    except AppendRefused:
                        if after is not None:
                            raise OutOfTurn from None  # what it was sent behind has not been stored
                        raise
                    except RowsRefused:
                        if lost and (found := await self._settle(connection, call, min(lost))) is not None:
                            return found
                        raise
                    except ERRORS as error:
                        _fail_without_answer(connection, error, lost, position.n)
                    faults.point("after_commit")
                    return called

        called = await self._carry(attempt)
        appended = called.outcome.appended
        if appended is None:
            turn.send(None)
        await turn.may_end()
        if appended is not None:
            self._head = appended.n
        return called

    async def _look(self, connection: Connection, call: OneCall, since: int) -> Called | None:
        """What a call without an answer has come to so far; None while nothing is to be seen of it."""
        found = await call.look(connection, self._lease.stream, since)
        log.info("commit_resolved", outcome="not there" if found is None else "committed")
        return found

    async def _settle(self, connection: Connection, call: OneCall, since: int) -> Called | None:
        """What a call without an answer has come to for good: what others do of it must not be done twice."""
        await self._lease.renew()
        return await self._look(connection, call, since)

    async def _carry(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Try until it is done, and learn whatever has to be known for that."""

        async def attempt_or_learn() -> T:
            try:
                return await attempt()
            except AppendRefused:
                with retryable():
                    await self._learn()
                raise _Again from None

        while True:
            try:
                return await keep_trying("postgres", attempt_or_learn, self._health)
            except (_Again, OutOfTurn):
                continue
            except asyncpg.PostgresError as error:
                raise Stop(f"postgres refuses to store, whatever the batch holds: {error}") from error

    async def _learn(self) -> None:
        """Learn why an append was refused.

        Raises:
            Stop: another gateway owns the stream.
            Retry: there is no reason to be seen.
        """
        stream = self._lease.stream
        row = await self._pool.fetchrow(queries.stream_owner, stream)
        assert row is not None
        if row["owner"] != self._lease.owner:
            raise Stop(
                f"stream {stream} was taken over by {row['owner_name'] or 'another gateway'}: "
                f"give each gateway its own gateway.stream and broker.client_id"
            )
        known, now = (self._generation, self._head), (row["generation"], row["head"])
        if now == known:
            raise Retry("postgres", f"stream {stream} does not take row {self._head + 1}")
        self._generation, self._head = now
        log.info("stream_refreshed", stream=stream, head=self._head, generation=self._generation)
        if self._head < known[1]:
            log.warning("stream_went_back", stream=stream, head=self._head, was=known[1])
            self._went_back(self._head)

    async def _transact(
        self, connection: Connection, write: Callable[[Connection], Awaitable[W]], unknown: list[W]
    ) -> W:
        begun = connection.transaction()
        try:
            asked_at = time.perf_counter()
            await begun.start()
            self._lease.trip.took(time.perf_counter() - asked_at)
            written = await write(connection)
        except BaseException as error:
            await _roll_back(connection, begun, error)
            raise
        faults.point("before_commit")
        try:
            await begun.commit()
        except ERRORS as error:
            _fail_without_answer(connection, error, unknown, written)
        faults.point("after_commit")
        return written


def _fail_without_answer(connection: Connection, error: Exception, unknown: list[T], done: T) -> NoReturn:
    """Raise what an error of whatever commits means, and note what may be done all the same."""
    _discard(connection)
    if isinstance(error, asyncpg.PostgresError) and (as_retry(error) is None or error.severity_en == "ERROR"):
        raise error  # an answer, and it is no; where the server ends the session nobody knows
    unknown.append(done)
    raise Retry("postgres", f"COMMIT got no answer: {error}") from error


async def _took_effect(connection: Connection, evidence: Evidence | None) -> bool:
    """Whether a transaction whose COMMIT got no answer did commit.

    Raises:
        Retry: the server is still at it.
    """
    if evidence is None:
        return False
    if await is_in_progress(connection, evidence):
        raise Retry("postgres", "a commit that got no answer is still in progress")
    committed = await left_its_evidence(connection, evidence)
    log.info("commit_resolved", outcome="committed" if committed else "not there")
    return committed


async def _roll_back(connection: Connection, begun: Transaction, error: BaseException) -> None:
    """Roll back where the connection is known to be whole; any other is not used again."""
    if isinstance(error, (AppendRefused, OutOfTurn, RowsRefused, asyncpg.PostgresError)):
        try:
            await begun.rollback()
        except ERRORS:
            _discard(connection)
    else:
        _discard(connection)


def _discard(connection: Connection) -> None:
    """Close a connection so that the pool makes a new one; the server rolls back what was open on it."""
    with contextlib.suppress(asyncpg.InterfaceError):  # the pool has taken it back already
        connection.terminate()
