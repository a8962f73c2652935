"""The primary lost and a standby promoted in its place."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiomqtt
import pytest

from tests.faults.cluster import Cluster
from tests.faults.messages import STORED_ONLY
from tests.faults.watch import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.faults.site import Site
    from tests.support.commands import RunningCommand

    OpenSite = Callable[..., Awaitable[Site]]

END_COMMITS = """SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
    WHERE wait_event = 'SyncRep' AND (query LIKE '%store_batch%' OR query LIKE 'COMMIT%')"""


@pytest.fixture
async def protected(open_site: OpenSite) -> tuple[Site, Cluster]:
    """A site whose PostgreSQL has a synchronous standby."""
    site = await open_site(through=("postgres",))
    cluster = Cluster(site)
    await cluster.protect()
    return site, cluster


def count(process: RunningCommand, event: str) -> int:
    """How often a process has logged an event."""
    return sum(line["event"] == event for line in process.events)


async def looks_after_its_commit(site: Site, cluster: Cluster) -> str:
    """End every COMMIT that waits; say that the gateway does not wait yet for what it sees of its own."""
    await site.sql(END_COMMITS)
    return await cluster.lacks_waiting("site-gateway", "%rows_from%", "%is_outbox_row_there%")


@pytest.mark.parametrize(
    "others_write",
    [True, pytest.param(False, marks=pytest.mark.full)],
    ids=["others write first", "we write first"],
)
@pytest.mark.full
async def test_commit_unanswered(protected: tuple[Site, Cluster], *, others_write: bool) -> None:
    """A COMMIT that the promoted standby never saw is not taken for done, whoever has its number there."""
    site, cluster = protected
    await site.start_both()
    async with site.fleet().load():
        await site.fleets[0].sent(100)
        await cluster.unplug()
        await cluster.commit_waits("site-gateway")
        await cluster.fail_over(others_write=others_write)
    await site.audit(cursor_within_s=20)


async def test_seen_and_not_replicated(protected: tuple[Site, Cluster]) -> None:
    """What a primary shows without its standby having it is not acknowledged: neither the batch nor repeats.

    A session that is ended while its COMMIT waits leaves a transaction that every client of that primary can
    see, and that a failover takes away again.
    """
    site, cluster = protected
    await site.start_both()
    async with site.fleet().load():
        await site.fleets[0].sent(100)
        await cluster.unplug()
        await cluster.commit_waits("site-gateway")
        await until(lambda: looks_after_its_commit(site, cluster), within_s=20)
        await cluster.fail_over()
    await site.audit(cursor_within_s=20)


@pytest.mark.full
@pytest.mark.timeout(180)
async def test_again_and_again(protected: tuple[Site, Cluster]) -> None:
    """Three primaries killed under load, each in the middle of something: nothing is lost or doubled."""
    site, cluster = protected
    gateway, _ = await site.start_both()
    async with site.fleet().load(500):
        for _ in range(3):
            await gateway.event("batch_stored", skip=count(gateway, "batch_stored") + 5)
            await cluster.fail_over(others_write=True)
            await gateway.event("batch_stored", skip=count(gateway, "batch_stored") + 5, timeout_s=40)
            await cluster.protect()
    await site.audit(cursor_within_s=20)
    assert await gateway.terminate() == 0


async def test_replay(protected: tuple[Site, Cluster]) -> None:
    """A replay whose COMMIT the promoted standby never saw says what is so, and stores what it says."""
    site, cluster = protected
    gateway = await site.start("gateway", {"EDGE_GATEWAY_MAX_PAYLOAD_BYTES": "64"})
    await site.fleet(mix=STORED_ONLY).send(30)
    await site.settled()
    assert await gateway.terminate() == 0
    dark = asyncio.create_task(site.proxies["postgres"].dark_before(b"BEGIN"))
    replay = await site.command("gateway", "dead-letters", "replay", "--json")
    await dark
    await cluster.unplug()
    site.proxies["postgres"].heal()
    await cluster.commit_waits("gateway-dead-letters", "COMMIT%")
    await cluster.fail_over(others_write=True)
    assert await replay.exit_code(timeout_s=40) == 0
    assert json.loads(replay.stdout[-1])["stored"] == 30
    assert await site.sql("SELECT count(*) FROM measurements") == 30
    assert await site.sql("SELECT count(*) FROM dead_letters WHERE replayed_at IS NOT NULL") == 30


@asynccontextmanager
async def internal_topic(site: Site) -> AsyncIterator[set[int]]:
    """Numbers of the rows of stream 0 that go out on the internal topic."""
    seen: set[int] = set()

    async def listen(client: aiomqtt.Client) -> None:
        async for message in client.messages:
            seen.add(json.loads(str(message.payload, "utf-8"))["n"])

    async with aiomqtt.Client("127.0.0.1", site.services.mqtt_port) as client, asyncio.TaskGroup() as tasks:
        await client.subscribe("gateway/events/v1/0", qos=1)
        listening = tasks.create_task(listen(client))
        try:
            yield seen
        finally:
            listening.cancel()


def published(story: str) -> str:
    """What a trace says of that step of its only message."""
    (message,) = json.loads(story)["messages"]
    (state,) = [step["state"] for step in message["steps"] if step["step"] == "published"]
    return str(state)


@pytest.mark.full
async def test_rows_lost_with_the_primary(open_site: OpenSite) -> None:
    """A standby that lacks rows is promoted: what the cluster lost is gone, and from then on all goes on.

    The stream has another epoch; each new row goes out, though its number has gone out before; a trace does
    not call a row published for the sake of its lost namesake; Redis follows.
    """
    site = await open_site(through=("postgres",))
    cluster = Cluster(site, synchronous=False)
    await cluster.protect()
    gateway, projector = await site.start_both()
    await site.fleet().send(200)
    await site.settled()
    await cluster.unplug()
    epoch = await site.sql("SELECT epoch::text FROM streams")
    kept = int(str(await site.sql("SELECT head FROM streams")))
    lost = site.fleet()
    await lost.send(600, rate=400)
    await site.settled()
    await until(lambda: site.lag(lambda rows: rows == 0), within_s=20)
    site.fleets.remove(lost)
    gone = int(str(await site.sql("SELECT head FROM streams")))

    async with internal_topic(site) as seen:

        async def out(row: int) -> str:
            return "" if row in seen else f"row {row} is not on the internal topic"

        await cluster.fail_over()
        after = site.fleet(mix=STORED_ONLY)
        await after.send(1)
        await site.settled()
        trace = await site.command("gateway", "trace", "--json", str(after.log[0].key))
        await trace.exit_code()
        if published(trace.stdout[0]) == "yes":
            await until(lambda: out(kept + 1), within_s=5)
        await after.send(10, rate=40)
        await site.settled()
        last = int(str(await site.sql("SELECT head FROM streams")))
        assert last < gone, "not as many rows as were lost"
        for row in range(kept + 1, last + 1):
            await until(lambda row=row: out(row), within_s=20)  # type: ignore[misc]  # mypy and defaults

    async def another_epoch() -> str:
        return "" if await site.sql("SELECT epoch::text FROM streams") != epoch else "the epoch of before"

    await until(another_epoch, within_s=20)
    await site.audit(cursor_within_s=20)
    assert await gateway.terminate() == 0
    assert await projector.terminate() == 0
