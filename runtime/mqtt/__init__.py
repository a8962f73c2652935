"""MQTT for the house: `port` says what a session promises, `MqttSession` keeps it.

Inside: `session` holds the connection loop, `opening` chooses the driver of the next connection, `filters`
subscribes on it, `temper` judges how it ended, `inbox` holds what waits for `receive`. `mqtt5`, `mqtt311` and
`aiomqtt` are the drivers of one connection: the first two over `stream`, a socket of ours, kept alive by
`pulse`; `outgoing` is what is being published on it, `terms` what the broker allows there, `copies` tells
copies from messages, `reader`, `wire` and `wire311` are the bytes.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from runtime.mqtt.port import (
    Chunk,
    Delivery,
    Disconnected,
    DriverName,
    Message,
    Qos,
    Refused,
    Session,
    SessionOptions,
    SessionStatus,
    Subscription,
)
from runtime.mqtt.session import MqttSession
from runtime.settings import Broker, duration_s, host_port, tls_context

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "Chunk",
    "Delivery",
    "Disconnected",
    "DriverName",
    "Message",
    "MqttSession",
    "Qos",
    "Refused",
    "Session",
    "SessionOptions",
    "SessionStatus",
    "Subscription",
    "options_from",
]


def options_from(
    broker: Broker,
    *,
    subscriptions: Sequence[Subscription] = (),
    known: Sequence[Subscription] = (),
    make_will: Callable[[], Message | None] | None = None,
    clean_start: bool = False,
) -> SessionOptions:
    """Session options for a broker section of the configuration.

    Args:
        broker: the section, checked.
        subscriptions: what to subscribe.
        known: what this client id subscribed when it last ran.
        make_will: makes the will of each connection.
        clean_start: begin with a new session each time, and leave none behind.
    """
    return SessionOptions(
        host=broker.host,
        port=broker.port,
        others=tuple(host_port(each) for each in broker.hosts[1:]),
        tls_server_name=broker.tls_server_name or None,
        client_id=broker.client_id,
        driver=broker.driver,
        username=broker.username or None,
        password=broker.password or None,
        make_tls=partial(tls_context, broker) if broker.tls else None,
        make_will=make_will,
        transport=broker.transport,
        websocket_path=broker.websocket_path,
        keepalive_s=broker.keepalive_s,
        clean_start=clean_start,
        session_expiry_s=0 if clean_start else int(duration_s(broker.session_expiry)),
        receive_maximum=broker.receive_maximum,
        max_packet_bytes=broker.max_packet_bytes,
        subscriptions=tuple(subscriptions),
        known=tuple(known),
    )
