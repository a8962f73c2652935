"""A broker with several addresses, on two real ones."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import msgspec
import pytest
import structlog
import trustme

from deploy.local.services import LocalServices
from gateway.check import check
from runtime.errors import ConfigurationError
from runtime.mqtt import Disconnected, Message, MqttSession, Subscription, options_from
from runtime.mqtt.opening import Opener
from runtime.settings import Broker, load
from tests.conformance.support import TIMEOUT_S, Events

if TYPE_CHECKING:
    from pathlib import Path

    from runtime.settings import Settings


async def test_the_next_address_when_one_is_gone(settings: Settings, broker_port: int, unique: str) -> None:
    """What is published arrives at one address, and at the other when the first is killed; both are tried."""
    async with LocalServices(["mosquitto"], environ={}) as own:
        hosts = [f"localhost:{own.mqtt_port}", f"127.0.0.1:{broker_port}"]
        changed = load(None, environ={"EDGE_BROKER_HOSTS": ",".join(hosts), "EDGE_BROKER_CLIENT_ID": unique})
        assert (changed.broker.host, changed.broker.port) == ("localhost", own.mqtt_port)
        assert changed.events_broker("x").hosts == tuple(hosts)
        events = Events()
        structlog.configure(processors=[events])
        options = options_from(
            changed.broker, subscriptions=[Subscription(f"{unique}/round/#")], clean_start=True
        )
        async with MqttSession(options) as session, asyncio.timeout(TIMEOUT_S):
            await _round(session, f"{unique}/round/1")
            tried = msgspec.structs.replace(settings, broker=changed.broker)
            found = [each.found for each in (await check(tried)).findings if each.component == "broker"]
            await own.mosquitto.kill()
            assert (await events.wait_for("connected", 2))["address"] == hosts[1]
            await _round(session, f"{unique}/round/2")
        structlog.reset_defaults()
        assert found[0].startswith(hosts[0])
        assert found[1] == f"{hosts[1]}: there when {hosts[0]} is not"


async def _round(session: MqttSession, topic: str) -> None:
    await session.connected()
    await session.publish([Message(topic, b"x")])
    chunk = await session.receive()
    chunk.ack()
    assert [each.topic for each in chunk.deliveries] == [topic]


def test_events_with_an_address_of_their_own(tmp_path: Path) -> None:
    """Another host for events is not one more of the devices' broker."""
    file = tmp_path / "edge.toml"
    file.write_text('broker.hosts = ["a:1", "b:2"]\nevents.host = "c"', encoding="utf-8")
    events = load(file, environ={}).events_broker("x")
    assert (events.host, events.hosts) == ("c", ())
    with pytest.raises(ConfigurationError, match=r"^broker\.hosts: a:99999 has no port"):
        load(None, environ={"EDGE_BROKER_HOSTS": "a:99999"})


async def test_the_name_that_is_asked_for(tmp_path: Path) -> None:
    """By an address alone the broker of a name is asked for, and its certificate has to be for that name."""
    ca, asked = trustme.CA(), asyncio.Queue[str | None]()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("broker.example").configure_cert(context)
    context.sni_callback = lambda _connection, name, _context: asked.put_nowait(name)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        broker = Broker(port=port, driver="mqtt5", tls=True, tls_ca_file=str(tmp_path / "ca.pem"))
        for name, reason in (("broker.example", "closed"), ("other.example", "certificate")):
            named = msgspec.structs.replace(broker, tls_server_name=name)
            with pytest.raises(Disconnected) as caught:
                await Opener(options_from(named)).open(lambda _: None)
            assert (await asked.get(), reason in caught.value.reason) == (name, True), caught.value.reason
