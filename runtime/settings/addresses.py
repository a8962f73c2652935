"""What an address of a server may look like, looked at before any library parses it.

A library that cannot parse an address quotes it in pieces, and a piece may be half a password. Nothing of the
address is quoted here.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode

_HIGHEST_PORT: Final = 65535
_REDIS_PORT: Final = 6379
_SENTINELS_PORT: Final = 26379
_KINDS: Final[dict[str, Literal["cluster", "sentinel"]]] = {"cluster": "cluster", "sentinel": "sentinel"}
_REDIS_EXAMPLES: Final = {
    "": "redis://host:6379/0",
    "cluster": "redis+cluster://host:6379,host:6379/",
    "sentinel": "redis+sentinel://host:26379,host:26379/service/0",
}
_REDIS_SCHEMES: Final = (
    *("redis", "rediss", "unix"),
    *(f"{scheme}+{kind}" for kind in _KINDS for scheme in ("redis", "rediss")),
)
_HASH_TAG: Final = re.compile(r"[^{]*\{[^}]+\}")  # what stands in the first braces chooses the slot
_ESCAPE: Final = "write characters such as @ / : # ? of user and password as %40 %2F %3A %23 %3F"


def refuse_postgres(dsn: str) -> str | None:
    """Why this is no URL of a PostgreSQL; None when it is one."""
    example = "expected a URL such as postgresql://user@host:5432/database"
    return _refuse(dsn, ("postgresql", "postgres"), example)


class RedisUrl(NamedTuple):
    """A URL of Redis in its parts.

    Attributes:
        kind: `cluster` and `sentinel` name several servers.
        hosts: names and ports, of the server, of some nodes of the cluster, or of the sentinels.
        service: what sentinels call the servers that they watch.
        sentinels: user and password of the sentinels; empty where they ask for none.
        server: a URL of one server, the first host, with the same user, password, database and options.
    """

    kind: Literal["server", "cluster", "sentinel"]
    hosts: tuple[tuple[str, int], ...]
    service: str
    sentinels: tuple[str, str]
    server: str


def split_redis(url: str) -> RedisUrl:
    """The parts of a URL that `refuse_redis` does not refuse."""
    scheme, _, rest = url.partition("://")
    netloc, path, query = _parts(rest)
    if scheme == "unix":
        return RedisUrl("server", (), "", ("", ""), url)
    tls, _, kind = scheme.partition("+")
    userinfo, at, hosts = netloc.rpartition("@")
    port = _SENTINELS_PORT if kind == "sentinel" else _REDIS_PORT
    addresses = tuple(_host_port(each, port) for each in hosts.split(","))
    if not kind:
        return RedisUrl("server", addresses, "", ("", ""), url)
    service, _, database = path.strip("/").partition("/") if kind == "sentinel" else ("", "", "")
    options = dict(parse_qsl(query))
    sentinels = (options.pop("sentinel_username", ""), options.pop("sentinel_password", ""))
    host, port = addresses[0]
    server = f"{tls}://{userinfo}{at}{f'[{host}]' if ':' in host else host}:{port}/{database or 0}"
    if options:
        server += f"?{urlencode(options)}"
    return RedisUrl(_KINDS[kind], addresses, unquote(service), sentinels, server)


def without_user(url: str) -> str:
    """A URL that is not refused, without user and password."""
    scheme, _, rest = url.partition("://")
    netloc = _parts(rest)[0]
    return f"{scheme}://{netloc.rpartition('@')[2]}{rest.removeprefix(netloc)}"


def refuse_redis(url: str) -> str | None:
    """Why this is no URL of a Redis; None when it is one."""
    scheme = url.partition("://")[0]
    kind = scheme.partition("+")[2]
    example = _REDIS_EXAMPLES.get(kind, _REDIS_EXAMPLES[""])
    if reason := _refuse(url, _REDIS_SCHEMES, f"expected a URL such as {example}"):
        return reason
    if scheme == "unix":
        return None
    netloc, path, query = _parts(url.partition("://")[2])
    hosts = netloc.rpartition("@")[2].split(",")
    if not kind and len(hosts) > 1:
        either = f"{_REDIS_EXAMPLES['cluster']}, or of sentinels, {_REDIS_EXAMPLES['sentinel']}"
        return f"several hosts are those of a cluster, {either}"
    if kind and not all(each.partition(":")[0] for each in hosts):
        return f"a host without a name; expected a URL such as {example}"
    return _refuse_database(kind, path.strip("/"), query, example)


def refuse_prefix(url: str, prefix: str) -> str | None:
    """Why keys that begin so cannot be in the Redis of a URL; None when they can."""
    if not url.partition("://")[0].endswith("+cluster") or _HASH_TAG.match(prefix):
        return None
    return (
        "a Redis Cluster spreads keys over its nodes, and ours have to be on one: "
        'write a word in braces, such as prefix = "{edge}:"'
    )


def _refuse(url: str, schemes: tuple[str, ...], example: str) -> str | None:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in schemes:
        return f"{example}, special characters as %XX"
    return _refuse_rest(rest, example)


def _refuse_database(kind: str, path: str, query: str, example: str) -> str | None:
    """What follows the hosts."""
    database = path
    if kind == "sentinel":
        service, _, database = path.partition("/")
        if not service:
            return f"name behind the hosts what the sentinels watch, such as {example}"
    database = database or dict(parse_qsl(query)).get("db", "")
    if database and not (database.isascii() and database.isdecimal()):
        return f"expected the number of a database behind the host, such as {example}"
    if kind == "cluster" and int(database or 0):
        return f"a Redis Cluster has no database but 0; expected a URL such as {example}"
    return None


def _parts(rest: str) -> tuple[str, str, str]:
    """What follows `scheme://`: hosts with what is before them, path and query; `urlsplit` knows one host."""
    ends = min((at for mark in "/?#" if (at := rest.find(mark)) >= 0), default=len(rest))
    path, _, query = rest[ends:].partition("?")
    return rest[:ends], path, query


def _host_port(text: str, default: int) -> tuple[str, int]:
    name, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        name, port = text, str(default)
    return unquote(name).strip("[]") or "localhost", int(port)


def _refuse_rest(rest: str, example: str) -> str | None:
    """What follows `scheme://`."""
    if any(character.isspace() for character in rest):
        return f"there is white space in it; {_ESCAPE}"
    netloc, path, query = _parts(rest)
    userinfo, _, hosts = netloc.rpartition("@")
    if (
        netloc.count("@") > 1
        or userinfo.count(":") > 1
        or "@" in path
        or "#" in path + query
        or (":" in netloc and "@" in query)
    ):
        return f"{_ESCAPE}; {example}"
    for host in hosts.split(","):
        name, colon, port = host.rpartition(":")
        if not colon or host.endswith("]"):
            continue
        if not (port.isascii() and port.isdecimal() and 1 <= int(port) <= _HIGHEST_PORT):
            return f"the port has to be a number from 1 to {_HIGHEST_PORT}; {example}"
        if ":" in name and not (name.startswith("[") and name.endswith("]")):
            return f"an IPv6 address stands in brackets; {example}"
    return None
