"""PostgreSQL away or slow, and more at the same time: the spool full, a takeover, edge nodes, doors."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from deploy.local.server import free_port
from tests.faults.messages import Mix
from tests.faults.watch import until
from tests.support.devices import publish
from tests.support.edge_node import EdgeNode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.faults.site import Site
    from tests.support.commands import RunningCommand

pytestmark = [pytest.mark.full, pytest.mark.timeout(240)]

MIX = Mix(qos0=0.0, conflicts=0.0, repeats=0.0)
BESIDE = """
[gateway]
unknown_devices = "hold"

[[route]]
topic = "devices/{device_id}/telemetry"

[[route]]
dialect = "sparkplug"
"""


async def begun(site: Site, **settings: str) -> RunningCommand:
    """A gateway with a spool, which PostgreSQL has just left."""
    site.spools = True
    await site.start("projector")
    gateway = await site.start("gateway", settings)
    await site.fleet(mix=MIX).send(100)
    await site.settled()
    await site.postgres.stop("immediate")
    return gateway


def books(gateway: RunningCommand) -> dict[str, int]:
    """The accounting line."""
    return {name: int(n) for name, _, n in (part.partition("=") for part in gateway.stdout[-1].split())}


async def test_full_under_load(site: Site) -> None:
    """A spool that is full takes nothing more and says so; the broker keeps it, and nothing is lost."""
    gateway = await begun(site, EDGE_SPOOL_MAX_BYTES="60000")
    async with site.fleet(mix=MIX).load(800):
        await gateway.event("spool_takes_no_more", timeout_s=30)
        assert await site.metric("gateway_ready") == 0
        await site.postgres.start()
        await gateway.event("spool_drained", timeout_s=40)
    await site.audit(cursor_within_s=20)
    assert await gateway.terminate() == 0
    assert len([each for each in gateway.events if each["event"] == "spool_takes_no_more"]) <= 3


async def test_full_and_the_oldest_dropped(site: Site) -> None:
    """With `drop_oldest` it goes on; what was dropped is counted and told, and nothing else is missing."""
    gateway = await begun(site, EDGE_SPOOL_MAX_BYTES="200000", EDGE_SPOOL_WHEN_FULL="drop_oldest")
    fleet = site.fleet(mix=Mix(qos0=0.0, conflicts=0.0, repeats=0.0, shapes=0.0))
    async with fleet.load(800):
        await gateway.event("spool_dropped_oldest", timeout_s=30)
        assert await site.metric("gateway_ready") == 1
        await fleet.sent(len(fleet.log) + 500)
    await site.postgres.start()
    await gateway.event("spool_drained", timeout_s=40)
    dropped = await site.metric("gateway_spool_dropped_total")

    async def ask() -> str:
        query = "SELECT (SELECT count(*) FROM measurements) + (SELECT count(*) FROM dead_letters)"
        stored = int(str(await site.sql(query)))
        acked = len([sent for sent in site.log if sent.acked_at is not None])
        return "" if stored + dropped >= acked else f"{stored} stored and {dropped} dropped of {acked}"

    await until(ask, within_s=30)
    assert dropped > 0

    async def left() -> str:
        found = await site.metric("gateway_spool_messages")
        return f"{found} messages are in the spool" if found else ""

    await until(left, within_s=30)
    assert await gateway.terminate() == 0
    said = books(gateway)
    settled = sum(said[name] for name in ("committed", "duplicate", "dead_lettered", "spooled"))
    assert said["received"] == settled + dropped


async def test_slow_and_fast_by_turns(open_site: Callable[..., Awaitable[Site]]) -> None:
    """A server that takes seconds for a batch, and then does not, by turns: no gap, no double, few words."""
    site = await open_site(through=("postgres",))
    site.spools = True
    await site.start("projector")
    gateway = await site.start("gateway")
    fleet = site.fleet(mix=MIX)
    async with fleet.load(300):
        for _ in range(3):
            await gateway.event("batch_stored")
            site.proxies["postgres"].delay_s = 0.7
            await fleet.sent(len(fleet.log) + 1500)
            site.proxies["postgres"].delay_s = 0.0
            await fleet.sent(len(fleet.log) + 300)
    await site.audit(cursor_within_s=20)

    async def direct() -> str:
        await publish(site.services.mqtt_port, [("devices/d1/telemetry", b'{"x": 1}')])
        return "still spooling" if await site.metric("gateway_spooling") else ""

    await until(direct, within_s=30)
    told = [each["event"] for each in gateway.events if each["event"] in {"spooling", "spool_drained"}]
    assert "spooling" in told
    assert len(told) <= 8


async def test_another_takes_the_stream_meanwhile(site: Site) -> None:
    """It stops and says what it has; drained by a stream of its own nothing is lost or doubled."""
    gateway = await begun(site)
    fleet = site.fleet(mix=MIX)
    await fleet.send(1000, rate=400)
    await gateway.event("spooling", timeout_s=20)
    await site.postgres.start()
    await site.sql("UPDATE streams SET owner = gen_random_uuid(), owner_name = 'another gateway'")
    await site.sql("UPDATE stream_leases SET owner = gen_random_uuid()")
    assert await gateway.exit_code(timeout_s=60) == 1
    left = await gateway.event("spool_left")
    assert left["messages"] > 0
    other = {
        **site.settings(),
        "EDGE_GATEWAY_STREAM": "7",
        "EDGE_BROKER_CLIENT_ID": "drainer",
        "EDGE_GATEWAY_HTTP": f"127.0.0.1:{free_port()}",
    }
    draining = await site.command("gateway", "spool", "drain", environment=other)
    assert await draining.exit_code(timeout_s=60) == 0, draining.output
    await site.start("gateway")
    await site.audit(cursor_within_s=20)


async def test_read_again_meanwhile(site: Site) -> None:
    """A configuration that is read again while PostgreSQL is away counts when it is back; nothing is lost."""
    gateway = await begun(site)
    async with site.fleet(mix=MIX).load(300):
        await gateway.event("spooling", timeout_s=20)
        config = site.settings()["EDGE_CONFIG"]
        with open(config, "a", encoding="utf-8") as file:  # noqa: ASYNC230, PTH123  # a few bytes
            file.write('\n[[route]]\ntopic = "more/{device_id}"\n')
        gateway.signal(signal.SIGHUP)
        await site.postgres.start()
        await gateway.event("reloaded", timeout_s=40)
        await publish(site.services.mqtt_port, [("more/m1", b'{"x": 1}')])
        await gateway.event("spool_drained", timeout_s=40)

    async def ask() -> str:
        return "" if await site.sql("SELECT 1 FROM measurements WHERE device_id = 'm1'") else "m1 is missing"

    await until(ask, within_s=30)


async def test_edge_nodes_and_the_door(site: Site, tmp_path: Path) -> None:
    """Births, aliases and who may come in: as if PostgreSQL had been there, across a kill."""
    config = tmp_path / "beside.toml"
    config.write_text(BESIDE, encoding="utf-8")
    site.spools = True
    settings = {"EDGE_CONFIG": str(config)}
    gateway = await site.start("gateway", settings)
    port = site.services.mqtt_port
    environment = {**site.settings(), **settings}
    for device in ("line-1", "line-1/press", "known-1"):
        setting = await site.command(
            "gateway", "devices", "set", device, "--name", device, environment=environment
        )
        assert await setting.exit_code() == 0, setting.output
    async with EdgeNode(port, "spBv1.0/north", "line-1", {"": ["Pressure"], "press": ["Speed"]}) as node:
        await node.birth()
        await node.data(4.5)
        await until(lambda: stored(site, "line-1", [4.5]), within_s=30)
        await site.postgres.stop("immediate")
        await node.data(5.5)
        await gateway.event("spooling", timeout_s=20)
        await node.data(1475.0, "press")
        await publish(port, [("devices/known-1/telemetry", b'{"x": 1}')])
        await publish(
            port, [("devices/new-1/telemetry", json.dumps({"id": str(n), "x": n}).encode()) for n in range(3)]
        )
        await kept(site, 5)
        await gateway.kill()
        gateway = await site.start("gateway", settings, ready=False)
        await gateway.event("started_without_postgres", timeout_s=20)
        await gateway.event("connected", timeout_s=20)
        await node.data(6.5)
        await kept(site, 6)
        await site.postgres.start()
        await gateway.event("spool_drained", timeout_s=60)
        await until(lambda: stored(site, "line-1", [4.5, 5.5, 6.5]), within_s=30)
        await until(lambda: stored(site, "line-1/press", [1475.0]), within_s=30)
    held = "SELECT count(*) FROM dead_letters WHERE device_id = 'new-1' AND reason = 'unknown_device'"
    assert await site.sql(held) == 3
    setting = await site.command(
        "gateway", "devices", "set", "new-1", "--name", "new", environment=environment
    )
    assert await setting.exit_code() == 0, setting.output
    await until(lambda: counted(site, "new-1", 3), within_s=60)


async def kept(site: Site, messages: int) -> None:
    """Wait until the spool holds so many messages."""

    async def ask() -> str:
        found = await site.metric("gateway_spool_messages")
        return "" if found >= messages else f"{found} of {messages} messages are in the spool"

    await until(ask, within_s=30)


async def stored(site: Site, device: str, values: list[float]) -> str:
    """Say what a device has sent since its births, in order of arrival, when it is not as expected."""
    query = (
        "SELECT json_agg(v ORDER BY received_at)::text "
        "FROM measurements, jsonb_each_text(metrics) AS m (k, v) WHERE device_id = $1 AND k <> 'online'"
    )
    text = await site.sql(query, device)
    found = [float(each) for each in json.loads(str(text)) if each != "0.5"] if text else []
    return "" if found == values else f"{device}: {found}, not {values}"


async def counted(site: Site, device: str, rows: int) -> str:
    """Say how many rows of a device there are, when it is not as expected."""
    found = await site.sql("SELECT count(*) FROM measurements WHERE device_id = $1", device)
    return "" if found == rows else f"{found} of {rows} rows of {device}"
