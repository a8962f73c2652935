from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest

from deploy.local.server import free_port
from deploy.local.services import LocalServices
from gateway.simulate import simulation
from gateway.simulate.devices import Kind, Shares
from gateway.simulate.simulation import Options, simulate
from runtime.errors import Stop
from runtime.mqtt import MqttSession, Subscription, options_from
from runtime.settings import Broker, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runtime.mqtt import Qos

TOPIC = "devices/{device_id}/telemetry"


@pytest.fixture(scope="module")
def services() -> Iterator[LocalServices]:
    """A broker of this module's own, because a test restarts it."""
    started = LocalServices(["mosquitto"], environ={})
    asyncio.run(started.start())
    yield started
    asyncio.run(started.close())


@pytest.fixture
def settings(services: LocalServices) -> Settings:
    """This module's broker."""
    return Settings(broker=Broker(port=services.mqtt_port, client_id="listener"))


def options(
    *, qos: Qos = 1, rate: float = 2000, messages: int | None = 1000, seconds: float | None = None
) -> Options:
    """A small, mixed fleet."""
    return Options(
        devices=20,
        regions=4,
        rate=rate,
        seconds=seconds,
        messages=messages,
        qos=qos,
        connections=3,
        shares=Shares(duplicates=0.1, garbage=0.1, late=0.1, arrays=0.1),
        seed=1,
        topic=TOPIC,
    )


class Listener:
    """Subscribes every device's topic and keeps what comes."""

    def __init__(self, settings: Settings) -> None:
        everything = [Subscription("devices/+/telemetry", 2)]
        self.session = MqttSession(options_from(settings.broker, subscriptions=everything, clean_start=True))
        self.received: list[tuple[str, bytes]] = []

    async def take(self, count: int) -> None:
        """Receive until there are so many, or for so long that no more will come."""
        async with asyncio.timeout(20):
            while len(self.received) < count:
                chunk = await self.session.receive()
                self.received += [(d.topic, d.payload) for d in chunk.deliveries]
                chunk.ack()


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_all_that_is_acknowledged_was_delivered(settings: Settings, qos: Qos) -> None:
    """Each message is sent, acknowledged and delivered once, and the summary counts it by kind."""
    listener = Listener(settings)
    async with listener.session:
        await listener.session.connected()
        taking = asyncio.create_task(listener.take(1000))
        summary = await simulate(settings, options(qos=qos), asyncio.Event())
        await taking
    assert summary.complete
    assert (summary.sent, summary.acknowledged, summary.behind, summary.repeated) == (1000, 1000, 0, 0)
    assert sum(count.sent for count in summary.kinds.values()) == 1000
    assert all(count.sent == count.acknowledged > 50 for count in summary.kinds.values())
    repeats = len(listener.received) - len(set(listener.received))
    assert repeats >= summary.kinds[Kind.DUPLICATE].sent


async def test_devices_keep_their_order(settings: Settings) -> None:
    """What one device measured arrives in the order in which it measured it, over whichever connection."""
    listener = Listener(settings)
    async with listener.session:
        await listener.session.connected()
        taking = asyncio.create_task(listener.take(1000))
        plain = Shares(duplicates=0, garbage=0, late=0)
        await simulate(settings, replace(options(), shares=plain), asyncio.Event())
        await taking
    last: dict[str, str] = {}
    for topic, payload in listener.received:
        key = msgspec.json.decode(payload)["id"]
        assert key > last.get(topic, "")
        last[topic] = key


async def test_rate_is_kept(settings: Settings) -> None:
    """For two seconds at 500 messages/s a thousand messages go out, no sooner and not much later."""
    summary = await simulate(settings, options(rate=500, seconds=2, messages=None), asyncio.Event())
    assert summary.sent == 1000
    assert 1.9 < summary.seconds < 3


async def test_a_broker_restart_loses_nothing(settings: Settings, services: LocalServices) -> None:
    """A broker killed in the middle is waited for, and what it had not acknowledged is sent again."""
    running = asyncio.create_task(simulate(settings, options(rate=1000, messages=3000), asyncio.Event()))
    listener = Listener(settings)
    async with listener.session:
        await listener.session.connected()
        await listener.take(500)
    await services.mosquitto.kill()
    await services.mosquitto.start()
    summary = await running
    assert summary.complete
    assert summary.acknowledged == summary.sent == 3000
    assert summary.reconnects == 3


async def test_stop_ends_it_with_everything_acknowledged(settings: Settings) -> None:
    """Told to stop, it makes nothing more, awaits what is under way and sums up."""
    stop = asyncio.Event()
    running = asyncio.create_task(simulate(settings, options(messages=None), stop))
    listener = Listener(settings)
    async with listener.session:
        await listener.session.connected()
        await listener.take(100)
        stop.set()
        summary = await asyncio.wait_for(running, 5)
    assert summary.complete
    assert summary.acknowledged == summary.sent >= 100


async def test_stop_while_the_broker_is_away() -> None:
    """Told to stop before any connection stands, it ends at once and says that nothing was sent."""
    nowhere = Settings(broker=Broker(port=1))
    stop = asyncio.Event()
    stop.set()
    summary = await asyncio.wait_for(simulate(nowhere, options(), stop), 5)
    assert (summary.sent, summary.complete) == (0, True)


async def test_ten_thousand_a_second(settings: Settings) -> None:
    """Asked for more than a busy machine may reach, it says what it sent and what it did not get to."""
    summary = await simulate(settings, options(rate=10_000, seconds=2, messages=None), asyncio.Event())
    assert summary.complete
    assert summary.acknowledged + summary.behind == 20_000


async def test_without_a_broker_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """When nobody answers at the broker's address it ends, and says where and why."""
    monkeypatch.setattr(simulation, "_REACH_S", 0.5)
    port = free_port()
    nowhere = Settings(broker=Broker(host="127.0.0.1", port=port, client_id="nobody"))
    with pytest.raises(Stop, match=rf"no connection to 127\.0\.0\.1:{port} within 0\.5 s: .+"):
        await simulate(nowhere, options(), asyncio.Event())
