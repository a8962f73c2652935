"""Deliveries: what arrives, in which order, and what an ack does. One suite, both drivers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from runtime.mqtt import Message, Subscription
from tests.conformance.support import next_chunk, numbered, payloads, publish, take

if TYPE_CHECKING:
    from runtime.mqtt import Chunk, Qos
    from tests.conformance.support import BrokerProcess, Events, OpenSession


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_a_message_arrives_as_it_was_sent(
    broker: BrokerProcess, session: OpenSession, driver: str, topic: str, qos: Qos
) -> None:
    """A delivery has the topic, the bytes and the quality of service of its message, once, in order."""
    receiver = await session(broker, Subscription(topic, qos), driver=driver)
    sender = await session(broker, driver="mqtt5")
    await publish(sender, *numbered(topic, 50, qos))
    deliveries = await take(receiver, 50)
    assert payloads(deliveries) == [b"%d" % n for n in range(50)]
    assert {(each.topic, each.qos, each.retain, each.duplicate) for each in deliveries} == {
        (topic, qos, False, False)
    }
    assert receiver.status.driver == driver


async def test_wildcards(broker: BrokerProcess, session: OpenSession, driver: str, topic: str) -> None:
    """Both wildcards match as the standard says (MQTT-4.7.1-2, 4.7.1-3)."""
    receiver = await session(broker, f"{topic}/+/telemetry", f"{topic}/deep/#", driver=driver)
    sender = await session(broker)
    levels = ["a/telemetry", "a/other", "a/b/telemetry", "deep/x/y", "end/telemetry"]
    await publish(sender, *(Message(f"{topic}/{level}", b"") for level in levels))
    deliveries = await take(receiver, 3)
    assert [each.topic for each in deliveries] == [
        f"{topic}/a/telemetry",
        f"{topic}/deep/x/y",
        f"{topic}/end/telemetry",
    ]


@pytest.mark.parametrize(
    "payload", [b"", bytes(range(256)), b"x" * 1_500_000], ids=["empty", "binary", "1.5 MB"]
)
async def test_any_payload(
    broker: BrokerProcess, session: OpenSession, driver: str, topic: str, payload: bytes
) -> None:
    """A payload is bytes: none, all values of them, and more than one read of the socket brings."""
    receiver = await session(broker, topic, driver=driver)
    sender = await session(broker, driver=driver)
    await publish(sender, Message(topic, payload), Message(topic, b"after"))
    assert payloads(await take(receiver, 2)) == [payload, b"after"]


async def test_user_properties(broker: BrokerProcess, session: OpenSession, topic: str) -> None:
    """MQTT 5 user properties go through in order, equal names included."""
    properties = (("site", "north"), ("site", "south"), ("unit", "°C"))
    receiver = await session(broker, topic, driver="mqtt5")
    await publish(receiver, Message(topic, b"", user_properties=properties))
    [delivery] = await take(receiver, 1)
    assert tuple(delivery.user_properties) == properties


async def test_no_user_properties_on_3_1_1(broker: BrokerProcess, session: OpenSession, topic: str) -> None:
    """On MQTT 3.1.1 there are none, and that is no error."""
    receiver = await session(broker, topic, driver="aiomqtt")
    sender = await session(broker, driver="mqtt5")
    await publish(sender, Message(topic, b"", user_properties=(("a", "b"),)))
    [delivery] = await take(receiver, 1)
    assert not delivery.user_properties


@pytest.mark.parametrize("qos", [1, 2])
async def test_only_what_was_acked_is_gone(
    broker: BrokerProcess, session: OpenSession, driver: str, topic: str, client_id: str, qos: Qos
) -> None:
    """After a reconnect the broker delivers what was not acknowledged again, and nothing else."""
    subscription = Subscription(topic, qos)
    first = await session(broker, subscription, driver=driver, client_id=client_id)
    sender = await session(broker)
    for text in (b"acked", b"unacked"):
        await publish(sender, Message(topic, text, qos))
        assert payloads(await take(first, 1, ack=text == b"acked")) == [text]
    await first.__aexit__()

    second = await session(broker, subscription, driver=driver, client_id=client_id)
    await publish(sender, Message(topic, b"marker", qos))
    again = await take(second, 2)
    assert payloads(again) == [b"unacked", b"marker"]
    assert [each.duplicate for each in again] == [True, False]
    await second.__aexit__()

    third = await session(broker, subscription, driver=driver, client_id=client_id)
    await publish(sender, Message(topic, b"end", qos))
    assert payloads(await take(third, 1)) == [b"end"]


@pytest.mark.parametrize("qos", [1, 2])
async def test_a_late_ack_acknowledges_nothing(
    broker: BrokerProcess,
    session: OpenSession,
    driver: str,
    topic: str,
    client_id: str,
    qos: Qos,
    events: Events,
) -> None:
    """A chunk of a connection that is gone cannot acknowledge anything on the next one."""
    subscription = Subscription(topic, qos)
    receiver = await session(broker, subscription, driver=driver, client_id=client_id)
    sender = await session(broker)
    await publish(sender, Message(topic, b"first", qos))
    late = await next_chunk(receiver)
    receiver._connection.abort()  # type: ignore[union-attr]  # a connection that breaks
    await events.wait_for("connected", 3)
    again = await next_chunk(receiver)
    assert payloads(again.deliveries) == [b"first"]
    late.ack()
    await receiver.__aexit__()

    successor = await session(broker, subscription, driver=driver, client_id=client_id)
    assert payloads(await take(successor, 1)) == [b"first"]


async def test_an_ack_can_be_repeated(
    broker: BrokerProcess, session: OpenSession, driver: str, topic: str
) -> None:
    """Acknowledging a chunk twice is acknowledging it once, also when a later message has its packet id."""
    receiver = await session(broker, topic, driver=driver, receive_maximum=1)
    sender = await session(broker)
    await publish(sender, *numbered(topic, 3))
    first = await next_chunk(receiver)
    first.ack()
    first.ack()
    count = len(first.deliveries)
    assert payloads(first.deliveries) + payloads(await take(receiver, 3 - count)) == [b"0", b"1", b"2"]


async def test_acks_of_mixed_qualities(
    broker: BrokerProcess, session: OpenSession, driver: str, topic: str, client_id: str
) -> None:
    """One chunk may hold every quality of service; its ack settles all of them."""
    receiver = await session(broker, Subscription(topic, 2), driver=driver, client_id=client_id)
    sender = await session(broker)
    messages = [Message(topic, b"%d" % n, (0, 1, 2)[n % 3]) for n in range(300)]
    await publish(sender, *messages)
    assert sorted(payloads(await take(receiver, 300))) == sorted(each.payload for each in messages)
    await receiver.__aexit__()
    successor = await session(broker, Subscription(topic, 2), driver=driver, client_id=client_id)
    await publish(sender, Message(topic, b"end"))
    assert payloads(await take(successor, 1)) == [b"end"]


async def test_receive_maximum_holds_the_broker_back(
    broker: BrokerProcess, session: OpenSession, topic: str
) -> None:
    """The broker has no more unacknowledged messages under way than we take; an ack makes room."""
    receiver = await session(
        broker, topic, Subscription(f"{topic}/mark", 0), driver="mqtt5", receive_maximum=10
    )
    await publish(receiver, *numbered(topic, 50), Message(f"{topic}/mark", b"mark", 0))
    chunks: list[Chunk] = []
    while b"mark" not in payloads([each for chunk in chunks for each in chunk.deliveries]):
        chunks.append(await next_chunk(receiver))
    first = [each for chunk in chunks for each in chunk.deliveries if each.qos]
    assert payloads(first) == [b"%d" % n for n in range(10)]
    for chunk in chunks:
        chunk.ack()
    assert payloads(await take(receiver, 40)) == [b"%d" % n for n in range(10, 50)]


@pytest.mark.parametrize("qos", [1, 2])
async def test_ten_thousand_in_order(
    broker: BrokerProcess, session: OpenSession, driver: str, topic: str, qos: Qos
) -> None:
    """Many times the window of the broker, acknowledged chunk by chunk, arrives whole and in order."""
    receiver = await session(broker, Subscription(topic, qos), driver=driver)
    sender = await session(broker, driver="mqtt5")
    sending = asyncio.create_task(publish(sender, *numbered(topic, 10_000, qos)))
    assert payloads(await take(receiver, 10_000)) == [b"%d" % n for n in range(10_000)]
    await sending


async def test_the_oldest_qos0_goes_first(
    broker: BrokerProcess, session: OpenSession, driver: str, topic: str
) -> None:
    """QoS 0 that nobody takes is kept up to the limit; the oldest goes first and is counted, QoS 1 stays."""
    receiver = await session(broker, topic, driver=driver, max_pending_messages=10)
    await publish(receiver, Message(topic, b"kept"), *numbered(topic, 100, 0))
    await publish(receiver, Message(topic, b"last"))
    # The broker wrote all deliveries before its last PUBACK, on the same connection.
    assert receiver.status.dropped_qos0 == 90
    kept = [b"%d" % n for n in range(90, 100)]
    assert payloads(await take(receiver, 12)) == [b"kept", *kept, b"last"]


async def test_stop_receiving(
    broker: BrokerProcess, session: OpenSession, driver: str, topic: str, client_id: str
) -> None:
    """After `stop_receiving` acks and publishes still work; what was not received stays with the broker."""
    receiver = await session(broker, topic, driver=driver, client_id=client_id)
    await publish(receiver, Message(topic, b"taken"))
    chunk = await next_chunk(receiver)
    receiver.stop_receiving()
    await publish(receiver, Message(topic, b"left"))
    chunk.ack()
    waiting = asyncio.create_task(receiver.receive())
    await publish(receiver, Message(topic, b"left too"))
    assert not waiting.done()
    waiting.cancel()
    await receiver.__aexit__()

    successor = await session(broker, topic, driver=driver, client_id=client_id)
    assert payloads(await take(successor, 2)) == [b"left", b"left too"]


async def test_large_messages_are_held_back(
    broker: BrokerProcess, session: OpenSession, driver: str, topic: str
) -> None:
    """What waits for `receive` is bounded in bytes, outlasts keep-alive, and arrives whole and in order."""
    receiver = await session(broker, topic, driver=driver, max_pending_bytes=1_000_000, keepalive_s=1)
    sender = await session(broker)
    sent = [bytes([n]) * 200_000 for n in range(60)]
    await publish(sender, *(Message(topic, each) for each in sent))
    first = await take(receiver, 1)
    await asyncio.wait([receiver._connection.lost], timeout=2.5)  # type: ignore[union-attr]  # it is connected
    assert receiver._inbox.size_bytes < 4_000_000
    assert payloads([*first, *await take(receiver, 60 - len(first))]) == sent
    assert receiver.status.connections == 1
    await publish(sender, Message(topic, b"end"))
    assert payloads(await take(receiver, 1)) == [b"end"]
