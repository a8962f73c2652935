"""What others do to the database that we share with them: locks, constraints, tables with our names."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg
import httpx
import pytest

from gateway.migrate import migrate
from tests.faults.messages import STORED_ONLY, Mix, Sent
from tests.faults.watch import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.faults.site import Site

ZEROS = b"[" + b",".join([b"0"] * 131_071) + b"]"
QOS0_ONLY = Mix(shapes=0, repeats=0, conflicts=0, rubbish=0, qos0=1.0, qos2=0)


@asynccontextmanager
async def stranger(site: Site, *statements: str) -> AsyncIterator[None]:
    """Somebody's transaction, open with what these statements lock while inside."""
    connection = await asyncpg.connect(site.postgres.dsn())
    try:
        async with connection.transaction():
            for statement in statements:
                await connection.execute(statement)
            yield
    finally:
        await connection.close()


async def stored(site: Site, messages: int) -> str:
    """Say how many are stored when it is not as many as wanted."""
    found = await site.sql("SELECT count(*) FROM measurements")
    return "" if found == messages else f"{found} of {messages} stored"


async def readiness(site: Site) -> int:
    """What the gateway answers to `/readyz`."""
    async with httpx.AsyncClient() as client:
        return (await client.get(f"http://{site.settings()['EDGE_GATEWAY_HTTP']}/readyz")).status_code


@pytest.mark.parametrize(
    "mix", [STORED_ONLY, pytest.param(QOS0_ONLY, marks=pytest.mark.full)], ids=["QoS 1", "QoS 0"]
)
async def test_rows_of_devices_are_locked(site: Site, mix: Mix) -> None:
    """Somebody locks every row of `devices`: all that comes is stored and acknowledged meanwhile."""
    gateway = await site.start("gateway")
    fleet = site.fleet(mix=mix)
    await fleet.send(200, rate=1000)
    await until(lambda: stored(site, 200), within_s=20)
    assert await gateway.terminate() == 0
    gateway, _ = await site.start_both()
    async with stranger(site, "SELECT * FROM devices FOR UPDATE"):
        await fleet.send(3000, rate=1500)
        await until(lambda: stored(site, 3200), within_s=20)
        assert await site.metric("gateway_in_flight") == 0
        assert await readiness(site) == 200
    await site.audit()
    assert await gateway.terminate() == 0


async def test_keys_are_being_dumped(site: Site) -> None:
    """`pg_dump` reads the keys when their window is due to turn: intake starts and goes on, and is ready."""
    assert await (await site.start("gateway")).terminate() == 0
    await site.sql("UPDATE dedup SET turned_at = now() - interval '3 days'")
    async with stranger(site, "LOCK TABLE message_keys_0, message_keys_1 IN ACCESS SHARE MODE"):
        gateway, _ = await site.start_both()
        await site.fleet().send(500, rate=500)
        await site.settled(within_s=10)
        assert await readiness(site) == 200
    assert not [line for line in gateway.events if line["event"] == "waiting"]
    await site.audit()


@pytest.mark.parametrize(
    "days", [pytest.param(1, marks=pytest.mark.full), 3], ids=["of its day", "of three days"]
)
async def test_a_partition_of_somebody_elses(site: Site, days: int) -> None:
    """A partition for tomorrow that is not ours: what needs it fails by itself, and intake goes on."""
    await migrate(site.postgres.dsn())
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    end = tomorrow + timedelta(days=days)
    await site.sql(
        f"CREATE TABLE theirs PARTITION OF measurements FOR VALUES FROM ('{tomorrow}') TO ('{end}')"
    )
    await site.sql("SELECT grant_as_parent('measurements', 'theirs')")
    gateway, _ = await site.start_both()
    await site.fleet().send(300)
    await site.settled()
    assert await readiness(site) == 200
    await site.audit()
    assert await gateway.terminate() == 0


@pytest.mark.full
async def test_days_far_ahead(site: Site) -> None:
    """Rows of days to come, as far as the gateway takes them, get partitions of their own days."""
    ahead = {"EDGE_GATEWAY_MAX_AHEAD": "10d"}
    gateway = await site.start("gateway", ahead)
    fleet = site.fleet(mix=STORED_ONLY)
    fleet.generator.shift(timedelta(days=9))
    await fleet.send(50)
    await site.settled()
    assert await gateway.terminate() == 0
    gateway = await site.start("gateway", ahead)
    await site.start("projector")

    async def moved() -> str:
        left = await site.sql("SELECT count(*) FROM measurements_default")
        return f"{left} rows are in the default partition" if left else ""

    await until(moved, within_s=30)
    await site.audit()
    assert await gateway.terminate() == 0


@pytest.mark.parametrize(
    "table",
    ["outbox", *(pytest.param(name, marks=pytest.mark.full) for name in ("message_keys_0", "dead_letters"))],
)
async def test_a_table_that_takes_nothing(site: Site, table: str) -> None:
    """A table of ours refuses every row: nobody's message is to blame, so the process stops and says why.

    No good message becomes a dead letter, nothing is acknowledged, and after the repair all is stored.
    """
    assert await (await site.start("gateway")).terminate() == 0
    await site.sql(f"ALTER TABLE {table} ADD CONSTRAINT nothing CHECK (false) NOT VALID")
    gateway = await site.start("gateway")
    rubbish = 0.0 if table == "outbox" else 0.2
    await site.fleet(mix=Mix(shapes=0, repeats=0, conflicts=0, rubbish=rubbish, qos0=0, qos2=0)).send(100)
    assert await gateway.exit_code() == 1
    assert "nothing" in (await gateway.event("stopped"))["reason"]
    assert await site.sql("SELECT count(*) FROM dead_letters") == 0
    await site.sql(f"ALTER TABLE {table} DROP CONSTRAINT nothing")
    gateway, _ = await site.start_both()
    await site.audit(cursor_within_s=20)
    refused = await site.sql("SELECT count(*) FROM dead_letters WHERE reason = 'refused_by_database'")
    assert refused == 0
    assert await gateway.terminate() == 0


async def test_an_array_of_zeros(site: Site) -> None:
    """A payload that is wrong a hundred thousand times does not drive out what other devices are told of."""
    few = {"EDGE_GATEWAY_DEAD_LETTERS_MAX": "1000"}
    gateway = await site.start("gateway", few)
    others = site.fleet(mix=Mix(shapes=0, repeats=0, conflicts=0, rubbish=1.0, qos0=0, qos2=0))
    await others.send(50)
    await site.fleet().deliver([Sent("zeros", "", None, "", {}, ZEROS, 1, sound=False)])
    await site.fleet(mix=STORED_ONLY).send(10)
    await until(lambda: stored(site, 10), within_s=30)
    assert await gateway.terminate() == 0
    await site.start("gateway", few)

    async def within_bounds() -> str:
        letters = int(str(await site.sql("SELECT count(*) FROM dead_letters")))
        return f"{letters} dead letters" if letters > 1000 else ""

    await until(within_bounds, within_s=30)
    assert await site.sql("SELECT count(*) FROM dead_letters WHERE device_id IS DISTINCT FROM 'zeros'") == 50
    assert await site.sql("SELECT count(*) FROM dead_letters WHERE device_id = 'zeros'")
