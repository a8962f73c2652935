"""Trying Redis: reachable, new enough, ours to write and to script, and keeping what it has."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from redis.exceptions import AuthenticationError, MovedError, RedisError, ResponseError

from gateway.check.report import Finding
from runtime.redis import as_retry, open_redis, server_of
from runtime.settings.addresses import split_redis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    import redis.asyncio

    from gateway.check.report import State
    from runtime.settings import Redis
    from runtime.settings.addresses import RedisUrl

_OLDEST = (6, 2)
_PROBE_EXPIRES_S = 10
_CLUSTER: Final = "redis+cluster://host:6379,host:6379/"
_SENTINELS: Final = "redis+sentinel://host:26379,host:26379/service/0"
_OTHERS: Final[Mapping[str, tuple[State, str, str]]] = {
    "cluster": ("warn", "a node of a Redis Cluster, and lost when our keys go to another", _CLUSTER),
    "sentinel": ("fail", "a sentinel", _SENTINELS),
}


async def check_redis(section: Redis) -> AsyncIterator[Finding]:
    """Try Redis. The gateway does not need it, the projector beside it does.

    Raises:
        ConfigurationError: the URL is malformed.
    """
    async with open_redis(section.url, section.prefix) as client:
        try:
            info = await client.info()
            yield _server(info, split_redis(section.url), server_of(client))
            if info.get("redis_mode") == "sentinel":
                return
            yield await _try_write(client, section.prefix)
            yield _eviction(info)
            yield _persistence(info)
        except (RedisError, OSError) as error:
            refused = isinstance(error, AuthenticationError) or isinstance(
                error.__cause__, AuthenticationError
            )
            if refused and not urlsplit(split_redis(section.url).server).password:
                yield _nobody(section.url)
                return
            retry = as_retry(error)
            reason = retry.reason if retry else " ".join(str(error).split())
            yield Finding("redis", "fail", reason, "check redis.url, and that the server runs and lets us in")


def _nobody(url: str) -> Finding:
    hosts = ", ".join(f"{host}:{port}" for host, port in split_redis(url).hosts)
    return Finding(
        "redis",
        "warn",
        f"{hosts} lets in whom it knows, and redis.url names nobody",
        "nothing, if the projector has a user of its own there (projector.env): the gateway needs none",
    )


def _server(info: Mapping[str, object], url: RedisUrl, at: str) -> Finding:
    version = str(info.get("redis_version", "unknown"))
    found = f"version {version}"
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers < _OLDEST:
        return Finding("redis", "fail", found, "version 6.2 or later is needed")
    if url.kind == "server" and (other := _OTHERS.get(str(info.get("redis_mode")))):
        state, what, better = other
        return Finding("redis", state, f"{found}, {what}", f"write redis.url as {better}")
    if info.get("role") != "master":
        return Finding("redis", "fail", f"{found}, a replica", "point redis.url at the primary server")
    if at and not info.get("connected_slaves"):
        return Finding("redis", "warn", f"{found}, {at} without a replica", "add one to take over from it")
    return Finding("redis", "ok", f"{found}, {at}" if at else found)


async def _try_write(client: redis.asyncio.Redis, prefix: str) -> Finding:
    key = f"{prefix}gateway:check:{secrets.token_hex(4)}"
    try:
        await client.set(key, b"1", ex=_PROBE_EXPIRES_S)
        await client.delete(key)
        await client.eval("return 1", 0)
    except MovedError as error:
        return Finding("redis writes", "fail", f"MOVED {error}", f"write redis.url as {_CLUSTER}")
    except ResponseError as error:
        return Finding(
            "redis writes",
            "fail",
            " ".join(str(error).split()),
            f"let this user write keys {prefix}* and run scripts (EVALSHA, SCRIPT)",
        )
    return Finding("redis writes", "ok", "keys can be written and scripts run")


def _eviction(info: Mapping[str, object]) -> Finding:
    policy = str(info.get("maxmemory_policy", "unknown"))
    if policy in {"noeviction", "unknown"}:
        return Finding("redis eviction", "ok", policy)
    return Finding(
        "redis eviction",
        "fail",
        f"{policy}: statistics can vanish one by one; the projector is not ready while they can",
        "set maxmemory-policy noeviction",
    )


def _persistence(info: Mapping[str, object]) -> Finding:
    if info.get("aof_enabled"):
        return Finding("redis persistence", "ok", "append-only file on")
    return Finding(
        "redis persistence",
        "warn",
        "append-only file off: after a crash the projector applies the outbox again, or rebuilds",
        "set appendonly yes",
    )
