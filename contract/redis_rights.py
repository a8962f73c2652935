"""What each user of Redis may do, and nothing else: the one list that is granted and tested. Pure.

Who reads has the keys and no command that changes one, also in a script; `%R~` would keep scripts from keys
that they name, and Redis 6 from starting. `SCAN` tells names of other keys of that database, and nothing of
what is in them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class RedisRights(NamedTuple):
    """Of one user.

    Attributes:
        keys: patterns of those that it may use.
        commands: such as `hget`.
    """

    keys: tuple[str, ...]
    commands: tuple[str, ...]

    def rules(self, prefix: str = "") -> str:
        """As a users' file has them, without name and password; `prefix` is `redis.prefix`."""
        commands = [f"+{each}" for each in self.commands]
        return " ".join(
            ["resetchannels", "-@all", *commands, *(f"~{_literal(prefix)}{key}" for key in self.keys)]
        )


_ANYBODY: Final = ("ping", "select", "hello", "cluster|slots")
_READING: Final = (
    *("exists", "get", "info", "scan", "type"),
    *("hexists", "hget", "hgetall", "hkeys", "hlen", "hmget", "hscan", "hvals"),
    *("lindex", "llen", "lrange", "zcard", "zcount", "zmscore", "zrange", "zscan", "zscore"),
    *("eval", "evalsha", "script|load", "script|exists", "multi", "exec"),
)
_WRITING: Final = (
    *("set", "unlink", "del", "expire", "rename", "hset", "hsetnx", "hdel", "hincrby"),
    *("lpop", "ltrim", "rpush", "zadd", "zrem"),
)
_VIEWS: Final = ("device:*", "region:*", "devices:*", "projector:*")

REDIS_USERS: Final[Mapping[str, RedisRights]] = {
    "projector": RedisRights((*_VIEWS, "gateway:check:*"), (*_ANYBODY, *_READING, *_WRITING)),
    "api": RedisRights(_VIEWS, (*_ANYBODY, *_READING)),
    "grafana": RedisRights(
        ("device:stats:*", "region:stats:*", "devices:last_seen", "devices:clock_ahead"),
        (*_ANYBODY, "hget", "hgetall", "zrange", "zcard", "zcount"),
    ),
}
"""`api` is for whoever reads the views: the query API and page, `projector top`, and programs of the site.

It runs scripts, because a page of devices is read at one instant; in a script it may do no more than outside,
and writes nothing. But a script may run on and on, and Redis answers nobody meanwhile until `SCRIPT KILL`:
who reads single keys alone takes a user with the commands of `grafana`.
"""


def _literal(text: str) -> str:
    """A text as a part of a pattern that means itself."""
    return "".join(f"\\{sign}" if sign in "*?[]\\" else sign for sign in text)
