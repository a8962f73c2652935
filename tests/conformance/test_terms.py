"""Brokers that allow less than is asked for: the client does with less, and says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from runtime.mqtt import Message
from tests.conformance.support import take

if TYPE_CHECKING:
    from tests.conformance.support import BrokerProcess, Events, OpenSession, StartBroker


@pytest.fixture(scope="module")
def meagre(start_broker: StartBroker) -> BrokerProcess:
    """A broker that keeps no retained messages and takes small packets, with a listener of QoS 0."""
    return start_broker("max_packet_size 400", "retain_available false", listeners={"qos0": ["max_qos 0"]})


@pytest.mark.parametrize(
    ("listener", "qos", "told"),
    [("", 1, {"retains": False}), ("qos0", 0, {"maximum_qos": 0, "retains": False})],
)
async def test_less_is_done_with(
    meagre: BrokerProcess,
    session: OpenSession,
    events: Events,
    topic: str,
    listener: str,
    qos: int,
    told: dict[str, object],
) -> None:
    """Messages and a will go out unretained and with the quality of service that is taken; said once."""
    port = meagre.ports[listener] if listener else meagre.port
    witness = await session(meagre, topic)
    mortal = await session(
        meagre, topic, port=port, driver="mqtt5", will=Message(topic, b"gone", qos=1, retain=True)
    )
    (limits,) = events.named("broker_limits")[1:]
    assert {
        key: limits[key] for key in ("maximum_qos", "retains", "session_expiry_s") if key in limits
    } == told
    await mortal.publish([Message(topic, b"one", qos=1, retain=True), Message(topic, b"two", qos=2)])
    assert [(each.payload, each.qos) for each in await take(mortal, 2)] == [(b"one", qos), (b"two", qos)]
    assert [each.payload for each in await take(witness, 2)] == [b"one", b"two"]
    assert mortal.status.connections == 1
    connection = mortal._connection
    assert connection is not None
    connection.abort()  # type: ignore[attr-defined]  # as a pulled cable does
    assert [each.payload for each in await take(witness, 1)] == [b"gone"]
    await mortal.connected()
    assert len(events.named("broker_limits")) == 2
