"""Configuration: one TOML file, every key also an environment variable, all checked before anything starts.

Precedence, highest first: `EDGE_<SECTION>_<KEY>` (`EDGE_ROUTE` and `EDGE_LIMIT` are JSON arrays of what
`[[route]]` and `[[limit]]` hold, `EDGE_UNITS` an object like `[units]`), the file, the defaults below, which
work against servers on localhost. A secret can be read from a file by naming it `<key>_file`. Unknown keys,
wrong types and impossible values raise `ConfigurationError` with the key's path. `runtime.configuration` does
the reading; here stands what there is to configure, and which combinations are impossible.
"""

from __future__ import annotations

import os
import re
import ssl
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from runtime import configuration
from runtime.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# `description` is what an error message says was expected.
Port = Annotated[int, Meta(ge=1, le=65535, description="a port from 1 to 65535")]
Text = Annotated[str, Meta(min_length=1, description="text that is not empty")]
ClientId = Annotated[str, Meta(min_length=1, max_length=128, description="1 to 128 characters")]
Duration = Annotated[
    str,
    Meta(
        pattern=r"^[1-9][0-9]*(ms|s|m|h|d)$",
        description='a duration such as "250ms", "90s", "15m", "24h" or "7d"',
    ),
]
Age = Annotated[
    str,
    Meta(
        pattern=r"^([1-9][0-9]{0,4}(h|d))?$",
        description='an age such as "36h" or "90d", or "" for no limit',
    ),
]
HostPort = Annotated[
    str,
    Meta(
        pattern=r"^[^:\s]+:[0-9]{1,5}$|^\[[0-9a-fA-F:]+\]:[0-9]{1,5}$",
        description='an address such as "127.0.0.1:9101" or "[::1]:9101"',
    ),
]
HostName = Annotated[
    str,
    Meta(
        pattern=r"^(\*|(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?)$",
        max_length=253,
        description='host names such as "edge.example" or "*.example", or "*" for any',
    ),
]
Topic = Annotated[
    str,
    Meta(
        pattern=r"^[^+#\x00]+$",
        max_length=1000,
        description="a topic of 1 to 1000 characters without + and #",
    ),
]
Paths = Annotated[
    str,
    Meta(
        pattern=r"^[^\x00-\x1f]*$",
        max_length=1000,
        description='names of fields such as "id" or "meta.id | id", or "" for none',
    ),
]

Url = Annotated[
    str,
    Meta(
        pattern=r"^(https?://[^\s?#]+)?$",
        max_length=1000,
        description='an address such as "https://grafana.example", or "" for none',
    ),
]
Number = Annotated[float, Meta(description="a number")]
Pattern = Annotated[
    str,
    Meta(
        pattern=r"^[^\x00]*$",
        max_length=512,
        description='a name, or a pattern such as "pump-*", or "" for any',
    ),
]
Lasting = Annotated[
    str,
    Meta(
        pattern=r"^([1-9][0-9]*(ms|s|m|h|d))?$",
        description='a duration such as "90s" or "5m", or "" for none',
    ),
]
Unit = Annotated[str, Meta(max_length=12, description='a unit of at most 12 characters such as "°C"')]

_DURATION_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SECRETS = frozenset({"password", "dsn", "url"})
_NO_LAST_VALUE = {"seen", "seen_ms"}  # `last_seen` is a field of its own
_MOST_LIMITS = 500  # each reading of a metric is looked up among those of that metric
_LONGEST_LASTING_S = 7 * 86_400
_LONGEST_AHEAD_S = 30 * 86_400  # each day has partitions
_LONGEST_DURATION_S = 3650 * 86_400  # below the 2^32 - 1 seconds of an MQTT session (MQTT5 §3.1.2.11.2)


def duration_s(text: str) -> float:
    """Convert a checked duration such as `24h` or `250ms` to seconds."""
    number, unit = re.fullmatch(r"([0-9]+)([a-z]+)", text).groups()  # type: ignore[union-attr]  # checked at start
    return int(number) * _DURATION_MS[unit] / 1000


def host_port(text: str) -> tuple[str, int]:
    """Split a checked `host:port`, brackets of an IPv6 address removed."""
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A section of the file: unknown keys are refused, and secrets stay out of its `repr`."""

    def __repr__(self) -> str:
        shown = (
            f"{name}={'***' if name in _SECRETS and value else repr(value)}"
            for name, value in msgspec.structs.asdict(self).items()
        )
        return f"{type(self).__name__}({', '.join(shown)})"


class Broker(Section, frozen=True):
    """Where devices publish."""

    host: Text = "127.0.0.1"
    port: Port = 1883
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
    keepalive_s: Annotated[int, Meta(ge=5, le=3600)] = 30
    session_expiry: Duration = "7d"
    receive_maximum: Annotated[int, Meta(ge=1, le=65535)] = 3000
    max_packet_bytes: Annotated[int, Meta(ge=1024, le=256 * 1024 * 1024)] = 2_000_000


class Events(Section, frozen=True):
    """Where events go; a broker key that is not set here is taken from `[broker]`."""

    topic: Topic = "gateway/events/v1"
    host: Text | None = None
    port: Port | None = None
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


class Postgres(Section, frozen=True):
    """The truth: measurements, keys and the outbox."""

    dsn: Text = "postgresql://postgres@127.0.0.1:5432/postgres"
    dsn_file: str = ""


class Redis(Section, frozen=True):
    """The view: statistics per device and region.

    `prefix` goes before every key. With Redis Cluster set a hash tag such as `{edge}:`: all keys in one slot.
    """

    url: Text = "redis://127.0.0.1:6379/0"
    url_file: str = ""
    prefix: str = ""


class Gateway(Section, frozen=True):
    """The write side."""

    stream: Annotated[int, Meta(ge=0, le=32767)] = 0
    batch_messages: Annotated[int, Meta(ge=1, le=20_000)] = 1000
    batch_bytes: Annotated[int, Meta(ge=1024, le=64 * 1024 * 1024)] = 1_000_000
    batch_linger_ms: Annotated[int, Meta(ge=0, le=10_000)] = 20
    dedup_window: Duration = "24h"
    max_payload_bytes: Annotated[int, Meta(ge=64, le=64 * 1024 * 1024)] = 262_144
    max_ahead: Duration = "24h"
    max_metrics: Annotated[int, Meta(ge=1, le=10_000)] = 256
    max_metric_name: Annotated[int, Meta(ge=16, le=512)] = 128
    outbox_retention: Duration = "1h"
    retention: Age = ""
    minutes_retention: Age = "35d"
    hours_retention: Age = ""
    dead_letters_max: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 100_000
    dead_letters_max_bytes: Annotated[int, Meta(ge=65_536, le=2**50)] = 268_435_456
    shutdown_timeout: Duration = "10s"
    migrate: bool = True
    http: HostPort = "127.0.0.1:9101"


class Projector(Section, frozen=True):
    """The read side."""

    http: HostPort = "127.0.0.1:9102"
    hosts: tuple[HostName, ...] = ()
    client_id: ClientId = "projector-0"
    expire_devices_after: Age = ""
    clock_tolerance: Duration = "5m"
    max_metrics: Annotated[int, Meta(ge=1, le=10_000)] = 1000
    max_regions: Annotated[int, Meta(ge=1, le=100_000)] = 10_000
    grafana_url: Url = ""
    shutdown_timeout: Duration = "10s"


class Route(Section, frozen=True):
    """Which topics carry telemetry, in what format, and what of a message means what.

    `device`, `key`, `time` and `region` are names of fields, with dots for what is nested, and `|` between
    alternatives of which the first that is there counts; "" is none. `clock` says what a device time that
    cannot be, or cannot be read, leads to: "device" refuses the message, "prefer" takes the time of arrival,
    and "received" always does.
    """

    topic: Text = "devices/{device_id}/telemetry"
    format: Literal["json"] = "json"
    device: Paths = "device_id"
    key: Paths = "id | message_id | idempotency_key"
    time: Paths = "ts | timestamp | time"
    time_format: Text = "auto"
    timezone: Text = "UTC"
    clock: Literal["device", "prefer", "received"] = "device"
    region: Paths = "region"
    metrics: Annotated[str, Meta(pattern=r"^[^|\x00-\x1f]*$", description="the path of an object")] = ""
    on_bad_field: Literal["reject", "drop"] = "reject"
    ignore: bool = False
    identity: Literal["key", "key+time"] = "key"
    qos: Literal[0, 1, 2] = 1


class Limit(Section, frozen=True):
    """From which value on a metric calls for somebody; of one metric and `when` the first that fits counts.

    `region` and `device` are patterns with `*`, `?` and `[…]`; "" is any. Beyond is above `warn` or `crit`,
    or below, as `when` says, for as long as `for` by when readings reached the gateway.
    """

    metric: Text
    region: Pattern = ""
    device: Pattern = ""
    when: Literal["above", "below"] = "above"
    warn: Number | None = None
    crit: Number | None = None
    for_: Lasting = msgspec.field(default="", name="for")


class Settings(Section, frozen=True):
    """The whole configuration, checked.

    `units` are those of metrics whose names do not tell; "" is none.
    """

    broker: Broker = Broker()
    events: Events = Events()
    postgres: Postgres = Postgres()
    redis: Redis = Redis()
    gateway: Gateway = Gateway()
    projector: Projector = Projector()
    units: dict[str, Unit] = msgspec.field(default_factory=dict)
    route: tuple[Route, ...] = (Route(),)
    limit: tuple[Limit, ...] = ()

    def events_broker(self, client_id: str) -> Broker:
        """The broker of the internal topic: `[broker]` with what `[events]` sets put over it."""
        overrides = {
            name: value
            for name in Events.__struct_fields__
            if name in Broker.__struct_fields__ and (value := getattr(self.events, name)) is not None
        }
        return msgspec.structs.replace(self.broker, **{**overrides, "client_id": client_id})


def load(path: str | Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read, merge and check the configuration.

    Args:
        path: the TOML file; None looks at `EDGE_CONFIG` and then does without one.
        environ: the environment; None is the process's own.

    Raises:
        ConfigurationError: with the key's path and what would be right.
    """
    settings = configuration.read(Settings, path, os.environ if environ is None else environ)
    _check(settings)
    return settings


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
        if broker.tls_cert_file:
            context.load_cert_chain(broker.tls_cert_file, broker.tls_key_file or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"{section}.tls: cannot use the certificate files: {error}") from error
    return context


def _check(settings: Settings) -> None:
    """Refuse what no single key shows to be impossible."""
    for name in ("gateway", "projector"):
        if host_port(getattr(settings, name).http)[1] > 65535:  # noqa: PLR2004  # the largest TCP port
            raise ConfigurationError(f"{name}.http: the port is beyond 65535")
    for name, section in (
        ("broker", settings.broker),
        ("gateway", settings.gateway),
        ("projector", settings.projector),
    ):
        for field in msgspec.structs.fields(section):
            if field.type is Duration and duration_s(getattr(section, field.name)) > _LONGEST_DURATION_S:
                raise ConfigurationError(f'{name}.{field.name}: longer than ten years, "3650d"')
    if duration_s(settings.broker.session_expiry) < 1:
        raise ConfigurationError('broker.session_expiry: shorter than "1s" keeps no session')
    if duration_s(settings.gateway.max_ahead) > _LONGEST_AHEAD_S:
        raise ConfigurationError('gateway.max_ahead: longer than "30d"; no partitions are made so far ahead')
    if not settings.route:
        raise ConfigurationError("route: at least one [[route]] is needed; leave it out for the default")
    _check_limits(settings.limit)
    _check_broker("broker", settings.broker, settings.broker)
    _check_broker("events", settings.events, settings.events_broker(settings.broker.client_id))
    if settings.projector.client_id == settings.broker.client_id:
        raise ConfigurationError(
            "projector.client_id: equal to broker.client_id, so each would end the other's session"
        )


def _check_limits(limits: Sequence[Limit]) -> None:
    if len(limits) > _MOST_LIMITS:
        raise ConfigurationError(f"limit: more than {_MOST_LIMITS}; patterns let one stand for many devices")
    takes_all: dict[tuple[str, str], str] = {}
    for at, limit in enumerate(limits):
        where = f"limit[{at}]"
        _check_limit(where, limit)
        if earlier := takes_all.get((limit.metric, limit.when)):
            raise ConfigurationError(f"{where}: never looked at, because {earlier} takes every device")
        if not limit.region.strip("*") and not limit.device.strip("*"):
            takes_all[limit.metric, limit.when] = where


def _check_limit(where: str, limit: Limit) -> None:
    values = {"warn": limit.warn, "crit": limit.crit}
    given = {name: value for name, value in values.items() if value is not None}
    if not given:
        raise ConfigurationError(f"{where}: needs warn, crit or both")
    if limit.metric in _NO_LAST_VALUE:
        raise ConfigurationError(f"{where}.metric: {limit.metric} has no last value to begin with")
    for name, value in given.items():
        if not isfinite(value):
            raise ConfigurationError(f"{where}.{name}: expected a finite number")
    warn, *crit = given.values()
    if crit and (warn == crit[0] or (warn > crit[0]) == (limit.when == "above")):
        side = "below" if limit.when == "above" else "above"
        raise ConfigurationError(f"{where}.warn: has to be {side} crit, or it would never show")
    if limit.for_ and duration_s(limit.for_) > _LONGEST_LASTING_S:
        raise ConfigurationError(f'{where}.for: longer than "7d"')


def _check_broker(name: str, section: Broker | Events, merged: Broker) -> None:
    if merged.transport == "websockets" and merged.driver in {"mqtt5", "mqtt311"}:
        raise ConfigurationError(f'{name}.transport: "websockets" needs driver "aiomqtt" or "auto"')
    if merged.tls_key_file and not merged.tls_cert_file:
        raise ConfigurationError(f"{name}.tls_key_file: needs {name}.tls_cert_file beside it")
    for key in ("tls_ca_file", "tls_cert_file"):
        if getattr(section, key) and not merged.tls:
            raise ConfigurationError(f"{name}.{key}: has no effect without {name}.tls = true")
