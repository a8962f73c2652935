"""The session across connections: resuming, losing, reconnecting, being refused. One suite, both drivers."""

from __future__ import annotations

import asyncio
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from runtime.errors import ConfigurationError
from runtime.mqtt import Disconnected, Message, MqttSession, SessionOptions, SessionStatus, Subscription
from runtime.secret import FromFile
from tests.conformance.support import TIMEOUT_S, freeze, payloads, publish, take, thaw

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conformance.support import BrokerProcess, Events, OpenSession, StartBroker


def set_password(file: Path, password: str) -> None:
    subprocess.run(["mosquitto_passwd", "-b", str(file), "edge", password], check=True, capture_output=True)


async def test_the_broker_keeps_the_session(
    broker: BrokerProcess, session: OpenSession, driver: str, topic: str, client_id: str, events: Events
) -> None:
    """What is published while we are away waits for us."""
    first = await session(broker, topic, driver=driver, client_id=client_id)
    await first.__aexit__()
    sender = await session(broker)
    await publish(sender, Message(topic, b"meanwhile"))
    second = await session(broker, topic, driver=driver, client_id=client_id)
    assert payloads(await take(second, 1)) == [b"meanwhile"]
    present = [event["session_present"] for event in events.named("connected")]
    assert present == [False, False, True]
    assert second.status.sessions_lost == 0


async def test_another_version_keeps_the_session(
    either: BrokerProcess, session: OpenSession, topic: str, client_id: str, events: Events
) -> None:
    """What waits for a session of MQTT 3.1.1 is there for the same client id by MQTT 5: nothing is lost."""
    old = await session(either, topic, driver="mqtt311", client_id=client_id)
    await old.__aexit__()
    sender = await session(either, driver="mqtt5")
    await publish(sender, Message(topic, b"meanwhile"))
    new = await session(either, topic, driver="mqtt5", client_id=client_id)
    assert payloads(await take(new, 1)) == [b"meanwhile"]
    assert events.named("connected")[-1]["session_present"]


async def test_clean_start_leaves_nothing(
    broker: BrokerProcess, session: OpenSession, driver: str, topic: str, client_id: str, events: Events
) -> None:
    """With a clean start and no expiry there is no session to come back to."""
    options: dict[str, Any] = {
        "driver": driver,
        "client_id": client_id,
        "clean_start": True,
        "session_expiry_s": 0,
    }
    first = await session(broker, topic, **options)
    await first.__aexit__()
    await session(broker, topic, **{**options, "clean_start": False})
    assert [event["session_present"] for event in events.named("connected")] == [False, False]


async def test_a_broker_that_comes_back(
    start_broker: StartBroker, session: OpenSession, driver: str, topic: str, events: Events
) -> None:
    """A broker killed and started again is found again, subscribed again, and a lost session is an alarm."""
    broker = start_broker()
    receiver = await session(broker, topic, driver=driver)
    await publish(receiver, Message(topic, b"before"))
    assert payloads(await take(receiver, 1)) == [b"before"]
    broker.kill()
    await events.wait_for("connection_failed")
    assert (receiver.status.connected, receiver.status.reason[:14]) == (False, "cannot connect")
    receiving = asyncio.create_task(take(receiver, 1))
    broker.start()
    async with asyncio.timeout(TIMEOUT_S):
        await receiver.connected()
    await publish(receiver, Message(topic, b"after"))
    assert payloads(await receiving) == [b"after"]
    assert receiver.status == SessionStatus(
        connected=True, reason="", driver=driver, connections=2, sessions_lost=1
    )
    assert events.named("session_lost")


async def test_what_waited_is_delivered_once(
    broker: BrokerProcess, session: OpenSession, driver: str, topic: str, events: Events
) -> None:
    """Deliveries not received when the connection broke come from the broker again, and not twice."""
    receiver = await session(broker, topic, driver=driver)
    await publish(receiver, Message(topic, b"qos1", 1), Message(topic, b"qos0", 0))
    await publish(receiver, Message(topic, b"qos1 too", 1))
    receiver._connection.abort()  # type: ignore[union-attr]  # a connection that breaks
    await events.wait_for("connected", 2)
    await publish(receiver, Message(topic, b"end"))
    assert payloads(await take(receiver, 4)) == [b"qos0", b"qos1", b"qos1 too", b"end"]


async def test_what_waited_survives_a_lost_session(
    start_broker: StartBroker, session: OpenSession, driver: str, topic: str, events: Events
) -> None:
    """Deliveries not received when the broker lost the session are still handed out: nobody else has them."""
    broker = start_broker()
    receiver = await session(broker, topic, driver=driver)
    await publish(receiver, Message(topic, b"waits"))
    broker.kill()
    await events.wait_for("disconnected")
    broker.start()
    await events.wait_for("session_lost")
    await publish(receiver, Message(topic, b"new"))
    assert payloads(await take(receiver, 2)) == [b"waits", b"new"]


async def test_retained_messages_come_once(
    broker: BrokerProcess, session: OpenSession, driver: str, topic: str, events: Events
) -> None:
    """A reconnect does not bring the retained messages again."""
    sender = await session(broker)
    await publish(sender, Message(topic, b"retained", retain=True))
    receiver = await session(broker, topic, driver=driver)
    assert payloads(await take(receiver, 1)) == [b"retained"]
    await publish(receiver, Message(f"{topic}/ack-was-before", b""))
    receiver._connection.abort()  # type: ignore[union-attr]  # a connection that breaks
    await events.wait_for("connected", 3)
    await publish(sender, Message(topic, b"marker"))
    assert payloads(await take(receiver, 1)) == [b"marker"]
    await publish(sender, Message(topic, b"", retain=True))


async def test_filters_that_changed(
    broker: BrokerProcess, session: OpenSession, driver: str, topic: str, client_id: str
) -> None:
    """A live session loses the filters that are no longer configured and gains the new ones."""
    old, both, new = f"{topic}/old", f"{topic}/both", f"{topic}/new"
    first = await session(broker, old, both, driver=driver, client_id=client_id)
    await first.__aexit__()
    known = (Subscription(old), Subscription(both))
    second = await session(broker, both, new, driver=driver, client_id=client_id, known=known)
    await publish(second, *(Message(each, each.encode()) for each in (old, both, new)))
    assert payloads(await take(second, 2)) == [both.encode(), new.encode()]


async def test_a_frozen_broker_is_noticed(
    start_broker: StartBroker, session: OpenSession, driver: str, topic: str, events: Events
) -> None:
    """A half-open connection is ended by the keepalive, and made anew when the broker answers again."""
    broker = start_broker()
    receiver = await session(broker, topic, driver=driver, keepalive_s=1, connect_timeout_s=1)
    freeze(broker)
    lost = await events.wait_for("disconnected")
    assert "no packet" in lost["reason"] or "keep alive" in lost["reason"].lower()
    thaw(broker)
    await events.wait_for("connected", 2)
    await publish(receiver, Message(topic, b"alive"))
    assert b"alive" in payloads(await take(receiver, 1))


async def test_a_quiet_connection_stays(
    start_broker: StartBroker, session: OpenSession, driver: str, events: Events
) -> None:
    """Pings keep a connection on which nothing is sent; without, the broker ends it."""
    broker = start_broker()
    quiet = await session(broker, driver=driver, keepalive_s=1)
    other = await session(broker, driver=driver, keepalive_s=1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3.5):  # what is waited for is that nothing happens
            await events.wait_for("disconnected")
    assert quiet.status.connected
    assert other.status.connected


async def test_a_wrong_password_is_named_and_tried_again(
    start_broker: StartBroker, session: OpenSession, driver: str, tmp_path: Path, events: Events
) -> None:
    """A refusal of the credentials is the reason one reads; once they are right the session connects."""
    secrets = tmp_path / "passwords"
    secrets.touch(mode=0o600)
    set_password(secrets, "right")
    broker = start_broker("allow_anonymous false", f"password_file {secrets}")
    options: dict[str, Any] = {"driver": driver, "username": "edge"}
    await session(broker, password="right", **options)
    refused = await session(broker, password="wrong", wait=False, **options)
    failure = await events.wait_for("connection_failed")
    assert "refused" in failure["reason"]
    assert "authori" in failure["reason"] or "password" in failure["reason"]
    assert refused.status.reason == failure["reason"]
    assert not any("wrong" in str(value) for event in events.seen for value in event.values())
    with pytest.raises(Disconnected, match="refused"):
        await refused.publish([Message("x", b"")])

    set_password(secrets, "wrong")
    broker.kill()
    broker.start()
    async with asyncio.timeout(TIMEOUT_S):
        await refused.connected()


async def test_a_refused_filter_is_named(
    start_broker: StartBroker, session: OpenSession, driver: str, topic: str, tmp_path: Path, events: Events
) -> None:
    """Without the right to one filter there is no readiness, and the reason names the filter."""
    rights = tmp_path / "dynamic-security.json"
    rights.write_text('{"defaultACLAccess": {"subscribe": false}, "clients": [], "groups": [], "roles": []}')
    plugin = "/usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so"
    broker = start_broker(f"plugin {plugin}", f"plugin_opt_config_file {rights}")
    refused = await session(broker, topic, driver=driver, wait=False)
    failure = await events.wait_for("connection_failed")
    assert topic in failure["reason"]
    assert not refused.status.connected
    assert refused.status.connections == 0


async def test_failures_are_logged_when_they_change(
    start_broker: StartBroker, session: OpenSession, driver: str, events: Events
) -> None:
    """A broker that is away is one line, not one for every attempt."""
    broker = start_broker()
    waiting = await session(broker, driver=driver)
    broker.kill()
    await events.wait_for("connection_failed")
    attempts, next_s = asyncio.Semaphore(0), waiting._backoff.next_s

    def count_attempt() -> float:
        attempts.release()
        return next_s()

    waiting._backoff.next_s = count_attempt  # type: ignore[method-assign]  # attempts must not show elsewhere
    for _ in range(5):
        await attempts.acquire()
    assert len(events.named("connection_failed")) == 1


async def test_two_with_one_client_id(
    broker: BrokerProcess, session: OpenSession, driver: str, client_id: str, events: Events
) -> None:
    """Two clients with one id, on a broker that does not tell, slow down and are given the likely reason."""
    options: dict[str, Any] = {"driver": driver, "client_id": client_id, "backoff_max_s": 0.5}
    rivals = [await session(broker, **options), await session(broker, **options)]
    unstable = await events.wait_for("connection_unstable")
    assert "client id" in unstable["hint"]
    assert unstable["client_id"] == client_id
    assert all(each.status.sessions_lost == 0 for each in rivals)


async def test_leaving_while_connecting(start_broker: StartBroker, session: OpenSession, driver: str) -> None:
    """A session can be left at any moment: before its broker answers, and right after entering."""
    broker = start_broker()
    freeze(broker)
    for _ in range(2):
        waiting = await session(broker, driver=driver, wait=False, connect_timeout_s=1)
        await asyncio.sleep(0)
        await waiting.__aexit__()
        assert not waiting.status.connected
    thaw(broker)


def test_options_that_contradict() -> None:
    """The MQTT 5 driver has no WebSockets, and says so before anything starts."""
    with pytest.raises(ConfigurationError, match="websockets"):
        MqttSession(SessionOptions("localhost", 1883, "x", driver="mqtt5", transport="websockets"))


async def test_a_password_that_was_changed_needs_no_restart(
    start_broker: StartBroker, session: OpenSession, driver: str, tmp_path: Path, events: Events
) -> None:
    """A password from a file is read anew at each attempt; a file that is gone is named and waited for."""
    secrets, source = tmp_path / "passwords", tmp_path / "password"
    secrets.touch(mode=0o600)
    set_password(secrets, "right")
    broker = start_broker("allow_anonymous false", f"password_file {secrets}")
    source.write_text("outdated")
    password = FromFile.read(str(source))
    source.unlink()
    waiting = await session(broker, driver=driver, username="edge", password=password, wait=False)
    failure = await events.wait_for("connection_failed")
    assert str(source) in failure["reason"]
    source.write_text("right\n")
    async with asyncio.timeout(TIMEOUT_S):
        await waiting.connected()
