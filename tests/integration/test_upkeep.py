"""The gateway's chores on a real PostgreSQL: beside the path, one gateway at a time for the site."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from unittest.mock import Mock

import asyncpg
import msgspec
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from gateway import site as sites
from gateway.bounds import trim_outbox, turn_dedup
from gateway.door import Door
from gateway.doorman import Doorman
from gateway.ledger import Ledger
from gateway.upkeep import Upkeep
from runtime.errors import Stop
from runtime.http import Health
from runtime.postgres import ERRORS, lent, open_pool
from runtime.settings import Broker, Gateway, Postgres, Settings
from tests.support.measured import OLD, at, insert, row
from tests.support.roles import as_kind
from tests.support.write_side import decode, write_side

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gateway.site import Site
    from runtime.postgres import Connection
    from tests.support.databases import Databases
    from tests.support.write_side import WriteSide

STREAMS = "INSERT INTO streams (stream, head) SELECT unnest($1::integer[]), 0"
ROWS = """INSERT INTO outbox
SELECT $1, n, 1, ''::bytea, now() - interval '1 day' FROM generate_series(1, $2::bigint) AS n"""
REPORT = """INSERT INTO projections
SELECT p, $1, $2, gen_random_uuid() FROM unnest(ARRAY['redis', 'history']) AS p"""


@pytest.fixture
async def keeper(database: str) -> AsyncIterator[Connection]:
    """The connection of whoever does a chore."""
    settings = {"lock_timeout": "100ms"}
    async with (
        await open_pool(as_kind(database, "gateway"), name="keeper", settings=settings) as pool,
        lent(pool) as made,
    ):
        yield made


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Somebody else's."""
    made = await asyncpg.connect(database)
    yield made
    await made.close()


@asynccontextmanager
async def upkeep(
    dsn: str, gateway: Gateway | None = None, client_id: str = "g"
) -> AsyncIterator[tuple[Upkeep, Health]]:
    """A gateway's upkeep, not yet running."""
    settings = Settings(
        broker=Broker(client_id=client_id), postgres=Postgres(dsn=dsn), gateway=gateway or Gateway()
    )
    health = Health()
    ledger = Ledger(CollectorRegistry(), now=lambda: datetime.now(UTC))
    async with await open_pool(as_kind(dsn, "gateway"), name="test") as pool:
        made = Upkeep(
            pool,
            settings,
            store=Mock(),
            devices=Mock(take_due=lambda _now: []),
            relay=Mock(behind=0),
            ledger=ledger,
            rejected=Mock(),
            health=health,
            doorman=Doorman(Door()),
        )
        yield made, health


@asynccontextmanager
async def running(upkeep: Upkeep) -> AsyncIterator[None]:
    """Its chores being done."""
    task = asyncio.create_task(upkeep.run())
    yield
    task.cancel()
    await asyncio.wait({task})


async def test_a_chore_may_take_longer_than_what_its_role_is_for(database: str) -> None:
    """Behind a pooler the role's settings count at first: a turn goes by its own, time-outs of locks too."""
    seen = []

    async def work(connection: Connection, _site: Site) -> None:
        names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "jit")
        seen.extend([await connection.fetchval("SELECT current_setting($1)", name) for name in names])

    async with (
        upkeep(database) as (made, _),
        await open_pool(
            as_kind(database, "gateway"), name="pooled", settings={"statement_timeout": "35s"}
        ) as made._own,
    ):
        await made._for_the_site("odd", work)
    assert seen == ["0", "100ms", "30s", "off"]


async def test_sightings_that_are_being_written_are_waited_for(database: str) -> None:
    """A gateway that stops in the middle of that loses none: what the chore has in hand is nobody else's."""
    written: list[str] = []
    begun, may = asyncio.Event(), asyncio.Event()

    async def write(sightings: list[str]) -> None:
        begun.set()
        await may.wait()
        written.extend(sightings)

    async with upkeep(database) as (made, _):
        made._store = Mock(write_sightings=write)
        made._devices = Mock(take_due=lambda _now: ["due"], take_all=lambda: ["all"])
        chore = asyncio.create_task(made._write_sightings())
        await begun.wait()
        last = asyncio.create_task(made.write_sightings())
        may.set()
        await last
        assert written == ["due", "all"]
        await chore


async def commit(side: WriteSide, key: str) -> tuple[int, int]:
    """Store a message; how often it was new, and how often a repeat."""
    payload = json.dumps({"id": key, "ts": "2026-11-20T00:00:00Z", "x": 1}).encode()
    (outcome,) = await asyncio.wait_for(side.store.commit(*decode(payload)), 10)
    return outcome.committed, outcome.duplicates


# -- the dedup window ----------------------------------------------------------------------------------------


async def test_a_dump_postpones_the_turn_and_stops_no_batch(
    database: str, keeper: Connection, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """While somebody reads the keys batches commit and the turn waits a minute; afterwards it is made."""
    async with write_side(database) as side:
        assert await commit(side, "1") == (1, 0)
        async with connection.transaction():
            await connection.execute("LOCK TABLE message_keys_0, message_keys_1 IN ACCESS SHARE MODE")
            with capture_logs() as logs:
                turning = [asyncio.create_task(turn_dedup(keeper, timedelta()))]
                for i in range(10):
                    assert await commit(side, f"while-{i}") == (1, 0)
                assert await turning[0] is False
            assert [line["event"] for line in logs if "dedup" in line["event"]] == ["dedup_turn_postponed"]
        assert await turn_dedup(keeper, timedelta()) is True
        assert await commit(side, "1") == (0, 1)


async def test_the_turn_waits_for_fifty_milliseconds(
    keeper: Connection, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """Batches wait behind it for no longer; for half a second once it is an hour late."""
    measured = []
    for late in ("0 seconds", "61 minutes"):
        await connection.execute("UPDATE dedup SET turned_at = now() - $1::text::interval", late)
        async with connection.transaction():
            await connection.execute("LOCK TABLE message_keys_1 IN ACCESS SHARE MODE")
            began = asyncio.get_running_loop().time()
            assert await turn_dedup(keeper, timedelta()) is False
            measured.append(asyncio.get_running_loop().time() - began)
    assert measured[0] >= 0.05
    assert measured[1] >= 0.5


async def test_a_gateway_that_was_away_for_long_knows_its_last_messages(
    database: str, keeper: Connection, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """Nobody turned the window meanwhile, and it turns once: what the broker sends again is recognised."""
    async with write_side(database) as side:
        await commit(side, "unacknowledged")
        await connection.execute("UPDATE dedup SET turned_at = now() - interval '10 days'")
        assert [await turn_dedup(keeper, timedelta(days=1)) for _ in range(3)] == [True, False, False]
        assert await commit(side, "unacknowledged") == (0, 1)


# -- the outbox ----------------------------------------------------------------------------------------------


async def test_streams_of_gateways_that_are_gone_are_trimmed_too(
    keeper: Connection, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """Every stream to where its projections are, in pieces, and its newest row stays."""
    await connection.execute("ALTER TABLE outbox DROP CONSTRAINT outbox_stream_fkey")
    await connection.execute("ALTER TABLE projections DROP CONSTRAINT projections_stream_fkey")
    for stream, rows, applied in ((0, 1300, 1300), (7, 1300, 600), (32768, 5, 5), (9, 5, None)):
        await connection.execute(ROWS, stream, rows)
        if applied is not None:
            await connection.execute(REPORT, stream, applied)
    assert await trim_outbox(keeper, timedelta(hours=1)) == 3
    left = await connection.fetch("SELECT stream, min(n), max(n) FROM outbox GROUP BY 1 ORDER BY 1")
    assert [tuple(row) for row in left] == [(0, 1300, 1300), (7, 601, 1300), (9, 1, 5), (32768, 5, 5)]
    assert await trim_outbox(keeper, timedelta(hours=1)) == 0


async def test_a_trim_that_is_cut_off_keeps_what_it_did(
    database: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """However long an outbox has grown: each piece is gone for good."""
    await connection.execute("ALTER TABLE outbox DROP CONSTRAINT outbox_stream_fkey")
    await connection.execute("ALTER TABLE projections DROP CONSTRAINT projections_stream_fkey")
    await connection.execute(ROWS, 0, 30_000)
    await connection.execute(REPORT, 0, 30_000)
    async with await open_pool(as_kind(database, "gateway"), name="keeper") as pool, lent(pool) as keeper:
        trimming = asyncio.create_task(trim_outbox(keeper, timedelta(hours=1)))
        while await connection.fetchval("SELECT min(n) FROM outbox") == 1:
            assert not trimming.done()
        keeper.terminate()
        with pytest.raises(ERRORS):
            await trimming
    left = await connection.fetchval("SELECT count(*) FROM outbox")
    assert 0 < left < 30_000
    others = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    while await connection.fetchval(others):  # noqa: ASYNC110  # the server has yet to notice that it is gone
        await asyncio.sleep(0.01)
    async with await open_pool(as_kind(database, "gateway"), name="keeper") as pool, lent(pool) as keeper:
        await trim_outbox(keeper, timedelta(hours=1))
    assert await connection.fetchval("SELECT count(*) FROM outbox") == 1


# -- the whole of it -----------------------------------------------------------------------------------------


async def test_a_partition_of_somebody_else_keeps_nobody_from_starting(
    database: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """The chore says what to do, the others are done, the process is ready, and rows are stored."""
    await connection.execute(f"CREATE TABLE measurements_p{datetime.now(UTC):%Y%m%d} (x integer)")
    async with upkeep(database) as (made, health), write_side(database) as side:
        await made.prepare()
        async with running(made):
            async with asyncio.timeout(30):
                while made.dedup_window_s is None or not made.chores.records["partitions"].failures:
                    await connection.execute("SELECT pg_sleep(0.01)")
            assert "rename or drop it" in made.chores.records["partitions"].reason
            assert health.reasons() == {}
            assert await commit(side, "1") == (1, 0)
        assert await connection.fetchval("SELECT count(*) FROM partitions_of('measurements')") >= 10


async def test_one_gateway_at_a_time_does_a_chore(
    database: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """Who finds it taken leaves it, and its other chores are done."""
    taken = "SELECT pg_advisory_lock(hashtext('mqtt-edge-gateway/chore'), hashtext('outbox'))"
    await connection.execute(taken)
    async with upkeep(database) as (made, _), running(made):
        async with asyncio.timeout(30):
            while made.dedup_window_s is None:
                await connection.execute("SELECT pg_sleep(0.01)")
        assert made.outbox_bytes is None
        assert made.chores.records["outbox"].failures == 0
    assert made.dedup_age_s >= 0


async def test_days_that_are_over_are_settled(
    database: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """A gateway adds them up by itself, as long as they are kept."""
    await connection.execute("SELECT create_measurement_partitions('2020-03-01', '2020-03-01')")
    await insert(connection, [row("1", at(OLD), x=1)])
    async with upkeep(database) as (made, _), running(made), asyncio.timeout(30):
        while await connection.fetchval("SELECT state FROM settled_days") != "settled":
            await connection.execute("SELECT pg_sleep(0.01)")


async def test_a_start_leaves_the_partitions_to_who_is_at_them(
    database: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """A gateway that starts does not open the default partition that another one has shut to attach days."""
    await connection.execute(
        "SELECT pg_advisory_lock(hashtext('mqtt-edge-gateway/chore'), hashtext('partitions'))"
    )
    await connection.execute(
        "SELECT shut_default_partition('measurements', 'ts',"
        " ARRAY[timestamptz '2999-01-01'], ARRAY[timestamptz '2999-01-02'])"
    )
    async with upkeep(database) as (made, _):
        await made.prepare()
    assert (
        await connection.fetchval("SELECT count(*) FROM pg_constraint WHERE conname = 'partitions_ahead'")
        == 1
    )
    await connection.execute("SELECT pg_advisory_unlock_all()")
    async with upkeep(database) as (made, _):
        await made.prepare()
    assert await connection.fetchval("SELECT count(*) FROM partitions_of('measurements')") >= 10


async def test_the_last_start_sets_what_all_go_by(keeper: Connection) -> None:
    """Whoever changes what another gateway set says what it was and whose; all read the same."""
    first, second = Gateway(retention="90d"), Gateway(retention="30d", dead_letters_max=5)
    with capture_logs() as logs:
        await sites.declare(keeper, first, "first")
        await sites.declare(keeper, first, "again")
        assert logs == []
        await sites.declare(keeper, second, "second")
    told = [(line["setting"], line["was"], line["now"], line["set_by"]) for line in logs]
    assert told == [
        ("gateway.dead_letters_max", "100000", "5", "first"),
        ("gateway.retention", "90d", "30d", "first"),
    ]
    in_force = await sites.read(keeper, first)
    assert (in_force.retention, in_force.dead_letters_max) == (timedelta(days=30), 5)
    assert in_force.history == {"1m": timedelta(days=35)}


async def test_a_database_in_another_encoding_is_refused(databases: Databases) -> None:
    """At the start, migrations on or off, with what to do."""
    dsn = await databases.create_latin()
    async with upkeep(dsn) as (made, _):
        with pytest.raises(Stop, match=r"encoding is LATIN1.*createdb --encoding UTF8"):
            await made.prepare()
    await databases.drop(dsn)


def test_what_is_shared_is_configured() -> None:
    """Every shared setting is a key of `[gateway]`."""
    assert set(sites.SHARED) <= {field.name for field in msgspec.structs.fields(Gateway)}


# -- what was held -------------------------------------------------------------------------------------------


async def test_what_came_before_a_gateway_knew_its_device_is_stored(
    database: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """A letter that was written after its device was made known is released by a gateway that holds."""
    await connection.execute("INSERT INTO devices (device_id) VALUES ('a1')")
    await connection.execute(
        """INSERT INTO dead_letters (received_at, topic, device_id, reason, error, payload)
        SELECT now(), 'devices/' || id || '/telemetry', id, 'unknown_device', 'e', '{"id": "1", "x": 1}'
        FROM unnest(ARRAY['a1', 'b1']) AS w (id)"""
    )
    held = Gateway(unknown_devices="hold")
    with capture_logs() as logs:
        async with upkeep(database, held) as (made, _), running(made), asyncio.timeout(30):
            while not [line for line in logs if line["event"] == "held_released"]:
                await connection.execute("SELECT pg_sleep(0.01)")
    waiting = await connection.fetch("SELECT device_id FROM dead_letters WHERE replayed_at IS NULL")
    assert [row["device_id"] for row in waiting] == ["b1"]
    (released,) = [line for line in logs if line["event"] == "held_released"]
    assert (released["letters"], released["stored"]) == (1, 1)
