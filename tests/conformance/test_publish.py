"""Publishing: batches, windows, refusals, and what a lost connection means. One suite, both drivers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from runtime.mqtt import Disconnected, Message, Refused, Subscription
from tests.conformance.support import BrokerProcess, freeze, numbered, payloads, publish, take, thaw

if TYPE_CHECKING:
    from pathlib import Path

    from runtime.mqtt import Qos
    from tests.conformance.support import Events, OpenSession, StartBroker


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_a_batch_of_5000(
    broker: BrokerProcess, session: OpenSession, driver: str, topic: str, qos: Qos
) -> None:
    """`publish` returns when the broker has acknowledged every message, and they arrive in order."""
    receiver = await session(broker, Subscription(topic, qos), driver="mqtt5")
    sender = await session(broker, driver=driver)
    taking = asyncio.create_task(take(receiver, 5000))
    await publish(sender, *numbered(topic, 5000, qos))
    assert payloads(await taking) == [b"%d" % n for n in range(5000)]


async def test_many_callers(broker: BrokerProcess, session: OpenSession, driver: str, topic: str) -> None:
    """Callers at the same time share the window and each gets its own answer, also if one is cancelled."""
    receiver = await session(broker, f"{topic}/#", driver="mqtt5")
    sender = await session(broker, driver=driver)
    cancelled = asyncio.create_task(sender.publish(numbered(f"{topic}/x", 1000)))
    callers = [asyncio.create_task(publish(sender, *numbered(f"{topic}/{n}", 20))) for n in range(10)]
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.gather(*callers)
    arrived = {f"{topic}/{n}": 0 for n in range(10)}
    while min(arrived.values()) < 20:
        for delivery in await take(receiver, 1):
            if delivery.topic in arrived:
                arrived[delivery.topic] += 1
    assert set(arrived.values()) == {20}


async def test_retain(broker: BrokerProcess, session: OpenSession, driver: str, topic: str) -> None:
    """A retained message is given to whoever subscribes later, marked as such."""
    sender = await session(broker, driver=driver)
    await publish(sender, Message(topic, b"kept", retain=True))
    receiver = await session(broker, topic, driver=driver)
    [delivery] = await take(receiver, 1)
    assert (delivery.payload, delivery.retain) == (b"kept", True)
    await publish(sender, Message(topic, b"", retain=True))


async def test_nothing_is_published_without_a_connection(
    start_broker: StartBroker, session: OpenSession, driver: str, topic: str, events: Events
) -> None:
    """`publish` raises `Disconnected` at once while the broker is away, with the reason."""
    broker = start_broker()
    sender = await session(broker, driver=driver)
    broker.kill()
    await events.wait_for("connection_failed")
    with pytest.raises(Disconnected, match="cannot connect") as caught:
        await sender.publish([Message(topic, b"")])
    assert caught.value.acknowledged == 0


async def test_a_connection_lost_under_way(
    start_broker: StartBroker, session: OpenSession, driver: str, topic: str, events: Events
) -> None:
    """When the connection goes before every ack, `publish` says how many were acknowledged."""
    broker = start_broker()
    sender = await session(broker, driver=driver)
    await publish(sender, *numbered(topic, 10))
    freeze(broker)
    sending = asyncio.create_task(sender.publish(numbered(topic, 1000)))
    await asyncio.sleep(0)
    broker.kill()
    with pytest.raises(Disconnected) as caught:
        await sending
    assert caught.value.acknowledged < 1000
    await events.wait_for("disconnected")


async def test_a_full_socket_holds_publishes_back(
    start_broker: StartBroker, session: OpenSession, topic: str
) -> None:
    """A broker that does not read holds `publish` back, with a bounded buffer, until it reads again."""
    broker = start_broker()
    receiver = await session(broker, topic, driver="mqtt5")
    sender = await session(broker, driver="mqtt5")
    freeze(broker)
    messages = [Message(topic, b"x" * 100_000, 0)] * 200
    sending = asyncio.create_task(sender.publish(messages))
    await asyncio.sleep(0)
    transport = sender._connection._transport  # type: ignore[union-attr]  # the buffer behind the promise
    assert transport.get_write_buffer_size() < 1_000_000
    assert not sending.done()
    thaw(broker)
    assert payloads(await take(receiver, 200)) == [message.payload for message in messages]
    await sending


async def test_a_refusal_is_told_and_stops_nobody(
    start_broker: StartBroker, session: OpenSession, topic: str, tmp_path: Path
) -> None:
    """Messages the broker does not take raise `Refused` with the reasons; their neighbours are published."""
    rights = tmp_path / "acl"
    rights.write_text(f"topic read #\ntopic write {topic}\n")
    broker = start_broker(f"acl_file {rights}", "max_packet_size 10000")
    receiver = await session(broker, topic, driver="mqtt5")
    refused = {
        "not authorized": Message(f"{topic}/forbidden", b""),
        "not authorized (0x87)": Message(f"{topic}/forbidden", b"", 2),
        "more than the broker takes": Message(topic, b"x" * 20_000),
        "Invalid topic": Message(f"{topic}/#", b""),
    }
    for reason, message in refused.items():
        with pytest.raises(Refused) as caught:
            await publish(receiver, Message(topic, b"before"), message, Message(topic, b"after"))
        assert caught.value.reason == "refused_by_broker"
        assert (reason in caught.value.detail, caught.value.messages) == (True, 1)
        assert payloads(await take(receiver, 2)) == [b"before", b"after"]
    assert receiver.status.connections == 1


async def test_no_messages(broker: BrokerProcess, session: OpenSession, driver: str) -> None:
    """Publishing nothing is done at once."""
    sender = await session(broker, driver=driver)
    await publish(sender)
