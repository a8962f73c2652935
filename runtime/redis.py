"""Redis for every process: a client that fails fast, and what its errors mean for us.

The library's own retries are off: a caller that waits says so (`keep_trying`), and one that must not repeat a
call decides for itself.

A call that is cancelled in the very moment of its answer returns the answer and forgets the cancellation. Who
loops over calls would then never end, so the client here looks after each.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

import redis.asyncio
from redis import exceptions
from redis.asyncio.retry import Retry as NoRetry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider

from runtime.errors import ConfigurationError, Retry
from runtime.lifecycle import raise_if_cancelled
from runtime.logs import mask
from runtime.secret import FromFile, current
from runtime.settings.addresses import refuse_redis

_TIMEOUT_S = 5.0
_HEALTH_CHECK_S = 15

_RETRY = (
    exceptions.ConnectionError,  # refused, lost, still loading, wrong password
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,  # a replica, until the failover is over
    exceptions.OutOfMemoryError,
    exceptions.NoPermissionError,  # an operator may grant it
    exceptions.ClusterDownError,
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
            parts = urlsplit(current(self._url, "redis"))
        except Retry as error:
            raise exceptions.AuthenticationError(error.reason) from error
        except ValueError:
            raise exceptions.AuthenticationError(f"{self._url.source} holds no URL") from None
        password = unquote(parts.password or "")
        return (unquote(parts.username), password) if parts.username else (password,)


class _Client(redis.asyncio.Redis):
    """Redis, without losing a cancellation."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401  # the library's signature
        """Send a command and return its answer, unless the task has been cancelled meanwhile."""
        answer = await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # ships it untyped
        raise_if_cancelled()
        return answer


def open_redis(url: str) -> redis.asyncio.Redis:
    """Make a client; it connects at its first command. Replies are bytes.

    User and password of a URL that came from a file are read anew for each connection.

    Raises:
        ConfigurationError: the URL is malformed.
    """
    if reason := refuse_redis(url):
        raise ConfigurationError(f"redis.url: {reason}")
    try:
        parts = urlsplit(url)
        credentials: _FileCredentials | None = None
        if isinstance(url, FromFile) and parts.password:
            credentials = _FileCredentials(url)
            url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        return _Client.from_url(
            url,
            credential_provider=credentials,
            decode_responses=False,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            socket_keepalive=True,
            health_check_interval=_HEALTH_CHECK_S,
            retry=NoRetry(NoBackoff(), 0),
        )
    except ValueError:
        raise ConfigurationError(
            "redis.url: expected a URL such as redis://host:6379/0, special characters as %XX"
        ) from None  # the cause may quote parts of the password


def as_retry(error: BaseException) -> Retry | None:
    """Translate an error of the client or the network into `Retry`, or None when trying again cannot help."""
    text = " ".join(str(error).split())
    mends = isinstance(error, _RETRY) or (
        isinstance(error, exceptions.ResponseError) and text.partition(" ")[0] in _RETRY_CODES
    )
    return Retry("redis", mask(text) or type(error).__name__) if mends else None
