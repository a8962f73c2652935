"""What an address of a server may look like, looked at before any library parses it.

A library that cannot parse an address quotes it in pieces, and a piece may be half a password. Nothing of the
address is quoted here.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

_HIGHEST_PORT: Final = 65535
_ESCAPE: Final = "write characters such as @ / : # ? of user and password as %40 %2F %3A %23 %3F"


def refuse_postgres(dsn: str) -> str | None:
    """Why this is no URL of a PostgreSQL; None when it is one."""
    example = "expected a URL such as postgresql://user@host:5432/database"
    return _refuse(dsn, ("postgresql", "postgres"), example)


def refuse_redis(url: str) -> str | None:
    """Why this is no URL of a Redis; None when it is one."""
    reason = _refuse(url, ("redis", "rediss", "unix"), "expected a URL such as redis://host:6379/0")
    if reason is None and not url.startswith("unix:"):
        database = urlsplit(url).path.strip("/")
        if database and not database.isdecimal():
            return "expected the number of a database behind the host, such as redis://host:6379/0"
    return reason


def _refuse(url: str, schemes: tuple[str, ...], example: str) -> str | None:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in schemes:
        return f"{example}, special characters as %XX"
    return _refuse_rest(rest, example)


def _refuse_rest(rest: str, example: str) -> str | None:
    """What follows `scheme://`."""
    if any(character.isspace() for character in rest):
        return f"there is white space in it; {_ESCAPE}"
    ends = min((at for mark in "/?#" if (at := rest.find(mark)) >= 0), default=len(rest))
    netloc, behind = rest[:ends], rest[ends:]
    path = behind.partition("?")[0]
    userinfo, _, hosts = netloc.rpartition("@")
    if (
        netloc.count("@") > 1
        or userinfo.count(":") > 1
        or "@" in path
        or "#" in behind
        or (":" in netloc and "@" in behind)
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
