"""Configuration: one TOML file, every key also an environment variable, all of it checked before anything starts.

Precedence, highest first: `EDGE_<SECTION>_<KEY>`, the file, the defaults below, which work against servers on
localhost. A secret can be read from a file by naming it `<key>_file`. Unknown keys, wrong types and impossible values
raise `ConfigurationError` with the key's path.
"""

from __future__ import annotations

import os
import re
import ssl
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from runtime.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

Port = Annotated[int, Meta(ge=1, le=65535)]
Positive = Annotated[int, Meta(ge=1)]
Text = Annotated[str, Meta(min_length=1)]
Duration = Annotated[str, Meta(pattern=r"^[1-9][0-9]*(ms|s|m|h|d)$")]
HostPort = Annotated[str, Meta(pattern=r"^[^:\s]+:[0-9]{1,5}$|^\[[0-9a-fA-F:]+\]:[0-9]{1,5}$")]
Topic = Annotated[str, Meta(pattern=r"^[^+#\x00]+$", max_length=1000)]

_DURATION_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def duration_s(text: str) -> float:
    """Convert a checked duration such as `24h` or `250ms` to seconds."""
    number, unit = re.fullmatch(r"([0-9]+)([a-z]+)", text).groups()  # type: ignore[union-attr]  # checked at start
    return int(number) * _DURATION_MS[unit] / 1000


def host_port(text: str) -> tuple[str, int]:
    """Split a checked `host:port`, brackets of an IPv6 address removed."""
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A section of the file: unknown keys are refused."""


class Broker(Section, frozen=True):
    """Where devices publish."""

    host: Text = "127.0.0.1"
    port: Port = 1883
    driver: Literal["auto", "mqtt5", "aiomqtt"] = "auto"
    client_id: Annotated[str, Meta(min_length=1, max_length=128)] = "gateway-0"
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
    driver: Literal["auto", "mqtt5", "aiomqtt"] | None = None
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

    `prefix` goes before every key. With Redis Cluster set a hash tag, such as `{edge}:`, so that all keys share a slot.
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
    outbox_retention: Duration = "1h"
    shutdown_timeout: Duration = "10s"
    migrate: bool = True
    http: HostPort = "127.0.0.1:9101"


class Projector(Section, frozen=True):
    """The read side."""

    http: HostPort = "127.0.0.1:9102"
    client_id: Annotated[str, Meta(min_length=1, max_length=128)] = "projector-0"
    shutdown_timeout: Duration = "10s"


class Route(Section, frozen=True):
    """Which topics carry telemetry, in what format, and what makes two messages the same."""

    topic: Text = "devices/{device_id}/telemetry"
    format: Literal["json"] = "json"
    identity: Literal["key", "key+time"] = "key"
    qos: Literal[0, 1, 2] = 1


class Settings(Section, frozen=True):
    """The whole configuration, checked."""

    broker: Broker = Broker()
    events: Events = Events()
    postgres: Postgres = Postgres()
    redis: Redis = Redis()
    gateway: Gateway = Gateway()
    projector: Projector = Projector()
    route: tuple[Route, ...] = (Route(),)

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
    environ = os.environ if environ is None else environ
    path = path or environ.get("EDGE_CONFIG") or None
    raw = _read_file(Path(path)) if path else {}
    _merge_environment(raw, environ)
    try:
        settings = msgspec.convert(raw, Settings)
    except msgspec.ValidationError as error:
        raise ConfigurationError(_explain(error)) from error
    settings = _read_secrets(settings)
    _check(settings)
    return settings


def tls_context(broker: Broker) -> ssl.SSLContext | None:
    """Build the TLS context that a broker section asks for; None without TLS.

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
        raise ConfigurationError(f"broker.tls: cannot use the certificate files: {error}") from error
    return context


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot read the configuration file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: not UTF-8: {error.reason} at byte {error.start}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: not valid TOML: {error}") from error


def _merge_environment(raw: dict[str, Any], environ: Mapping[str, str]) -> None:
    known = {
        f"EDGE_{section.name}_{field.name}".upper(): (section.name, field)
        for section in msgspec.structs.fields(Settings)
        if isinstance(section.type, type) and issubclass(section.type, Section)
        for field in msgspec.structs.fields(section.type)
    }
    for variable, text in environ.items():
        if not variable.startswith("EDGE_") or variable == "EDGE_CONFIG":
            continue
        if variable not in known:
            raise ConfigurationError(f"{variable}: no such setting; {_suggest(variable, list(known))}")
        section, field = known[variable]
        try:
            value = msgspec.convert(text, field.type, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"{variable} ({section}.{field.name}): {error}") from error
        table = raw.setdefault(section, {})
        if not isinstance(table, dict):
            raise ConfigurationError(f"{section}: expected a table [{section}]")
        table[field.name] = value


def _suggest(name: str, known: list[str]) -> str:
    import difflib  # noqa: PLC0415  # only on the way to an error message

    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else "see the configuration table in README.md"


def _explain(error: msgspec.ValidationError) -> str:
    text = str(error)
    message, _, where = text.rpartition(" - at `$")
    path = where.rstrip("`").lstrip(".")
    if not message:
        message, path = text, ""
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", message)
    if unknown:
        name = unknown[1]
        section = getattr(Settings(), path, None) if path else Settings()
        section = Route() if path.startswith("route") else section
        names = list(section.__struct_fields__) if isinstance(section, Section) else []
        return f"{path + '.' if path else ''}{name}: no such key; {_suggest(name, names)}"
    return f"{path or 'configuration'}: {message}"


def _read_secrets(settings: Settings) -> Settings:
    changes: dict[str, Section] = {}
    for section_name, key in (("broker", "password"), ("events", "password"), ("postgres", "dsn"), ("redis", "url")):
        section = getattr(settings, section_name)
        source = getattr(section, f"{key}_file")
        if not source:
            continue
        try:
            secret = Path(source).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{section_name}.{key}_file: cannot read {source}: {error}") from error
        changes[section_name] = msgspec.structs.replace(section, **{key: secret})
    return msgspec.structs.replace(settings, **changes)


def _check(settings: Settings) -> None:
    for section in ("gateway", "projector"):
        address = getattr(settings, section).http
        if host_port(address)[1] > 65535:  # noqa: PLR2004  # the largest TCP port
            raise ConfigurationError(f"{section}.http: port of {address!r} is beyond 65535")
    if not settings.route:
        raise ConfigurationError("route: at least one [[route]] is needed; leave it out for the default")
    broker = settings.broker
    if broker.transport == "websockets" and broker.driver == "mqtt5":
        raise ConfigurationError('broker.transport: "websockets" needs driver "aiomqtt" or "auto"')
    if broker.tls_key_file and not broker.tls_cert_file:
        raise ConfigurationError("broker.tls_key_file: needs broker.tls_cert_file beside it")
