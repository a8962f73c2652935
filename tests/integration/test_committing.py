"""Transactions carried to their end on a real PostgreSQL: in order of arrival, and without an answer."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest
from structlog.testing import capture_logs

from deploy.local.services import LocalServices
from gateway import transaction
from gateway.committing import _took_effect
from gateway.migrate import migrate
from gateway.store import SESSION_SETTINGS
from runtime import postgres
from runtime.errors import Retry
from tests.faults.proxy import Proxy
from tests.support.roles import grant_kinds
from tests.support.write_side import decode, write_side

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from gateway.decode import Reading
    from gateway.transaction import Evidence
    from runtime.postgres import Connection
    from tests.support.write_side import WriteSide

KEYS = "SELECT convert_from(payload, 'UTF8') FROM outbox ORDER BY n"
END_WAIT = """SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity
    WHERE wait_event = 'SyncRep' AND application_name = $1"""
WAITING = (
    "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database() LIMIT 1"
)
STRANGERS = "DO $$ BEGIN FOR i IN 1..%d LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"


@pytest.fixture
async def side(database: str) -> AsyncIterator[WriteSide]:
    """A store on this test's database that stores by transactions."""
    async with write_side(database, calls=False) as made:
        yield made


def batch(*keys: str, value: int = 1) -> list[bytes]:
    return [json.dumps({"id": key, "ts": "2026-11-23T08:00:00Z", "x": value}).encode() for key in keys]


async def stored(side: WriteSide) -> list[list[str]]:
    """The keys of each outbox row, in order."""
    rows = await side.pool.fetch(KEYS)
    return [[event["key"] for event in json.loads(row[0])] for row in rows]


class Gate:
    """Holds the first batch that writes its rows, its keys claimed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()
        self.pid = 0
        self._write = transaction.insert_measurements
        monkeypatch.setattr(transaction, "insert_measurements", self._insert)

    async def _insert(self, connection: Connection, readings: Sequence[Reading]) -> None:
        if not self.reached.is_set():
            self.pid = connection.get_server_pid()
            self.reached.set()
            await self.open.wait()
        await self._write(connection, readings)


async def test_what_arrived_first_is_committed_first(
    side: WriteSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second batch writes beside the first, and commits nothing before it."""
    gate = Gate(monkeypatch)
    first = asyncio.create_task(side.store.commit(*decode(*batch("1", "2"))))
    await gate.reached.wait()
    turn = side.store.turns.take()
    second = asyncio.create_task(side.store.commit(*decode(*batch("3")), turn))
    while not turn.claimed:
        await turn.change()
    assert not await stored(side)
    gate.open.set()
    await first
    await second
    assert await stored(side) == [["1", "2"], ["3"]]


@pytest.mark.parametrize("shared", [True, False])
async def test_an_earlier_batch_that_fails_is_not_overtaken(
    side: WriteSide, monkeypatch: pytest.MonkeyPatch, *, shared: bool
) -> None:
    """A batch whose connection is cut comes before those that were waiting for it, whose keys it may need."""
    gate = Gate(monkeypatch)
    first = asyncio.create_task(side.store.commit(*decode(*batch("1", "2"))))
    await gate.reached.wait()
    later = [batch("2" if shared else "3", "4", value=9), batch("5", "2" if shared else "6", value=9)]
    others = [asyncio.create_task(side.store.commit(*decode(*each))) for each in later]
    await side.pool.execute("SELECT pg_terminate_backend($1)", gate.pid)
    gate.open.set()
    (outcome,) = await asyncio.wait_for(first, 20)
    assert (outcome.committed, outcome.duplicates) == (2, 0)
    outcomes = [(await asyncio.wait_for(other, 20))[0] for other in others]
    assert [len(each.dead_letters) for each in outcomes] == ([1, 1] if shared else [0, 0])
    expected = [["1", "2"], ["4"], ["5"]] if shared else [["1", "2"], ["3", "4"], ["5", "6"]]
    assert await stored(side) == expected


async def test_a_bisected_batch_keeps_its_turn(side: WriteSide, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is left of a batch with bad readings is stored before the next one, its letters too."""
    await side.owner.execute("ALTER TABLE measurements ADD CHECK (message_key NOT IN ('3', '7'))")
    gate = Gate(monkeypatch)
    first = asyncio.create_task(side.store.commit(*decode(*batch(*"01234567"))))
    await gate.reached.wait()
    second = asyncio.create_task(side.store.commit(*decode(*batch("8"))))
    gate.open.set()
    outcomes = await first
    assert await side.pool.fetchval("SELECT count(*) FROM dead_letters") == 2
    assert sum(outcome.committed for outcome in outcomes) == 6
    await second
    assert [key for row in await stored(side) for key in row] == list("0124568")


async def test_a_batch_of_several_parts_keeps_its_turn(side: WriteSide) -> None:
    """The next batch begins when the last part has claimed its keys, and not between two."""
    turn = side.store.turns.take()
    await side.store.commit(*decode(*batch("1")), turn, last=False)
    second = asyncio.create_task(side.store.commit(*decode(*batch("3"))))
    await side.store.commit(*decode(*batch("2")), turn)
    assert await stored(side) == [["1"], ["2"]]
    turn.end()
    await second
    assert await stored(side) == [["1"], ["2"], ["3"]]


@pytest.mark.parametrize("calls", [True, False])
async def test_gateways_that_share_keys(database: str, *, calls: bool) -> None:
    """Two gateways with the same keys in different orders, cut again and again, store each once."""
    payloads = batch(*(str(i) for i in range(300)))
    async with write_side(database, 0, calls=calls) as one, write_side(database, 1, calls=calls) as two:
        work = [
            asyncio.create_task(side.store.commit(*decode(*(payloads[i * 37 :] + payloads[: i * 37]))))
            for i in range(8)
            for side in (one, two)
        ]
        connection = await asyncpg.connect(database)
        for _ in range(20):
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'test' AND datname = current_database()"
            )
            await connection.execute("SELECT pg_sleep(0.02 * random())")
        async with asyncio.timeout(60):
            outcomes = [part for task in work for part in await task]
        assert sum(outcome.committed for outcome in outcomes) == 300
        assert await connection.fetchval("SELECT count(*) FROM measurements") == 300
        await connection.close()


@asynccontextmanager
async def another_history(database: str, side: WriteSide) -> AsyncIterator[LocalServices]:
    """Another server with the same stream, on which strangers have had every transaction id of this one."""
    async with LocalServices(["postgres"], environ={}) as there:
        connection = await asyncpg.connect(there.postgres_dsn)
        name = database.rpartition("/")[2]
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()
        dsn = there.postgres.dsn(name)
        await migrate(dsn)
        await grant_kinds(dsn)
        connection = await asyncpg.connect(dsn)
        await connection.execute(
            "INSERT INTO stream_leases (stream, epoch, owner) VALUES ($1, $2::text::uuid, $3)",
            *(side.lease.stream, side.lease.epoch, side.lease.owner),
        )
        last = "SELECT pg_current_xact_id()::text::bigint"
        ahead = await side.pool.fetchval(last) - await connection.fetchval(last) + 1000
        await connection.execute("SET synchronous_commit = off")
        await connection.execute(STRANGERS % ahead)
        await connection.close()
        yield there


@pytest.mark.parametrize("payloads", [batch("1", "2"), [b"rubbish"]])
async def test_a_commit_that_another_history_never_had(
    services: LocalServices, database: str, payloads: list[bytes]
) -> None:
    """COMMIT unanswered, then a server on which strangers have its ids: it is stored there."""
    async with Proxy(services.postgres.port) as network:
        through = database.replace(str(services.postgres.port), str(network.port))
        async with write_side(through, calls=False) as side, another_history(database, side) as there:
            table = "dead_letters" if b"rubbish" in payloads else "measurements"
            await side.pool.execute("SELECT")
            network.swallow_answer(b"COMMIT", times=1)
            network.target = there.postgres.port
            (outcome,) = await side.store.commit(*decode(*payloads))
            assert network.swallowed == 1
            assert outcome.committed + len(outcome.dead_letters) == len(payloads)
            connection = await asyncpg.connect(there.postgres.dsn(database.rpartition("/")[2]))
            assert await connection.fetchval(f"SELECT count(*) FROM {table}") == len(payloads)  # noqa: S608  # a table of ours
            await connection.close()


async def test_a_commit_that_took_effect(services: LocalServices, database: str) -> None:
    """COMMIT unanswered, and done: it is found by what it left, and not taken for a repeat of itself."""
    async with Proxy(services.postgres.port) as network:
        through = database.replace(str(services.postgres.port), str(network.port))
        async with write_side(through, calls=False) as side:
            for payloads in (batch("1", "2"), [b"rubbish"]):
                network.swallow_answer(b"COMMIT", times=1)
                (outcome,) = await side.store.commit(*decode(*payloads))
                assert outcome.duplicates == 0
            assert network.swallowed == 2
            assert await side.pool.fetchval("SELECT count(*) FROM measurements") == 2
            assert await side.pool.fetchval("SELECT count(*) FROM dead_letters") == 1


async def test_a_call_that_is_refused_for_now_is_no_call_without_an_answer(database: str) -> None:
    """What somebody cancels, or a deadlock, is an answer: nothing is looked for that it may have left."""
    locking = await asyncpg.connect(database)
    async with write_side(database, calls=True) as side:
        held = locking.transaction()
        await held.start()
        await locking.execute("SELECT FROM stream_leases FOR UPDATE")
        with capture_logs() as told:
            stored = asyncio.create_task(side.store.commit(*decode(*batch("1"))))
            async with asyncio.timeout(20):
                while (waiting := await locking.fetchval(WAITING)) is None:
                    pass
                await locking.execute("SELECT pg_cancel_backend($1)", waiting)
                await held.rollback()
                (outcome,) = await stored
        assert outcome.committed == 1
        reasons = [each["reason"] for each in told if each["event"] == "waiting"]
        assert reasons == ["canceling statement due to user request"]
        assert not [each for each in told if each["event"] == "commit_resolved"]
    await locking.close()


@pytest.mark.parametrize("calls", [True, False])
async def test_attempts_that_wait_for_a_lock_leave_nothing_behind(
    database: str, monkeypatch: pytest.MonkeyPatch, *, calls: bool
) -> None:
    """The server ends what nobody waits for any more, so sessions do not pile up behind somebody's lock."""
    assert SESSION_SETTINGS["statement_timeout"] == f"{postgres._COMMAND_TIMEOUT_S + 5:.0f}s"
    monkeypatch.setattr(postgres, "_COMMAND_TIMEOUT_S", 0.1)
    monkeypatch.setitem(SESSION_SETTINGS, "statement_timeout", "300ms")
    locking, looking = [await asyncpg.connect(database) for _ in range(2)]
    async with write_side(database, calls=calls) as side:
        held = locking.transaction()
        await held.start()
        await locking.execute("SELECT FROM stream_leases FOR UPDATE")
        stored = asyncio.create_task(side.store.commit(*decode(*batch("1"))))
        async with asyncio.timeout(60):
            while not (first := await looking.fetchval(WAITING)):
                pass
            while await looking.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", first):
                await looking.execute("SELECT pg_sleep(0.05)")
            assert not stored.done()
            await held.rollback()
            assert sum(outcome.committed for outcome in await stored) == 1
    await locking.close()
    await looking.close()


async def in_force(dsn: str, connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Wait until the server makes commits wait for a standby."""
    somebody = await asyncpg.connect(dsn, server_settings={"application_name": "somebody"})
    waited = 0
    while not waited:
        writing = asyncio.create_task(somebody.execute("CREATE TEMP TABLE t (); DROP TABLE t"))
        while not (writing.done() or waited):
            waited = await connection.fetchval(END_WAIT, "somebody")
        await writing
    await somebody.close()


async def test_what_a_standby_may_lack_is_waited_for() -> None:
    """Neither what an unanswered COMMIT has left nor a repeat is taken for stored by a primary alone.

    A COMMIT whose wait for the standby was broken off leaves rows that everybody sees.
    """
    async with LocalServices(["postgres"], environ={}) as there:
        await migrate(there.postgres_dsn)
        await grant_kinds(there.postgres_dsn)
        connection = await asyncpg.connect(there.postgres_dsn)
        async with write_side(there.postgres_dsn, calls=False) as side:
            (rows,) = await side.store.commit(*decode(*batch("1")))
            (letters,) = await side.store.commit(*decode(b"rubbish"))
            ids = [letter.id for letter in letters.dead_letters]
            async with side.pool.acquire() as replaying:
                replay = await transaction.mark_replayed(replaying, ids)

            async def found(evidence: Evidence | None) -> bool:
                async with side.pool.acquire() as asking:
                    return await _took_effect(asking, evidence)

            async def repeated() -> bool:
                (outcome,) = await side.store.commit(*decode(*batch("1")))
                return outcome.duplicates == 1

            await connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            await connection.execute("SELECT pg_reload_conf()")
            async with asyncio.timeout(20):
                await in_force(there.postgres_dsn, connection)
                for ask in (repeated(), *(found(each) for each in (rows.evidence, letters.evidence, replay))):
                    answer = asyncio.create_task(ask)
                    while not await connection.fetchval(END_WAIT, "test"):
                        assert not answer.done(), "a primary alone has answered"
                    assert await answer
            await connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
            await connection.execute("SELECT pg_reload_conf()")
        await connection.close()


async def test_only_the_thing_itself_is_evidence(side: WriteSide) -> None:
    """Another row with the number, another letter with the id, or a stranger's transaction prove nothing."""
    (rows,) = await side.store.commit(*decode(*batch("1")))
    (letters,) = await side.store.commit(*decode(b"rubbish"))
    async with side.pool.acquire() as connection:
        for outcome in (rows, letters):
            evidence = outcome.evidence
            assert evidence is not None
            assert await _took_effect(connection, evidence)
            *name, at = evidence.about
            assert isinstance(at, datetime)
            other = evidence._replace(about=(*name, at + timedelta(microseconds=1)))
            assert not await _took_effect(connection, other)
        assert not await _took_effect(connection, None)


async def test_a_commit_that_is_still_under_way(side: WriteSide) -> None:
    """Nothing is decided while the transaction goes on; its id means nothing on another run of the server."""
    (outcome,) = await side.store.commit(*decode(*batch("1")))
    assert outcome.evidence is not None
    async with side.pool.acquire() as one, side.pool.acquire() as other:
        going_on = one.transaction()
        await going_on.start()
        id_ = await one.fetchval("SELECT pg_current_xact_id()::text")
        evidence = outcome.evidence._replace(transaction_id=id_)
        with pytest.raises(Retry, match="still in progress"):
            await _took_effect(other, evidence)
        elsewhere = evidence._replace(server_since=evidence.server_since - timedelta(seconds=1))
        assert await _took_effect(other, elsewhere)
        assert await _took_effect(other, elsewhere._replace(transaction_id="999999999999"))
        await going_on.rollback()
        assert await _took_effect(other, evidence)


async def test_a_replay_is_known_by_its_own_moment(side: WriteSide) -> None:
    """Letters that another replay has marked do not make this one look committed."""
    (outcome,) = await side.store.commit(*decode(b"rubbish", b"more"))
    ids = [letter.id for letter in outcome.dead_letters]
    async with side.pool.acquire() as connection:
        begun = connection.transaction()
        await begun.start()
        evidence = await transaction.mark_replayed(connection, ids)
        await begun.rollback()
        assert evidence is not None
        assert not await _took_effect(connection, evidence)
        await connection.execute("UPDATE dead_letters SET replayed_at = now()")
        assert not await _took_effect(connection, evidence)
        evidence = await transaction.mark_replayed(connection, ids)
        assert await _took_effect(connection, evidence)
        assert await transaction.mark_replayed(connection, []) is None


async def test_a_claim_inside_a_savepoint(side: WriteSide) -> None:
    """What is new of a batch is told by what was claimed, wherever in a transaction that was."""
    await side.store.commit(*decode(*batch("1", "2")))
    readings, _ = decode(*batch("1", "3", "3"), *batch("2", "4", value=9))
    async with side.pool.acquire() as connection, connection.transaction(), connection.transaction():
        claimed = await transaction.claim(connection, 0, readings)
    assert [reading.event.key for reading in claimed.new] == ["3", "4"]
    assert [reading.event.key for reading in claimed.known] == ["1", "3", "3", "4"]
    assert (claimed.duplicates, len(claimed.conflicts)) == (2, 1)
