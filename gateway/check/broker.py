"""Trying a broker: connection, subscriptions, publishing, and what it tells of itself in `$SYS`.

A throw-away client with a session of its own, so that a gateway that runs is not disturbed. It asks for at
most a few deliveries at a time and acknowledges none of them, which takes nothing from anybody: its session
ends with it.

Rights can only be seen where the broker tells them. MQTT 3.1.1 acknowledges a publish that it drops, and
mosquitto grants every subscription and withholds the messages (its ACL files know no subscribe rule).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import secrets
from typing import TYPE_CHECKING

import msgspec

from gateway.check.certificates import lasting
from gateway.check.report import Finding
from runtime.errors import Reject
from runtime.mqtt import Disconnected, Message, Subscription, options_from
from runtime.mqtt.connection import Refused
from runtime.mqtt.filters import COPIES_HINT
from runtime.mqtt.opening import Opener
from runtime.settings import host_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gateway.subscriptions import Plan
    from runtime.mqtt import SessionOptions
    from runtime.mqtt.connection import Connection, ReceivedChunk
    from runtime.settings import Broker

_RECEIVE_MAXIMUM = 10
_SYS_TIMEOUT_S = 1.0
_VERSION = "$SYS/broker/version"
_DROPPED = "$SYS/broker/publish/messages/dropped"


async def check_broker(
    broker: Broker, name: str, *, wanted: Plan | None = None, publish_to: str = ""
) -> AsyncIterator[Finding]:
    """Try one broker.

    Args:
        broker: its configuration.
        name: what it is called in the findings and in the configuration, `broker` or `events`.
        wanted: the routes and what the gateway subscribes for them there.
        publish_to: the topic under which the gateway publishes there; nothing is published when empty.

    Raises:
        ConfigurationError: its certificate files cannot be used.
    """
    where = f"{broker.host}:{broker.port}"
    told = _Told()
    opener = Opener(dataclasses.replace(_options(broker), others=()))
    try:
        connection = await opener.open(told.deliver)
    except Disconnected as error:
        yield Finding(name, "fail", f"{where}: {error.reason}", _advice(error.reason, name))
        return
    try:
        await _read_sys(connection, told)
        fallback = f" (to MQTT 5: {opener.fallback.reason})" if opener.fallback else ""
        version = "MQTT 5" if connection.driver == "mqtt5" else f"MQTT 3.1.1{fallback}"
        yield Finding(name, "ok", f"{where}: {version} by driver {connection.driver}{told.product}")
        if connection.certificate_ends is not None:
            yield lasting(f"{name} certificate", connection.certificate_ends, "the broker's own")
        if not told.refusal and not told.values:
            yield Finding(
                f"{name} queues",
                "warn",
                "whether the broker drops messages cannot be seen: nothing came under $SYS",
                f"let the user of [{name}] read $SYS/#; a broker without it counts its drops elsewhere",
            )
        if told.refusal:
            yield Finding(
                f"{name} queues",
                "warn",
                f"whether the broker drops messages cannot be seen: {told.refusal}",
                f"let the user of [{name}] read $SYS/#",
            )
        if told.dropped:
            yield Finding(
                f"{name} queues",
                "warn",
                f"the broker dropped {told.dropped} messages since it started",
                "raise max_queued_messages and max_inflight_messages; mosquitto.conf says which and why",
            )
        if wanted is not None:
            async for finding in _try_routes(connection, wanted):
                yield finding
            yield await _listen(told)
        if publish_to:
            yield await _try_publish(connection, publish_to)
    except Disconnected as error:
        yield Finding(name, "fail", f"{where}: connected, then {error.reason}", _advice(error.reason, name))
    finally:
        await connection.close()


async def check_others(broker: Broker, name: str) -> AsyncIterator[Finding]:
    """Try the other addresses of a broker."""
    for each in broker.hosts[1:]:
        yield await _reach(broker, each, name)


async def _reach(broker: Broker, address: str, name: str) -> Finding:
    """Whether another address of the broker lets us in."""
    host, port = host_port(address)
    options = dataclasses.replace(_options(broker), host=host, port=port, others=())
    try:
        connection = await Opener(options).open(lambda _: None)
    except Disconnected as error:
        return Finding(name, "fail", f"{address}: {error.reason}", _advice(error.reason, name))
    await connection.close()
    return Finding(name, "ok", f"{address}: there when {broker.host}:{broker.port} is not")


class _Told:
    """What `$SYS` said."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.refusal = ""
        self.complete = asyncio.Event()
        self.heard = asyncio.Event()

    def deliver(self, chunk: ReceivedChunk) -> None:
        for delivery in chunk.deliveries:
            if delivery.topic in {_VERSION, _DROPPED}:
                self.values[delivery.topic] = delivery.payload.decode("utf-8", "replace")[:80]
            else:
                self.heard.set()
        if len(self.values) == len({_VERSION, _DROPPED}):
            self.complete.set()

    @property
    def product(self) -> str:
        version = self.values.get(_VERSION, "")
        return f", {version}" if version.isprintable() and version else ""

    @property
    def dropped(self) -> int:
        text = self.values.get(_DROPPED, "")
        return int(text) if text.isdecimal() else 0


def _options(broker: Broker) -> SessionOptions:
    client_id = f"{broker.client_id[:100]}-check-{secrets.token_hex(4)}"
    options = options_from(msgspec.structs.replace(broker, client_id=client_id), clean_start=True)
    return dataclasses.replace(options, receive_maximum=_RECEIVE_MAXIMUM)


async def _listen(told: _Told) -> Finding:
    """Whether anything arrives: some brokers grant every subscription, and withhold the messages."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_SYS_TIMEOUT_S):
            await told.heard.wait()
    if told.heard.is_set():
        return Finding("arrivals", "ok", "messages arrive")
    return Finding(
        "arrivals",
        "ok",
        f"nothing arrived within {_SYS_TIMEOUT_S:g} s. If devices send all the same, the broker grants the "
        "subscription and withholds the messages, as mosquitto does without `topic read` in its acl_file",
    )


async def _read_sys(connection: Connection, told: _Told) -> None:
    try:
        async with asyncio.timeout(_SYS_TIMEOUT_S):
            await connection.subscribe([Subscription(_VERSION, 0), Subscription(_DROPPED, 0)])
            await told.complete.wait()
    except Refused as error:
        told.refusal = error.reason  # a broker need not let us read these topics
    except (Disconnected, TimeoutError):
        pass  # nor have them


async def _try_routes(connection: Connection, wanted: Plan) -> AsyncIterator[Finding]:
    """What each route subscribes, in the order of the file."""
    subscribed = {each.topic_filter: each for each in wanted.subscriptions}
    for topic_filter in dict.fromkeys(route.topic_filter for route in wanted.routes):
        if subscription := subscribed.get(topic_filter):
            yield await _try_subscribe(connection, subscription)
        elif by := wanted.covered.get(topic_filter):
            yield Finding(f"route {topic_filter}", "ok", f"not subscribed: {by} covers it")
        else:
            yield Finding(f"route {topic_filter}", "ok", "ignored, not subscribed")


async def _try_subscribe(connection: Connection, subscription: Subscription) -> Finding:
    name = f"route {subscription.topic_filter}"
    try:
        async with asyncio.timeout(_SYS_TIMEOUT_S * 5):
            [granted] = await connection.subscribe([subscription])
    except TimeoutError:
        return Finding(name, "fail", "no answer to SUBSCRIBE", "look into the broker's log")
    except Disconnected as error:
        if connection.lost.done():
            raise
        advice = f"let the user of [broker] read {subscription.topic_filter}"
        return Finding(name, "fail", error.reason, advice)
    if granted < subscription.qos:
        return Finding(
            name,
            "warn",
            f"granted with QoS {granted} instead of {subscription.qos}",
            "below QoS 1 messages are lost whenever the connection is",
        )
    if subscription.overlaps and not connection.tells_copies:
        return Finding(name, "warn", f"subscribed with QoS {granted}; copies are not told apart", COPIES_HINT)
    return Finding(name, "ok", f"subscribed with QoS {granted}")


async def _try_publish(connection: Connection, topic: str) -> Finding:
    name = "internal topic"
    # One level below what the projector subscribes, so that it never sees this.
    probe = Message(f"{topic}/check", b"", qos=1)
    try:
        async with asyncio.timeout(_SYS_TIMEOUT_S * 5):
            await connection.publish([probe])
    except TimeoutError:
        return Finding(name, "fail", "no answer to PUBLISH", "look into the broker's log")
    except Reject as error:
        return Finding(
            name,
            "fail",
            f"{probe.topic}: {error.detail}",
            f"let the user of [events] write {topic.rpartition('/')[0]}/#",
        )
    if connection.driver != "mqtt5":
        return Finding(name, "ok", f"{topic}: acknowledged, though MQTT 3.1.1 does not tell a refusal")
    return Finding(name, "ok", f"{topic}: the broker takes our messages")


def _advice(reason: str, name: str) -> str:
    words = reason.lower()
    if "not authori" in words or "bad user" in words or "password" in words:
        return f"set {name}.username and {name}.password as the broker knows them"
    if "certificate" in words or "ssl" in words:
        return f"check {name}.tls, {name}.tls_ca_file and the broker's certificate"
    if "mqtt 3" in words or "without an answer" in words or "version" in words:
        return f'set {name}.driver to "auto" or "aiomqtt", and check that {name}.port is an MQTT port'
    return f"check {name}.host and {name}.port, and that the broker runs and listens there"
