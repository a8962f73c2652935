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

from gateway.check import kinds
from gateway.check.certificates import lasting
from gateway.check.hearing import SYS_S, hear
from gateway.check.report import Finding
from gateway.check.terms import judge_kind, judge_terms
from runtime.errors import Reject
from runtime.mqtt import Disconnected, Message, options_from
from runtime.mqtt.filters import COPIES_HINT
from runtime.mqtt.opening import Opener
from runtime.settings import duration_s, host_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from gateway.check.hearing import Heard
    from gateway.subscriptions import Plan
    from runtime.mqtt import SessionOptions, Subscription
    from runtime.mqtt.connection import Connection
    from runtime.settings import Broker

_RECEIVE_MAXIMUM = 10


async def check_broker(
    broker: Broker,
    name: str,
    *,
    wanted: Plan | None = None,
    publish_to: str = "",
    row_bytes: int = 0,
    retains: bool = False,
) -> AsyncIterator[Finding]:
    """Try one broker.

    Args:
        broker: its configuration.
        name: what it is called in the findings and in the configuration, `broker` or `events`.
        wanted: the routes and what the gateway subscribes for them there.
        publish_to: the topic under which the gateway publishes there; nothing is published when empty.
        row_bytes: of what it publishes there, at most.
        retains: whether some of what it publishes there is to be kept for who subscribes later.

    Raises:
        ConfigurationError: its certificate files cannot be used.
    """
    where = f"{broker.host}:{broker.port}"
    arrived = asyncio.Event()
    options = dataclasses.replace(_options(broker), others=())
    opener = Opener(options)
    try:
        connection = await opener.open(lambda _: arrived.set())
    except Disconnected as error:
        yield Finding(name, "fail", f"{where}: {error.reason}", _advice(error.reason, name))
        return
    try:
        heard = await hear(options, connection.driver)
        seen = kinds.Seen(broker.host, connection.driver == "mqtt5", connection.terms, heard)
        named = kinds.name(seen)
        product = heard.version or (f"{named.kind.name} {named.by}" if named else "")
        fallback = f" (to MQTT 5: {opener.fallback.reason})" if opener.fallback else ""
        version = "MQTT 5" if connection.driver == "mqtt5" else f"MQTT 3.1.1{fallback}"
        yield Finding(
            name, "ok", f"{where}: {version} by driver {connection.driver}{product and ', '}{product}"
        )
        if connection.certificate_ends is not None:
            yield lasting(f"{name} certificate", connection.certificate_ends, "the broker's own")
        asked_s = int(duration_s(broker.session_expiry))
        yield judge_terms(name, seen, asked_s=asked_s, retains=retains, row_bytes=row_bytes)
        if named is not None:
            shared = any(
                each.topic_filter.startswith("$share/") for each in (wanted.subscriptions if wanted else ())
            )
            yield judge_kind(name, named, shared=shared)
        for finding in _queues(heard, name):
            yield finding
        if wanted is not None:
            async for finding in _try_routes(connection, wanted):
                yield finding
            yield await _listen(arrived)
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


def _queues(heard: Heard, name: str) -> Iterator[Finding]:
    """Whether the broker says that it drops messages, and whether it does."""
    component = f"{name} queues"
    if heard.refusal or not heard.topics:
        yield Finding(
            component,
            "warn",
            f"whether the broker drops messages cannot be seen: {heard.refusal or 'nothing came under $SYS'}",
            f"let the user of [{name}] read $SYS/#; a broker without it counts its drops elsewhere",
        )
    elif heard.dropped:
        yield Finding(
            component,
            "warn",
            f"the broker dropped {heard.dropped} messages since it started",
            "raise max_queued_messages and max_inflight_messages; mosquitto.conf says which and why",
        )


def _options(broker: Broker) -> SessionOptions:
    client_id = f"{broker.client_id[:100]}-check-{secrets.token_hex(4)}"
    options = options_from(msgspec.structs.replace(broker, client_id=client_id), clean_start=True)
    return dataclasses.replace(options, receive_maximum=_RECEIVE_MAXIMUM)


async def _listen(arrived: asyncio.Event) -> Finding:
    """Whether anything arrives: some brokers grant every subscription, and withhold the messages."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SYS_S):
            await arrived.wait()
    if arrived.is_set():
        return Finding("arrivals", "ok", "messages arrive")
    return Finding(
        "arrivals",
        "ok",
        f"nothing arrived within {SYS_S:g} s. If devices send all the same, the broker grants the "
        "subscription and withholds the messages, as mosquitto does without `topic read` in its acl_file",
    )


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
        async with asyncio.timeout(SYS_S * 5):
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
        async with asyncio.timeout(SYS_S * 5):
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
