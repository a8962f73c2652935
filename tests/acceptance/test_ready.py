"""Ready means subscribed: what is published from that moment on is stored."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import mqtt5
import pytest

from tests.support.devices import publish

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

    Run = Callable[..., Awaitable[RunningCommand]]


async def ready(client: httpx.AsyncClient) -> bool:
    """Whether the process says so; False while it does not answer yet."""
    try:
        return (await client.get("/readyz")).status_code == 200
    except httpx.TransportError:
        return False


async def until_ready(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(20):
        while not await ready(client):
            pass


async def test_what_is_published_at_the_first_ready_is_stored(
    run_command: Run, settings: Settings, empty_database: str, broker_port: int, topic_prefix: str
) -> None:
    """On a brand-new database a message published the moment `/readyz` turns 200 is not lost."""
    gateway = await run_command("gateway", "run", "--log-level", "debug", EDGE_POSTGRES_DSN=empty_database)
    async with httpx.AsyncClient(base_url=f"http://{settings.gateway.http}") as client:
        await until_ready(client)
    await publish(broker_port, [(f"{topic_prefix}/a1/telemetry", b'{"id": "first", "x": 1}')])
    assert (await gateway.event("batch_stored"))["committed"] == 1


class Broker:
    """Accepts every connection by MQTT 5 and answers SUBSCRIBE when it is told to."""

    def __init__(self) -> None:
        self.asked = asyncio.Semaphore(0)
        self.answers = asyncio.Event()
        self.connections: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        self.connections.add(writer)
        buffer = b""
        try:
            while data := await reader.read(65536):
                buffer += data
                while buffer:
                    try:
                        packet, length = mqtt5.read(memoryview(buffer))
                    except IndexError:
                        break
                    buffer = buffer[length:]
                    await self._answer(packet, writer)
        except ConnectionError:
            pass
        finally:
            self.connections.discard(writer)
            writer.close()

    async def _answer(self, packet: mqtt5.Packet, writer: asyncio.StreamWriter) -> None:
        if isinstance(packet, mqtt5.ConnectPacket):
            writer.write(mqtt5.ConnAckPacket().write())
        elif isinstance(packet, mqtt5.SubscribePacket):
            self.asked.release()
            await self.answers.wait()
            codes = [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE] * len(packet.topic_filters)
            writer.write(mqtt5.SubAckPacket(packet.packet_id, codes).write())
        elif isinstance(packet, mqtt5.PingReqPacket):
            writer.write(mqtt5.PingRespPacket().write())

    def drop_all(self) -> None:
        """End every connection, and forget every session with it."""
        self.answers.clear()
        for writer in self.connections:
            writer.transport.abort()


@asynccontextmanager
async def a_broker() -> AsyncIterator[tuple[Broker, int]]:
    """A broker and its port."""
    broker = Broker()
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    async with server:
        yield broker, server.sockets[0].getsockname()[1]
        broker.drop_all()


async def stays_unready(client: httpx.AsyncClient) -> None:
    """See it unready for longer than any of its watches sleeps."""
    loop = asyncio.get_running_loop()
    end = loop.time() + 2.0
    while loop.time() < end:
        assert not await ready(client)


@pytest.mark.parametrize("process", ["gateway", "projector"])
async def test_never_ready_before_the_broker_has_confirmed(
    run_command: Run, settings: Settings, process: str
) -> None:
    """`/readyz` is 503 until SUBACK, at the start and after a reconnect that lost the session; no flicker."""
    section: Any = getattr(settings, process)
    who: dict[str, dict[str, Any]] = {"gateway": {"client_id": settings.broker.client_id}, "projector": {}}
    async with a_broker() as (broker, port), httpx.AsyncClient(base_url=f"http://{section.http}") as client:
        command = await run_command(process, "run", EDGE_BROKER_PORT=str(port))
        for _ in range(2):
            asked = asyncio.create_task(broker.asked.acquire())
            while not asked.done():
                assert not await ready(client)
            await stays_unready(client)
            broker.answers.set()
            await until_ready(client)
            broker.drop_all()
            await command.event("disconnected", **who[process])
