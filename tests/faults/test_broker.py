"""The broker restarted, killed, forgetful, small and unreachable."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import aiomqtt
import pytest

from deploy.local import servers
from tests.faults.messages import STORED_ONLY, Mix
from tests.faults.watch import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.faults.site import Site
    from tests.support.commands import RunningCommand

    OpenSite = Callable[..., Awaitable[Site]]

DROPPED = "$SYS/broker/publish/messages/dropped"
UPTIME = "$SYS/broker/uptime"
TRAILS_S = 3.0  # with other scenarios beside it


@pytest.fixture
async def configured(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Awaitable[None]]:
    """Restarts the site's broker with other values in the repository's own configuration."""

    async def restart(**options: object) -> None:
        lines = servers.MOSQUITTO_CONF.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if line.split(" ")[0] not in options]
        assert len(kept) == len(lines) - len(options)
        variant = tmp_path / "mosquitto.conf"
        variant.write_text("\n".join([*kept, *(f"{k} {v}" for k, v in options.items())]) + "\n")
        await site.services.mosquitto.stop()
        monkeypatch.setattr(servers, "MOSQUITTO_CONF", variant)
        await site.services.mosquitto.start()

    return restart


async def dropped(port: int) -> int:
    """What the broker says it has dropped since its start, as of its next report."""
    count = 0
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe(DROPPED)
        await client.subscribe(UPTIME)
        ticks = 0
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            if message.topic.value == DROPPED:
                count = int(message.payload)
            elif not message.retain:
                ticks += 1
                if ticks == 2:
                    break
    return count


@pytest.mark.full
async def test_restarted(site: Site) -> None:
    """A broker that saves at its stop is restarted three times under load: nothing is lost."""
    gateway, _ = await site.start_both()
    async with site.fleet().load(500):
        for turn in range(3):
            stored = sum(e["event"] == "batch_stored" for e in gateway.events)
            await gateway.event("batch_stored", skip=stored + 5)
            await site.services.mosquitto.stop()
            await site.services.mosquitto.start()
            await gateway.event("connected", client_id="site-gateway", skip=turn, session_present=True)
    await site.audit(cursor_within_s=20)


@pytest.mark.full
async def test_killed(site: Site) -> None:
    """A broker killed with `kill -9` loses what it had acknowledged and not handed over, and nothing else.

    It keeps a session that it had saved. What is lost was acknowledged in the second before a kill.
    """
    gateway, _ = await site.start_both()
    site.services.mosquitto._process.send_signal(signal.SIGUSR1)  # type: ignore[union-attr]  # it runs
    kills = []
    async with site.fleet().load(500):
        for turn in range(3):
            stored = sum(e["event"] == "batch_stored" for e in gateway.events)
            await gateway.event("batch_stored", skip=stored + 5)
            kills.append(time.monotonic())
            await site.services.mosquitto.kill()
            await site.services.mosquitto.start()
            await gateway.event("connected", client_id="site-gateway", skip=turn, session_present=True)

    def lost_by_broker(acked_at: float) -> bool:
        return any(kill - 1 < acked_at <= kill + 0.1 for kill in kills)

    await site.audit(excused=lost_by_broker, cursor_within_s=20)


@pytest.mark.full
async def test_without_persistence(site: Site, configured: Callable[..., Awaitable[None]]) -> None:
    """A broker that forgets everything: the gateway says that its session was lost, and takes up again.

    What is lost was acknowledged between just before the end, as far as the gateway trails, and its return.
    """
    await configured(persistence="false")
    gateway, _ = await site.start_both()
    gaps = []
    async with site.fleet().load(500):
        for turn in range(3):
            stored = sum(e["event"] == "batch_stored" for e in gateway.events)
            await gateway.event("batch_stored", skip=stored + 5)
            end = time.monotonic()
            await site.services.mosquitto.stop()
            await site.services.mosquitto.start()
            await gateway.event("session_lost", skip=turn)
            gaps.append((end - TRAILS_S, time.monotonic()))

    def lost_by_broker(acked_at: float) -> bool:
        return any(start < acked_at <= end for start, end in gaps)

    await site.audit(excused=lost_by_broker, cursor_within_s=20)
    assert await gateway.terminate() == 0


@pytest.mark.full
async def test_tiny_queues(site: Site, configured: Callable[..., Awaitable[None]]) -> None:
    """A broker that drops what it has acknowledged: what is missing is exactly what it reports dropped."""
    await configured(max_queued_messages=50, max_inflight_messages=20, sys_interval=1)
    gateway, _ = await site.start_both()
    fleet = site.fleet(mix=STORED_ONLY)
    await fleet.send(200, rate=200)
    await site.settled()
    assert await gateway.terminate() == 0
    await fleet.send(600)
    count = await dropped(site.services.mqtt_port)
    assert count > 400
    await site.start("gateway")
    await fleet.send(50, rate=100)
    await until(lambda: site.auditor.lacks(fleet.log[-50:]), within_s=20)
    books = await site.audit(dropped=count)
    assert len(books.missing) == count


@pytest.mark.full
async def test_backlog(site: Site) -> None:
    """What queued up while the gateway was away, some of it QoS 0, comes to the last message, unprompted."""
    await (await site.start("gateway")).terminate()
    await site.start("projector")
    fleet = site.fleet()
    await fleet.send(8000, rate=20_000)
    await site.start("gateway")
    await until(lambda: site.auditor.lacks(fleet.log), within_s=20)
    await site.audit()


@pytest.mark.full
@pytest.mark.timeout(150)
async def test_half_open(open_site: OpenSite) -> None:
    """The way to the broker goes dark without a farewell: the gateway notices by itself and comes back."""
    site = await open_site(through=("mosquitto",))
    gateway = await site.start("gateway", {"EDGE_BROKER_KEEPALIVE_S": "5"})
    await site.start("projector", {"EDGE_BROKER_KEEPALIVE_S": "5"})
    async with site.fleet().load(200):
        for turn in range(2):
            stored = sum(e["event"] == "batch_stored" for e in gateway.events)
            await gateway.event("batch_stored", skip=stored + 5)
            site.proxies["mosquitto"].blackhole()
            await gateway.event("disconnected", client_id="site-gateway", skip=turn, timeout_s=30)
            site.proxies["mosquitto"].heal()
            await gateway.event("connected", client_id="site-gateway", skip=turn + 1, timeout_s=60)
    await site.audit(cursor_within_s=40)
    assert await gateway.terminate() == 0


@pytest.mark.full
async def test_cut_at_any_moment(open_site: OpenSite) -> None:
    """Connections to the broker cut again and again: what was not acknowledged comes again, stored once."""
    site = await open_site(through=("mosquitto",))
    gateway, _ = await site.start_both()
    async with site.fleet().load(500):
        for turn in range(6):
            stored = sum(e["event"] == "batch_stored" for e in gateway.events)
            await gateway.event("batch_stored", skip=stored + 3)
            site.proxies["mosquitto"].cut()
            await gateway.event("disconnected", client_id="site-gateway", skip=turn)
            await gateway.event("connected", client_id="site-gateway", skip=turn + 1, timeout_s=40)
    await site.audit(cursor_within_s=40)


@pytest.mark.full
async def test_retained(site: Site) -> None:
    """Retained messages, keyed and not, are stored once however often the gateway starts again."""
    gateway, _ = await site.start_both()
    async with aiomqtt.Client("127.0.0.1", site.services.mqtt_port) as client:
        for i in range(20):
            body = b'{"x":%d}' % i if i % 2 else b'{"id":"r%d","x":%d}' % (i, i)
            await client.publish(f"devices/r{i}/telemetry", body, qos=1, retain=True)

    async def all_stored() -> str:
        count = await site.sql("SELECT count(*) FROM measurements")
        return "" if count == 20 else f"{count} stored of 20"

    await until(all_stored, within_s=20)
    for _ in range(3):
        await gateway.kill()
        gateway = await site.start("gateway")
        fleet = site.fleet(name=f"after{len(site.fleets)}-")
        await fleet.send(50)
        await site.settled()
    mine = await site.sql("SELECT count(*) FROM measurements WHERE device_id LIKE 'r%'")
    assert mine == 20


@pytest.mark.full
@pytest.mark.timeout(150)
async def test_storm_of_qos0(open_site: OpenSite) -> None:
    """More QoS 0 than fits while PostgreSQL is dark: the rest is dropped and counted, memory bounded."""
    site = await open_site(through=("postgres",))
    gateway, _ = await site.start_both()
    fleet = site.fleet(mix=Mix(shapes=0, repeats=0, conflicts=0, rubbish=0, qos0=1.0, qos2=0))
    await fleet.send(100)
    await gateway.event("batch_stored")
    site.proxies["postgres"].blackhole()
    await fleet.send(40_000, rate=20_000)
    rss = site.rss_mb(gateway)
    site.proxies["postgres"].heal()
    by_broker = await dropped(site.services.mqtt_port)

    async def accounted() -> str:
        stored = int(str(await site.sql("SELECT count(*) FROM measurements")))
        by_gateway = await site.metric("gateway_dropped_qos0_total")
        found = stored + by_gateway + by_broker
        return "" if found == 40_100 else f"{stored} stored, {by_gateway} and {by_broker} dropped: {found}"

    await until(accounted, within_s=60)
    assert site.spools or await site.metric("gateway_dropped_qos0_total") > 0
    assert rss < 250
    await site.audit(cursor_within_s=30)


async def freeze(site: Site, gateway: RunningCommand) -> None:
    """Stop a gateway with SIGSTOP and wait until its broker has given up the session that brings messages."""
    log = site.services.mosquitto.log
    said = "Client site-gateway has exceeded timeout"
    before = log.read_text(encoding="utf-8").count(said)
    gateway.signal(signal.SIGSTOP)

    async def given_up() -> str:
        found = log.read_text(encoding="utf-8").count(said)
        return "" if found > before else "the broker still waits"

    await until(given_up, within_s=40)


@pytest.mark.full
async def test_gateway_frozen_past_keepalive(site: Site) -> None:
    """Frozen until the broker gives it up, and thawed: late acknowledgements harm nobody, nothing is lost."""
    gateway = await site.start("gateway", {"EDGE_BROKER_KEEPALIVE_S": "5"})
    await site.start("projector")
    async with site.fleet().load(300):
        await gateway.event("batch_stored", skip=5)
        await freeze(site, gateway)
        gateway.signal(signal.SIGCONT)
        await gateway.event("connected", client_id="site-gateway", skip=1)
    await site.audit(cursor_within_s=20)
    assert await gateway.terminate() == 0
