"""What was asked of a site, checked. The site's folder keeps it, so that all can be made again of it."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

import msgspec

from gateway.decode.templates import compile_template
from gateway.sparkplug.topics import NAMESPACE
from gateway.subscriptions import overlap
from runtime.errors import ConfigurationError
from runtime.settings import Projector, Route
from runtime.settings.addresses import refuse_postgres, refuse_redis, split_redis

if TYPE_CHECKING:
    from collections.abc import Callable

_LABEL: Final = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
_LONGEST_HOST: Final = 253
_HTTP: Final = re.compile(r"([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\]):[0-9]{1,5}")
_DATABASE: Final = re.compile(r"[a-z_][a-z0-9_]{0,39}")
_HIGHEST_PORT: Final = 65535
_HERE: Final = frozenset({"127.0.0.1", "localhost", "::1"})


class Answers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a site is like.

    Attributes:
        hosts: names and addresses under which devices reach the broker.
        broker_here: whether the broker runs on the machine of the gateway.
        bind: address on which it listens for devices; empty for all.
        port: of the broker, for devices; `inner_port` for gateway and projector.
        postgres: URL without a user.
        psql: how an administrator of PostgreSQL calls psql.
        redis: URL without a user, of a server, a cluster or sentinels.
        topics: templates of the topics on which devices publish.
        events: the internal topic.
        http: where the projector listens; one that others reach has tokens and TLS.
        sparkplug: this host application's name; empty without Sparkplug B.
        given: whether the broker's certificate is somebody else's.
        given_ca: whether clients need the certificate of its authority.
    """

    hosts: tuple[str, ...]
    broker_here: bool = True
    bind: str = ""
    port: int = 8883
    inner_port: int = 8884
    postgres: str = "postgresql://127.0.0.1:5432/edge"
    psql: str = "sudo -u postgres psql"
    redis: str = "redis://127.0.0.1:6379/0"
    topics: tuple[str, ...] = (Route().topic,)
    events: str = "gateway/events/v1"
    http: str = Projector().http
    sparkplug: str = ""
    given: bool = False
    given_ca: bool = False

    @property
    def database(self) -> str:
        """The name of the database, with which those of its roles begin."""
        return urlsplit(self.postgres).path[1:]

    @property
    def on_loopback(self) -> bool:
        """Whether gateway and projector reach the broker at 127.0.0.1, for which its certificate then is."""
        return self.broker_here and not self.given

    @property
    def broker_host(self) -> str:
        """Where gateway and projector reach the broker."""
        return "127.0.0.1" if self.on_loopback else self.hosts[0]

    @property
    def redis_here(self) -> bool:
        """Whether Redis runs on the machine of the projector."""
        url = split_redis(self.redis)
        return url.kind == "server" and urlsplit(url.server).hostname in {"127.0.0.1", "localhost", "::1"}

    @property
    def redis_prefix(self) -> str:
        """What keys begin with; in a cluster it keeps them on one node."""
        return "{edge}:" if split_redis(self.redis).kind == "cluster" else ""

    @property
    def is_open(self) -> bool:
        """Whether other machines reach the projector."""
        return not Projector(http=self.http).is_local

    @property
    def names(self) -> tuple[str, ...]:
        """What the broker's certificate is for."""
        return tuple(dict.fromkeys((*self.hosts, "localhost", "127.0.0.1", "::1")))

    @property
    def below(self) -> list[str]:
        """What each device may publish on: topic filters with `%u` for its name."""
        return [_below(topic) for topic in self.topics]


def check(answers: Answers) -> None:
    """Refuse answers that cannot be.

    Raises:
        ConfigurationError: with the option and what would be right.
    """
    if not answers.hosts:
        raise ConfigurationError("--host: under which name or address do devices reach the broker?")
    for host in answers.hosts:
        _check_host(host)
    if answers.bind:
        _check_host(answers.bind, "--bind")
    _check_ports(answers)
    _check_url("--postgres", answers.postgres, refuse_postgres)
    _check_url("--redis", answers.redis, refuse_redis)
    if not _DATABASE.fullmatch(answers.database):
        raise ConfigurationError(
            "--postgres: name the database behind the host, of small letters, digits and _, such as "
            "postgresql://127.0.0.1:5432/edge"
        )
    for option, name, never in (
        ("--events-topic", answers.events, "+#"),
        ("--sparkplug", answers.sparkplug, "+#/ "),
    ):
        if (
            any(sign in never for sign in name)
            or not (name or option == "--sparkplug")
            or not name.isprintable()
        ):
            raise ConfigurationError(f"{option}: {name!r} cannot be one: none of {never!r} may be in it")
    _check_topics(answers)


def in_the_clear(answers: Answers) -> list[str]:
    """What others can read on its way to another machine, each with what would mend it."""
    found = []
    for option, url, mend in (
        ("--postgres", urlsplit(answers.postgres), "add ?sslmode=verify-full&sslrootcert=FILE"),
        ("--redis", urlsplit(answers.redis), "make it rediss://"),
    ):
        modes = parse_qs(url.query).get("sslmode", [])
        if (
            url.hostname
            and url.hostname not in _HERE
            and not url.scheme.startswith("rediss")
            and not set(modes) & {"require", "verify-ca", "verify-full"}
        ):
            found.append(f"{option}: {url.hostname} is on another machine, and TLS is not asked for; {mend}")
    return found


def _check_ports(answers: Answers) -> None:
    for option, port in (("--port", answers.port), ("--inner-port", answers.inner_port)):
        if not 1 <= port <= _HIGHEST_PORT:
            raise ConfigurationError(f"{option}: expected a port from 1 to {_HIGHEST_PORT}")
    if answers.port == answers.inner_port:
        raise ConfigurationError("--inner-port: the same as --port; devices have one of their own")
    if not _HTTP.fullmatch(answers.http) or int(answers.http.rpartition(":")[2]) > _HIGHEST_PORT:
        raise ConfigurationError('--http: expected an address such as "127.0.0.1:9102" or "[::]:9102"')


def _check_url(option: str, url: str, refuse: Callable[[str], str | None]) -> None:
    if reason := refuse(url):
        raise ConfigurationError(f"{option}: {reason}")
    if "@" in url:
        raise ConfigurationError(f"{option}: without a user; each program gets one of its own")


def _check_topics(answers: Answers) -> None:
    internal = f"{answers.events}/#"
    for below in answers.below:
        if overlap(below.replace("%u", "+"), internal):
            raise ConfigurationError(f"--topic: a device could publish on the internal topic, {internal}")


def _check_host(host: str, option: str = "--host") -> None:
    try:
        ipaddress.ip_address(host.replace("%", " "))  # a zone is one machine's, and in no certificate
    except ValueError:
        labels = host.split(".")
        numeric = labels[-1].isdecimal()
        if numeric or len(host) > _LONGEST_HOST or not all(map(_LABEL.fullmatch, labels)):
            raise ConfigurationError(
                f'{option}: {host!r} is neither an address nor a name such as "broker.example"'
            ) from None


def _below(topic: str) -> str:
    """What a device may publish on: everything that begins as a template does, up to its own name.

    Raises:
        ConfigurationError: the template does not say where the name stands, in a level of its own.
    """
    compile_template(topic, "--topic")
    levels = topic.split("/")[2 if topic.startswith("$share/") else 0 :]
    if "{device_id}" not in levels:
        raise ConfigurationError(
            f"--topic: {topic!r} has no level {{device_id}}, by which the broker tells whose it is"
        )
    before = levels[: levels.index("{device_id}")]
    if any("..." in level for level in before):
        raise ConfigurationError(f"--topic: {topic!r} has several levels before {{device_id}}, of any number")
    fixed = ["+" if "{" in level or level == "+" else level for level in before]
    return "/".join([*fixed, "%u", "#"])


def sparkplug_below() -> list[str]:
    """What an edge node may publish on: its own births, data and deaths, and those of its devices."""
    return [f"{NAMESPACE}/+/+/%u", f"{NAMESPACE}/+/+/%u/+"]
