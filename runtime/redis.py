"""Redis for every process: a client that fails fast, and what its errors mean for us.

The library's own retries are off: a caller that waits says so (`keep_trying`), and one that must not repeat a
call decides for itself.

A call that is cancelled in the very moment of its answer returns the answer and forgets the cancellation. Who
loops over calls would then never end, so the client here looks after each.

It keeps a connection between calls and sends a command itself: the library takes one from its pool and gives
it back, with what it notes of both, at as much again as the command. Nobody else has that connection
meanwhile. One whose answer was not read to its end, as a call was cancelled or took too long, is closed.

Of a cluster, or of servers that sentinels watch, the client is one of the server that has our keys at the
time (`runtime/redis_servers.py`). A call that went to the one before is sent once more.
"""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import unquote, urlsplit

import redis.asyncio
from redis import exceptions
from redis.asyncio.client import Pipeline
from redis.asyncio.connection import Connection, SSLConnection, parse_url
from redis.asyncio.retry import Retry as NoRetry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.maint_notifications import MaintNotificationsConfig

from runtime.errors import ConfigurationError, Retry
from runtime.lifecycle import raise_if_cancelled
from runtime.logs import mask
from runtime.redis_servers import Address, Found, FoundWithTls, Servers
from runtime.secret import FromFile, current
from runtime.settings.addresses import refuse_prefix, refuse_redis, split_redis

_TIMEOUT_S = 5.0
_HEALTH_CHECK_S = 15
_ROOMY = 8  # connections: where a URL allows fewer, each goes back to the pool
_SCANS = frozenset({"SCAN", "HSCAN", "ZSCAN"})
_MOVED = "a Redis Cluster has our keys on another node; redis.url follows them as redis+cluster://host:port/"
_MOVES = "the cluster is moving our keys to another node"

_RETRY = (
    exceptions.ConnectionError,  # refused, lost, still loading, wrong password
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,  # a replica, until the failover is over
    exceptions.OutOfMemoryError,
    exceptions.NoPermissionError,  # an operator may grant it
    exceptions.ClusterDownError,
    exceptions.AskError,  # and MovedError
    exceptions.TryAgainError,
    OSError,
)
# Replies that the library has no class for; the first word of a reply is its code.
_RETRY_CODES = ("NOAUTH", "WRONGPASS", "MISCONF", "BUSY", "NOREPLICAS", "LOADING", "MASTERDOWN")


class _FileCredentials(CredentialProvider):
    """User and password of a URL in a file, asked for at each connection."""

    def __init__(self, url: FromFile) -> None:
        self._url = url

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """What AUTH is sent with."""
        try:
            url = current(self._url, "redis")
        except Retry as error:
            raise exceptions.AuthenticationError(error.reason) from error
        if refuse_redis(url):
            raise exceptions.AuthenticationError(f"{self._url.source} holds no URL")
        parts = urlsplit(split_redis(url).server)
        password = unquote(parts.password or "")
        return (unquote(parts.username), password) if parts.username else (password,)


class _Client(redis.asyncio.Redis):
    """Redis, without losing a cancellation, and with a connection at hand between calls."""

    _at_hand: Connection | None = None

    async def execute_command(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401  # the library's signature
        """Send a command and return its answer, unless the task has been cancelled meanwhile."""
        connection, self._at_hand = self._at_hand, None
        if connection is None:
            connection = await self.connection_pool.get_connection()  # type: ignore[no-untyped-call]  # ships it untyped
        try:
            await self.connection_pool.ensure_connection(connection)
            await connection.send_command(*args)
            answer = await self.parse_response(connection, args[0], **options)
        finally:
            await self._put_back(connection)
        raise_if_cancelled()
        return answer

    async def _put_back(self, connection: Connection) -> None:
        is_roomy = self.connection_pool.max_connections >= _ROOMY
        if is_roomy and self._at_hand is None and not connection.should_reconnect():  # type: ignore[no-untyped-call]  # likewise
            self._at_hand = connection
        else:
            await self.connection_pool.release(connection)


class _Cursor(int):
    """Where a scan goes on, which only the server that gave it knows."""

    at: Address | None


class _Pipeline(Pipeline):
    """Sends once more what a server refused because another has the keys."""

    async def execute(self, raise_on_error: bool = True) -> list[Any]:  # noqa: FBT001, FBT002  # the library's
        """Send what has been put in, and return the answers."""
        commands, scripts = self.command_stack, self.scripts
        try:
            return await super().execute(raise_on_error)
        except exceptions.MovedError:
            self.command_stack, self.scripts = commands, scripts
            return await super().execute(raise_on_error)


class _Following(_Client):
    """A client of whichever server has our keys."""

    servers: Servers

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:  # noqa: FBT001, FBT002  # the library's
        """Commands to be sent together."""
        return _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)

    async def execute_command(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401  # likewise
        """Send a command and return its answer.

        Raises:
            ConnectionError: a scan that began on another server cannot go on.
        """
        try:
            answer = await super().execute_command(*args, **options)
        except exceptions.MovedError:
            answer = await super().execute_command(*args, **options)
        if args[0] in _SCANS:
            begun = next((each for each in args[1:3] if isinstance(each, _Cursor)), None)
            if begun and begun.at != self.servers.at:
                raise exceptions.ConnectionError("another server answers now, begin the scan again")
            cursor = _Cursor(answer[0])
            cursor.at = self.servers.at
            answer = (cursor, answer[1])
        return answer


def open_redis(url: str, prefix: str = "", *, decode: bool = False) -> redis.asyncio.Redis:
    """Make a client; it connects at its first command.

    User and password of a URL that came from a file are read anew for each connection.

    Args:
        url: of one server, of a cluster or of sentinels.
        prefix: what all keys begin with that are asked for.
        decode: whether replies are text; else they are bytes.

    Raises:
        ConfigurationError: the URL is malformed, or a cluster could not keep such keys together.
    """
    if reason := refuse_redis(url):
        raise ConfigurationError(f"redis.url: {reason}")
    if reason := refuse_prefix(url, prefix):
        raise ConfigurationError(f"redis.prefix: {reason}")
    try:
        return _open(url, prefix, decode=decode)
    except (TypeError, ValueError):
        raise ConfigurationError(
            "redis.url: expected a URL such as redis://host:6379/0, special characters as %XX, "
            "with options that the client has"
        ) from None  # the cause may quote parts of the password


def _open(url: str, prefix: str, *, decode: bool) -> redis.asyncio.Redis:
    parts = split_redis(url)
    server = urlsplit(parts.server)
    credentials: _FileCredentials | None = None
    if isinstance(url, FromFile) and server.password:
        credentials = _FileCredentials(url)
        server = server._replace(netloc=server.netloc.rpartition("@")[2])
    options: dict[str, Any] = {
        "credential_provider": credentials,
        "decode_responses": decode,
        "socket_timeout": _TIMEOUT_S,
        "socket_connect_timeout": _TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": _HEALTH_CHECK_S,
        "retry": NoRetry(NoBackoff(), 0),
        # With them on, a connection that the server has closed is lent as if it were open.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
    client: redis.asyncio.Redis
    if parts.kind == "server":
        client = _Client.from_url(server.geturl(), **options)
    else:
        options |= parse_url(server.geturl())
        servers = Servers(parts, prefix, {**options, "decode_responses": False})
        with_tls = options.pop("connection_class", None) is SSLConnection
        pool = redis.asyncio.ConnectionPool(FoundWithTls if with_tls else Found, servers=servers, **options)
        client = following = cast("_Following", _Following.from_pool(pool))
        following.servers = servers
    client.connection_pool.make_connection()  # type: ignore[no-untyped-call]  # refuses options that none has
    return client


def server_of(client: redis.asyncio.Redis) -> str:
    """Host and port of the server that has our keys, as a client of several knows it; else nothing."""
    at = client.servers.at if isinstance(client, _Following) else None
    return f"{at.host}:{at.port}" if at else ""


def as_retry(error: BaseException) -> Retry | None:
    """Translate an error of the client or the network into `Retry`, or None when trying again cannot help."""
    text = " ".join(str(error).split())
    mends = isinstance(error, _RETRY) or (
        isinstance(error, exceptions.ResponseError) and text.partition(" ")[0] in _RETRY_CODES
    )
    if isinstance(error, exceptions.AskError):
        text = f"{_MOVED if isinstance(error, exceptions.MovedError) else _MOVES}: {text}"
    return Retry("redis", mask(text) or type(error).__name__) if mends else None
