"""PostgreSQL away while the gateway goes on: everything is in the spool, and stored once afterwards."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.faults.messages import Mix
from tests.faults.watch import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from tests.faults.site import Site
    from tests.support.commands import RunningCommand

    OpenSite = Callable[..., Awaitable[Site]]

AWAY_S = float(os.environ.get("AWAY_S", "10"))
MIX = Mix(qos0=0.2, conflicts=0.0, repeats=0.0)
CALLS = {"EDGE_GATEWAY_BATCH_MESSAGES": "100"}


async def kept(site: Site, messages: int) -> None:
    """Wait until the spool holds so many messages at least."""

    async def ask() -> str:
        found = await site.metric("gateway_spool_messages")
        return "" if found >= messages else f"{found} of {messages} messages are in the spool"

    await until(ask, within_s=30)


async def empty(site: Site) -> None:
    """Wait until nothing is left in the spool, and messages go past it."""

    async def ask() -> str:
        found = await site.metric("gateway_spool_messages")
        return f"{found} messages are left" if found or await site.metric("gateway_spooling") else ""

    await until(ask, within_s=60)


async def spooling(site: Site, environment: Mapping[str, str] | None = None) -> RunningCommand:
    """A gateway with a spool, which PostgreSQL has just left."""
    site.spools = True
    await site.start("projector")
    gateway = await site.start("gateway", environment)
    await site.fleet(mix=MIX).send(300)
    await site.settled()
    await site.postgres.stop("immediate")
    return gateway


async def test_an_outage(site: Site) -> None:
    """PostgreSQL goes and comes back: nothing is lost or doubled, and the path is direct again."""
    gateway = await spooling(site)
    async with site.fleet(mix=MIX).load(500):
        await gateway.event("spooling", timeout_s=20)
        await kept(site, 500)
        assert await site.metric("gateway_ready") == 1
        await site.postgres.start()
        await gateway.event("spool_drained", timeout_s=40)
    await site.audit(cursor_within_s=20)
    assert await site.metric("gateway_dropped_qos0_total") == 0
    await empty(site)
    assert await gateway.terminate() == 0
    assert not [event for event in gateway.events if event["event"].startswith("spool_set_aside")]


@pytest.mark.full
async def test_answers_lost_while_it_drains(open_site: OpenSite) -> None:
    """Answers of calls out of the spool are lost, and the gateway is killed over one: each is stored once."""
    site = await open_site(through=("postgres",))
    proxy = site.proxies["postgres"]
    gateway = await spooling(site, CALLS)
    async with site.fleet(mix=MIX).load(500):
        await gateway.event("spooling", timeout_s=20)
        await kept(site, 1500)
        proxy.swallow_answer(b'{"device_id"', times=1000)
        await site.postgres.start()
        await gateway.event("commit_resolved", skip=3, timeout_s=40)
        await gateway.kill()
        gateway = await site.start("gateway", CALLS, ready=False)
        await gateway.event("commit_resolved", skip=3, timeout_s=40)
        proxy.swallow_answer(b"", times=0)
        await gateway.event("spool_drained", timeout_s=40)
    await site.audit(cursor_within_s=20)
    await empty(site)
    assert await gateway.terminate() == 0


@pytest.mark.full
async def test_stopped_and_started_meanwhile(site: Site) -> None:
    """Stopped while PostgreSQL is away it ends at once and well; started again it takes messages without."""
    gateway = await spooling(site)
    async with site.fleet(mix=MIX).load(500):
        await gateway.event("spooling", timeout_s=20)
        await kept(site, 200)
        assert await gateway.terminate() == 0
        line = {name: int(n) for name, _, n in (part.partition("=") for part in gateway.stdout[-1].split())}
        settled = sum(line[name] for name in ("committed", "duplicate", "dead_lettered", "spooled"))
        assert (line["received"], line["in_flight"]) == (settled, 0)
        gateway = await site.start("gateway", ready=False)
        await gateway.event("started_without_postgres", timeout_s=20)
        await kept(site, 600)
        assert await site.metric("gateway_ready") == 1
        await site.postgres.start()
        await gateway.event("spool_drained", timeout_s=40)
    await site.audit(cursor_within_s=20)
    await empty(site)
    assert await gateway.terminate() == 0


@pytest.mark.full
@pytest.mark.timeout(300 + 6 * AWAY_S)
async def test_everything_goes_wrong_at_once(site: Site) -> None:
    """PostgreSQL is away, gateway and broker are killed twice, and what the broker kept is deleted.

    What the gateway has acknowledged or kept is stored once and counted once. `AWAY_S=600` takes ten minutes.
    """
    gateway = await spooling(site)
    fleet = site.fleet(mix=Mix(qos0=0.2, shapes=0.0, repeats=0.0, conflicts=0.0))
    rate = 2000
    for _ in range(2):
        await fleet.send(int(rate * AWAY_S / 2), rate=rate)
        await quiet(site)
        await gateway.kill()
        await site.services.mosquitto.kill()
        for file in site.services.mosquitto.folder.glob("*.db*"):
            file.unlink()
        await site.services.mosquitto.start()
        gateway = await site.start("gateway", ready=False)
        await gateway.event("started_without_postgres", timeout_s=20)
        await gateway.event("connected", timeout_s=20)
    await site.postgres.start()
    await gateway.event("spool_drained", timeout_s=120 + AWAY_S)
    await site.audit(cursor_within_s=30 + AWAY_S / 10)
    await empty(site)


async def quiet(site: Site) -> None:
    """Wait until nothing more comes into the spool."""
    before = -1

    async def ask() -> str:
        nonlocal before
        found = await site.metric("gateway_spool_messages")
        same, before = found == before, found
        return "" if same else f"{found} messages, and more come"

    await until(ask, within_s=60)
