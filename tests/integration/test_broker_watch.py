"""The watch of the broker's drops: it outlasts a broker that is late, or that refuses for a while."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import mqtt5
import structlog

from deploy.local.server import free_port
from gateway.broker_watch import BrokerWatch
from runtime.settings import Broker
from tests.conformance.support import TIMEOUT_S, Events

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

PATIENCE_S = 0.2


class Count:
    """A broker that grants or refuses `$SYS`, and then tells a count, or withholds it."""

    def __init__(self) -> None:
        self.grants = self.tells = True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        await reader.read(1000)
        writer.write(mqtt5.ConnAckPacket().write())
        await reader.read(1000)
        codes = mqtt5.SubAckReasonCode
        code = codes.GRANTED_QOS_AT_MOST_ONCE if self.grants else codes.NOT_AUTHORIZED
        writer.write(mqtt5.SubAckPacket(65535, [code, code]).write())
        if self.grants and self.tells:
            writer.write(mqtt5.PublishPacket("$SYS/broker/publish/messages/dropped", b"7").write())
        await reader.read(1000)
        writer.close()


@asynccontextmanager
async def watching(port: int) -> AsyncIterator[tuple[BrokerWatch, Events]]:
    """A watch that runs, and what is logged."""
    events = Events()
    structlog.configure(processors=[events])
    watch = BrokerWatch(Broker(port=port, client_id="watch", driver="mqtt5"), patience_s=PATIENCE_S)
    task = asyncio.create_task(watch.run())
    try:
        yield watch, events
    finally:
        task.cancel()
        await asyncio.wait([task])
        structlog.reset_defaults()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what has no signal."""
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():  # noqa: ASYNC110  # an attribute
            await asyncio.sleep(0.01)


async def test_a_broker_that_is_late() -> None:
    """A broker that comes after the patience has ended is heard all the same; it was told once, as absent."""
    port, broker = free_port(), Count()
    async with watching(port) as (watch, events):
        told = await events.wait_for("broker_drops_unknown")
        assert (told["refused"], watch.listens, watch.dropped) == (False, False, None)
        server = await asyncio.start_server(broker.serve, "127.0.0.1", port)
        async with server:
            await events.wait_for("broker_drops_known")
            await until(lambda: watch.dropped == 7)
            assert watch.listens
    assert len(events.named("broker_drops_unknown")) == 1


async def test_a_broker_that_refuses() -> None:
    """A refusal is told as one, and is not the end: rights may be given."""
    broker = Count()
    broker.grants = False
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    async with server, watching(server.sockets[0].getsockname()[1]) as (watch, events):
        told = await events.wait_for("broker_drops_unknown")
        assert told["refused"]
        assert "not authorized" in told["reason"]
        assert not watch.listens
        broker.grants = True
        await until(lambda: watch.dropped == 7)


async def test_a_broker_that_withholds() -> None:
    """Granted is not heard: a broker that lets nothing through, or says nothing of itself, is told of."""
    broker = Count()
    broker.tells = False
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    async with server, watching(server.sockets[0].getsockname()[1]) as (watch, events):
        told = await events.wait_for("broker_drops_unknown")
        assert (told["refused"], told["reason"]) == (False, "granted, and nothing came")
        assert (watch.listens, watch.dropped) == (False, None)


async def test_mosquitto_says_that_it_is_there(broker_port: int, unique: str) -> None:
    """When the count is old mosquitto keeps it no more; it says how long it has been up all the same."""
    watch = BrokerWatch(Broker(port=broker_port, client_id=unique))
    task = asyncio.create_task(watch.run())
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await watch._heard.wait()
        assert watch.listens
    finally:
        task.cancel()
        await asyncio.wait([task])
