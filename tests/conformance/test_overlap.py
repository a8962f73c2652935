"""Filters that overlap, and shared subscriptions, on two brokers that treat them differently.

mosquitto sends a message once for each filter that matches, mochi once for all of them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from runtime.mqtt import Message, Subscription
from tests.conformance.support import numbered, payloads, publish, take

if TYPE_CHECKING:
    from runtime.mqtt import Delivery, MqttSession
    from tests.conformance.support import BrokerProcess, Events, OpenSession


async def test_copies_are_told_apart(
    either: BrokerProcess, session: OpenSession, topic: str, events: Events
) -> None:
    """A publish that two filters match is delivered once by MQTT 5, equal publishes each once."""
    filters = [Subscription(f"{topic}/+/x", overlaps=True), Subscription(f"{topic}/b/+", overlaps=True)]
    receiver = await session(either, *filters, driver="mqtt5")
    sender = await session(either)
    both, first, second = f"{topic}/b/x", f"{topic}/a/x", f"{topic}/b/y"
    sent = [Message(both, b"same")] * 5 + [Message(first, b"1"), Message(second, b"2")]
    sent += [*numbered(both, 500), Message(both, b"0"), Message(second, b"end")]
    await publish(sender, *sent)
    arrived = await take(receiver, len(sent))
    assert sorted((each.topic, each.payload) for each in arrived) == sorted(
        (each.topic, each.payload) for each in sent
    )
    assert receiver.status.copies in {0, 506}
    assert not events.named("copies_not_told_apart")


@pytest.mark.parametrize("driver", ["mqtt311", "aiomqtt"])
async def test_where_copies_cannot_be_told_apart_it_is_said(
    broker: BrokerProcess, session: OpenSession, topic: str, driver: str, events: Events
) -> None:
    """MQTT 3.1.1 has no identifiers: the log names the filters and what to do."""
    filters = [Subscription(f"{topic}/+/x", overlaps=True), Subscription(f"{topic}/b/+", overlaps=True)]
    await session(broker, *filters, driver=driver)
    [told] = events.named("copies_not_told_apart")
    assert told["topic_filters"] == [each.topic_filter for each in filters]
    assert "covers" in told["hint"]


async def test_a_shared_subscription(
    either: BrokerProcess, session: OpenSession, driver: str, topic: str
) -> None:
    """The members of a group get each message once among them, at its own topic, and can acknowledge it."""
    shared, plain = Subscription(f"$share/edge/{topic}/#"), Subscription(f"end/{topic}")
    members = [await session(either, shared, plain, driver=driver) for _ in range(2)]
    sender = await session(either)
    await publish(sender, *numbered(f"{topic}/a", 100), Message(f"end/{topic}", b"end"))
    parts = await asyncio.gather(*(until_end(member) for member in members))
    got = [each for part in parts for each in part]
    assert sorted(payloads(got)) == sorted(b"%d" % n for n in range(100))
    assert {each.topic for each in got} == {f"{topic}/a"}


async def until_end(member: MqttSession) -> list[Delivery]:
    """What a member gets before the end."""
    got: list[Delivery] = []
    while not got or got[-1].payload != b"end":
        got += await take(member, 1)
    return got[:-1]


async def test_a_shared_subscription_outlasts_a_connection(
    request: pytest.FixtureRequest,
    either: BrokerProcess,
    session: OpenSession,
    driver: str,
    topic: str,
    client_id: str,
) -> None:
    """What is published while the only member is away waits for it, as with any other subscription."""
    if driver == "aiomqtt" and "mochi" in request.node.name:
        pytest.skip("mochi 2.7.9 refuses SUBSCRIBE 1 of paho while its own PUBLISH 1 is unacknowledged")
    shared = Subscription(f"$share/edge/{topic}/#")
    first = await session(either, shared, driver=driver, client_id=client_id)
    await first.__aexit__()
    sender = await session(either)
    await publish(sender, Message(f"{topic}/a", b"meanwhile"))
    second = await session(either, shared, driver=driver, client_id=client_id)
    assert payloads(await take(second, 1)) == [b"meanwhile"]


async def test_a_cleared_topic(either: BrokerProcess, session: OpenSession, driver: str, topic: str) -> None:
    """An empty retained message clears its topic. Only copies of what was kept are marked, nothing live."""
    receiver = await session(either, topic, driver=driver)
    sender = await session(either)
    await publish(sender, Message(topic, b"kept", retain=True))
    copied = await session(either, topic, driver=driver)
    marks = [(each.payload, each.retain) for each in await take(copied, 1)]
    assert marks == [(b"kept", True)]
    await publish(sender, Message(topic, b"", retain=True))
    await publish(sender, Message(topic, b"plain"))
    marks = [(each.payload, each.retain) for each in await take(receiver, 3)]
    assert marks == [(b"kept", False), (b"", False), (b"plain", False)]
    late = await session(either, topic, driver=driver)
    await publish(sender, Message(topic, b"end"))
    assert payloads(await take(late, 1)) == [b"end"]
