"""Which driver carries a session: `auto`, its fallback, TLS and WebSockets."""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from runtime.mqtt import Message, MqttSession, Subscription, options_from
from runtime.settings import Broker
from tests.conformance.support import TIMEOUT_S, numbered, payloads, publish, take

if TYPE_CHECKING:
    from pathlib import Path

    from runtime.mqtt import Qos
    from tests.conformance.support import BrokerProcess, Events, OpenSession, StartBroker


async def test_auto_takes_mqtt_5_where_it_can(
    broker: BrokerProcess, session: OpenSession, topic: str, events: Events
) -> None:
    """On a broker that speaks MQTT 5 `auto` is the fast driver."""
    receiver = await session(broker, topic)
    await publish(receiver, Message(topic, b"hello"))
    assert payloads(await take(receiver, 1)) == [b"hello"]
    assert receiver.status.driver == "mqtt5"
    assert events.named("connected")[0]["driver"] == "mqtt5"
    assert not events.named("protocol_fallback")


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_auto_falls_back_to_3_1_1(
    old_broker: BrokerProcess, session: OpenSession, topic: str, events: Events, qos: Qos
) -> None:
    """A broker that only speaks MQTT 3.1.1 is served with it, and the log says which driver and why."""
    receiver = await session(old_broker, Subscription(topic, qos), connect_timeout_s=1)
    assert receiver.status.driver == "mqtt311"
    [fallback] = events.named("protocol_fallback")
    assert fallback["driver"] == "mqtt311"
    assert fallback["reason"]
    await publish(receiver, *numbered(topic, 100, qos))
    assert payloads(await take(receiver, 100)) == [b"%d" % n for n in range(100)]


async def test_mqtt5_alone_does_not_fall_back(
    old_broker: BrokerProcess, session: OpenSession, events: Events
) -> None:
    """With the driver chosen as `mqtt5` a broker without MQTT 5 is a failure with that reason."""
    refused = await session(old_broker, driver="mqtt5", wait=False, connect_timeout_s=0.5)
    failure = await events.wait_for("connection_failed")
    assert "no answer" in failure["reason"]
    assert not refused.status.connected


@pytest.mark.parametrize("driver", ["auto", "aiomqtt"])
async def test_websockets(broker: BrokerProcess, session: OpenSession, topic: str, driver: str) -> None:
    """WebSockets carry everything that TCP carries, large messages and bursts included."""
    receiver = await session(
        broker, topic, driver=driver, transport="websockets", port=broker.ports["websockets"]
    )
    assert receiver.status.driver == "aiomqtt"
    sender = await session(broker)
    messages = [*numbered(topic, 50), Message(topic, b"x" * 20_000), Message(topic, b"end")]
    await publish(sender, *messages)
    assert payloads(await take(receiver, 52)) == [each.payload for each in messages]


async def test_tls(
    start_broker: StartBroker, session: OpenSession, driver: str, topic: str, tmp_path: Path, events: Events
) -> None:
    """TLS carries everything, bursts beyond one record included; an unknown authority is refused."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    chain, key = tmp_path / "server.pem", tmp_path / "server.key"
    certificate.cert_chain_pems[0].write_to_path(str(chain))
    certificate.private_key_pem.write_to_path(str(key))
    broker = start_broker(listeners={"tls": [f"certfile {chain}", f"keyfile {key}"]})
    trusting, distrusting = ssl.create_default_context(), ssl.create_default_context()
    authority.configure_trust(trusting)
    port = broker.ports["tls"]

    receiver = await session(broker, topic, driver=driver, port=port, tls=trusting)
    messages = [*numbered(topic, 1000), Message(topic, b"x" * 200_000), Message(topic, b"end")]
    await publish(receiver, *messages)
    assert payloads(await take(receiver, 1002)) == [each.payload for each in messages]

    await session(broker, driver=driver, port=port, tls=distrusting, wait=False)
    failure = await events.wait_for("connection_failed")
    assert "certificate verify failed" in failure["reason"].lower()


async def test_certificates_that_were_changed_need_no_restart(
    start_broker: StartBroker, driver: str, tmp_path: Path, events: Events
) -> None:
    """Certificate files are read anew at each attempt, absent or torn ones named, until one fits."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    chain, key, trusted = (tmp_path / name for name in ("server.pem", "server.key", "ca.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(chain))
    certificate.private_key_pem.write_to_path(str(key))
    broker = start_broker(listeners={"tls": [f"certfile {chain}", f"keyfile {key}"]})
    section = Broker(port=broker.ports["tls"], client_id="tls", tls=True, tls_ca_file=str(trusted))
    options: dict[str, Any] = {"driver": driver, "backoff_initial_s": 0.02, "backoff_max_s": 0.1}
    async with MqttSession(dataclasses.replace(options_from(section), **options)) as waiting:
        missing = (await events.wait_for("connection_failed"))["reason"]
        assert missing == f"broker.tls: cannot use the certificate files {trusted}: No such file or directory"
        trustme.CA().cert_pem.write_to_path(str(trusted))
        reason = (await events.wait_for("connection_failed", 2))["reason"]
        assert "certificate verify failed" in reason.lower()
        trusted.write_text("torn")
        assert "certificate files" in (await events.wait_for("connection_failed", 3))["reason"]
        authority.cert_pem.write_to_path(str(trusted))
        async with asyncio.timeout(TIMEOUT_S):
            await waiting.connected()
