"""The will of a connection: made anew for each, published by the broker when one ends without a word."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING

import pytest

from runtime.mqtt import Message
from runtime.mqtt.aiomqtt import AiomqttConnection
from runtime.mqtt.stream import StreamConnection
from tests.conformance.support import TIMEOUT_S

if TYPE_CHECKING:
    from runtime.mqtt import MqttSession
    from tests.conformance.support import BrokerProcess, OpenSession


async def heard(session: MqttSession) -> list[tuple[bytes, int, bool]]:
    """What the next chunk brings."""
    async with asyncio.timeout(TIMEOUT_S):
        chunk = await session.receive()
    chunk.ack()
    return [(each.payload, each.qos, each.retain) for each in chunk.deliveries]


def cut(session: MqttSession) -> None:
    """End the connection of a session as a pulled cable does."""
    connection = session._connection
    assert isinstance(connection, (StreamConnection, AiomqttConnection))
    connection.abort()


async def test_each_connection_has_a_will_of_its_own(
    broker: BrokerProcess, session: OpenSession, topic: str, driver: str
) -> None:
    """A connection that is lost leaves its own will; one that is closed leaves none."""
    numbers = count(1)

    def make_will() -> Message:
        return Message(topic, b"connection %d" % next(numbers), qos=1)

    witness = await session(broker, topic)
    mortal = await session(broker, driver=driver, make_will=make_will)
    for number in (1, 2):
        cut(mortal)
        assert await heard(witness) == [(b"connection %d" % number, 1, False)]
        async with asyncio.timeout(TIMEOUT_S):
            await mortal.connected()
    await mortal.__aexit__()
    await mortal.__aenter__()
    await witness.publish([Message(topic, b"nothing before this")])
    assert await heard(witness) == [(b"nothing before this", 1, False)]


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_a_will_of_each_quality(
    broker: BrokerProcess, session: OpenSession, topic: str, driver: str, qos: int
) -> None:
    """Its payload, quality of service and retention are as they were given."""
    witness = await session(broker, topic)
    will = Message(topic, b"\x00\xffbytes", qos=qos)  # type: ignore[arg-type]  # one of the three
    mortal = await session(broker, driver=driver, will=will)
    cut(mortal)
    assert await heard(witness) == [(b"\x00\xffbytes", min(qos, 1), False)]
