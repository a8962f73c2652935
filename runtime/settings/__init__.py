"""Configuration: one TOML file, every key also an environment variable, all checked before anything starts.

Precedence, highest first: `EDGE_<SECTION>_<KEY>` (`EDGE_ROUTE` and `EDGE_LIMIT` are JSON arrays of what
`[[route]]` and `[[limit]]` hold, `EDGE_UNITS` an object like `[units]`), the file, the defaults below, which
work against servers on localhost. A secret can be read from a file by naming it `<key>_file`. Unknown keys,
wrong types and impossible values raise `ConfigurationError` with the key's path. `runtime.configuration` does
the reading; here stands what there is to configure, and which combinations are impossible.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from runtime import configuration
from runtime.errors import ConfigurationError
from runtime.secret import FromFile
from runtime.settings.addresses import refuse_postgres, refuse_prefix, refuse_redis, without_user
from runtime.settings.brokers import Broker, Events, check_broker, tls_context
from runtime.settings.limits import Limit, check_limits
from runtime.settings.listener import Listener, check_listener, refuse_open
from runtime.settings.route import Route, check_routes
from runtime.settings.types import (
    Age,
    ClientId,
    Duration,
    HostId,
    HostName,
    HostPort,
    Section,
    Size,
    Text,
    Unit,
    Url,
    duration_s,
    host_port,
    size_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

__all__ = [
    "Broker",
    "Events",
    "Gateway",
    "Limit",
    "Listener",
    "Postgres",
    "Projector",
    "Redis",
    "Route",
    "Settings",
    "Sparkplug",
    "Spool",
    "duration_s",
    "host_port",
    "load",
    "refuse_open",
    "size_bytes",
    "tls_context",
]

LogLevel = Literal["", "debug", "info", "warning", "error"]

_LEAST: Final = {
    "broker.session_expiry": "1s",
    "gateway.dedup_window": "1m",  # looked at once a minute
    "gateway.max_ahead": "1s",
    "gateway.outbox_retention": "1s",
    "gateway.shutdown_timeout": "1s",
    "projector.clock_tolerance": "1s",
    "projector.shutdown_timeout": "1s",
    "sparkplug.reorder_timeout": "10ms",
}
_HIGHEST_PORT: Final = 65535
_LONGEST_AHEAD_S: Final = 30 * 86_400  # each day has partitions
_LONGEST_DURATION_S: Final = 3650 * 86_400  # below the 2^32 - 1 seconds of a session (MQTT5 §3.1.2.11.2)


class Postgres(Section, frozen=True):
    """The truth: measurements, keys and the outbox."""

    dsn: Text = "postgresql://postgres@127.0.0.1:5432/postgres"
    dsn_file: str = ""


class Redis(Section, frozen=True):
    """The view: statistics per device and region.

    `prefix` goes before every key. A Redis Cluster needs a hash tag such as `{edge}:`: all keys in one slot.
    The query API and the page read by `api_url`, such as that of a user who may not write; empty: by `url`.
    """

    url: Text = "redis://127.0.0.1:6379/0"
    url_file: str = ""
    api_url: Text = ""
    api_url_file: str = ""
    prefix: str = ""


class Sparkplug(Section, frozen=True):
    """What a host application of Sparkplug B does; only where a route has that format.

    `host_id` makes this the primary host application of that name. `reorder_timeout` is how long a message
    waits for those that were sent before it.
    """

    host_id: HostId = ""
    reorder_timeout: Duration = "2s"


class Gateway(Listener, frozen=True):
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
    unknown_devices: Literal["accept", "hold"] = "accept"
    shutdown_timeout: Duration = "10s"
    migrate: bool = True
    log_level: LogLevel = ""
    http: HostPort = "127.0.0.1:9101"


class Spool(Section, frozen=True):
    """Where messages are kept while PostgreSQL takes none; `path` is a folder, "" for none."""

    path: str = "/var/lib/mqtt-edge-gateway/spool"
    max_bytes: Size = "1GB"
    min_free_bytes: Size = "200MB"
    when_full: Literal["block", "drop_oldest"] = "block"
    after: Duration = "2s"


class Projector(Listener, frozen=True):
    """The read side."""

    http: HostPort = "127.0.0.1:9102"
    hosts: tuple[HostName, ...] = ()
    client_id: ClientId = "projector-0"
    expire_devices_after: Age = ""
    clock_tolerance: Duration = "5m"
    max_metrics: Annotated[int, Meta(ge=1, le=10_000)] = 1000
    max_regions: Annotated[int, Meta(ge=1, le=100_000)] = 10_000
    grafana_url: Url = ""
    log_level: LogLevel = ""
    shutdown_timeout: Duration = "10s"


class Settings(Section, frozen=True):
    """The whole configuration, checked.

    `units` are those of metrics whose names do not tell; "" is none.
    """

    broker: Broker = Broker()
    events: Events = Events()
    postgres: Postgres = Postgres()
    redis: Redis = Redis()
    gateway: Gateway = Gateway()
    sparkplug: Sparkplug = Sparkplug()
    spool: Spool = Spool()
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
        if self.events.hosts is None and (self.events.host is not None or self.events.port is not None):
            overrides["hosts"] = ()
        return _first(msgspec.structs.replace(self.broker, **{**overrides, "client_id": client_id}))


def load(
    path: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    complete: Callable[[dict[str, Any]], None] | None = None,
    *,
    secrets: bool = True,
) -> Settings:
    """Read, merge and check the configuration.

    Args:
        path: the TOML file; None looks at `EDGE_CONFIG` and then does without one.
        environ: the environment; None is the process's own.
        complete: puts the routes of dialects in their places; None for who has no use for routes.
        secrets: whether those in files are read; who connects to nothing needs none.

    Raises:
        ConfigurationError: with the key's path and what would be right.
    """
    settings = configuration.read(
        Settings, path, os.environ if environ is None else environ, complete, secrets=secrets
    )
    _check(settings)
    return msgspec.structs.replace(settings, broker=_first(settings.broker))


def _first(broker: Broker) -> Broker:
    """A broker as its first address has it, which is also what names it."""
    if not broker.hosts:
        return broker
    host, port = host_port(broker.hosts[0])
    return msgspec.structs.replace(broker, host=host, port=port)


def _check(settings: Settings) -> None:
    """Refuse what no single key shows to be impossible."""
    _check_addresses(settings)
    _check_durations(settings)
    if not settings.route:
        raise ConfigurationError("route: at least one [[route]] is needed; leave it out for the default")
    check_routes(settings.route)
    check_limits(settings.limit)
    check_broker("broker", settings.broker, settings.broker)
    check_broker("events", settings.events, settings.events_broker(settings.broker.client_id))
    if settings.projector.client_id == settings.broker.client_id:
        raise ConfigurationError(
            "projector.client_id: equal to broker.client_id, so each would end the other's session"
        )


def _check_addresses(settings: Settings) -> None:
    for name, hosts in (("broker", settings.broker.hosts), ("events", settings.events.hosts or ())):
        for each in hosts:
            if not 1 <= host_port(each)[1] <= _HIGHEST_PORT:
                raise ConfigurationError(f"{name}.hosts: {each} has no port from 1 to {_HIGHEST_PORT}")
    for name in ("gateway", "projector"):
        check_listener(name, getattr(settings, name))
    for key, secret, refuse in (
        ("postgres.dsn", settings.postgres.dsn, refuse_postgres),
        ("redis.url", settings.redis.url, refuse_redis),
        ("redis.api_url", settings.redis.api_url or settings.redis.url, refuse_redis),
    ):
        if reason := refuse(secret):
            raise ConfigurationError(f"{key}{'_file' if isinstance(secret, FromFile) else ''}: {reason}")
    if settings.redis.api_url and without_user(settings.redis.api_url) != without_user(settings.redis.url):
        raise ConfigurationError("redis.api_url: differs from redis.url by more than user and password")
    if reason := refuse_prefix(settings.redis.url, settings.redis.prefix):
        raise ConfigurationError(f"redis.prefix: {reason}")


def _check_durations(settings: Settings) -> None:
    for name, least in _LEAST.items():
        section_name, _, key = name.partition(".")
        if duration_s(getattr(getattr(settings, section_name), key)) < duration_s(least):
            raise ConfigurationError(f'{name}: shorter than "{least}", the least that is of use')
    for name, section in (
        ("broker", settings.broker),
        ("gateway", settings.gateway),
        ("projector", settings.projector),
        ("spool", settings.spool),
    ):
        for field in msgspec.structs.fields(section):
            if field.type is Duration and duration_s(getattr(section, field.name)) > _LONGEST_DURATION_S:
                raise ConfigurationError(f'{name}.{field.name}: longer than ten years, "3650d"')
    if duration_s(settings.gateway.max_ahead) > _LONGEST_AHEAD_S:
        raise ConfigurationError('gateway.max_ahead: longer than "30d"; no partitions are made so far ahead')
