"""`[broker]` and `[events]`: where devices publish, and where events go."""

from __future__ import annotations

import ssl
from typing import Annotated, Literal

from msgspec import Meta

from runtime.errors import ConfigurationError
from runtime.secret import no_passphrase
from runtime.settings.types import ClientId, Duration, HostPort, Port, Section, Text, Topic

Alpn = Annotated[
    str,
    Meta(
        pattern=r"^[\x21-\x7e]*$",
        max_length=255,
        description='the name of a protocol such as "mqtt", or "" for none',
    ),
]
ServerName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9.-]*$",
        max_length=253,
        description='a name of a certificate such as "broker.example", or "" for that of the address',
    ),
]


class Broker(Section, frozen=True):
    """Where devices publish.

    `hosts`, when there are any, stand for `host` and `port`: addresses of one broker, tried in turn.
    """

    host: Text = "127.0.0.1"
    port: Port = 1883
    hosts: tuple[HostPort, ...] = ()
    driver: Literal["auto", "mqtt5", "mqtt311", "aiomqtt"] = "auto"
    client_id: ClientId = "gateway-0"
    username: str = ""
    password: str = ""
    password_file: str = ""
    transport: Literal["tcp", "websockets"] = "tcp"
    websocket_path: Text = "/mqtt"
    tls: bool = False
    tls_ca_file: str = ""
    tls_cert_file: str = ""
    tls_key_file: str = ""
    tls_alpn: Alpn = ""
    tls_server_name: ServerName = ""
    keepalive_s: Annotated[int, Meta(ge=5, le=3600)] = 30
    session_expiry: Duration = "7d"
    receive_maximum: Annotated[int, Meta(ge=1, le=65535)] = 3000
    max_packet_bytes: Annotated[int, Meta(ge=1024, le=256 * 1024 * 1024)] = 2_000_000


class Events(Section, frozen=True):
    """Where events go; a broker key that is not set here is taken from `[broker]`."""

    topic: Topic = "gateway/events/v1"
    host: Text | None = None
    port: Port | None = None
    hosts: tuple[HostPort, ...] | None = None
    driver: Literal["auto", "mqtt5", "mqtt311", "aiomqtt"] | None = None
    username: str | None = None
    password: str | None = None
    password_file: str = ""
    transport: Literal["tcp", "websockets"] | None = None
    websocket_path: Text | None = None
    tls: bool | None = None
    tls_ca_file: str | None = None
    tls_cert_file: str | None = None
    tls_key_file: str | None = None
    tls_alpn: Alpn | None = None
    tls_server_name: ServerName | None = None


def tls_context(broker: Broker, section: str = "broker") -> ssl.SSLContext | None:
    """Build the TLS context that a broker section asks for; None without TLS.

    Args:
        broker: `[broker]`, or what `Settings.events_broker` returns.
        section: its name in the file, for the message.

    Raises:
        ConfigurationError: a certificate or key file cannot be used.
    """
    if not broker.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=broker.tls_ca_file or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if broker.tls_alpn:
            context.set_alpn_protocols([broker.tls_alpn])
        if broker.tls_cert_file:
            context.load_cert_chain(broker.tls_cert_file, broker.tls_key_file or None, no_passphrase)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(
            name for name in (broker.tls_ca_file, broker.tls_cert_file, broker.tls_key_file) if name
        )
        reason = error.strerror or error
        raise ConfigurationError(
            f"{section}.tls: cannot use the certificate files {files}: {reason}"
        ) from error
    return context


def check_broker(name: str, section: Broker | Events, merged: Broker) -> None:
    """Refuse keys of a broker that contradict each other, or do nothing.

    Args:
        name: the section's.
        section: as it was written.
        merged: with what it takes from `[broker]`.

    Raises:
        ConfigurationError: with the key.
    """
    if merged.transport == "websockets" and merged.driver in {"mqtt5", "mqtt311"}:
        raise ConfigurationError(f'{name}.transport: "websockets" needs driver "aiomqtt" or "auto"')
    if merged.tls_key_file and not merged.tls_cert_file:
        raise ConfigurationError(f"{name}.tls_key_file: needs {name}.tls_cert_file beside it")
    if merged.tls_server_name and (merged.driver == "aiomqtt" or merged.transport == "websockets"):
        raise ConfigurationError(f"{name}.tls_server_name: has no effect with driver aiomqtt or websockets")
    for key in ("tls_ca_file", "tls_cert_file", "tls_alpn", "tls_server_name"):
        if getattr(section, key) and not merged.tls:
            raise ConfigurationError(f"{name}.{key}: has no effect without {name}.tls = true")
