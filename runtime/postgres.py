"""PostgreSQL for every process: pools, named queries, and what an error of the server means for us.

Three kinds of error, told apart by SQLSTATE class and never by the message, which is localised:
what may mend itself or be mended by an operator (`as_retry`), what one row of the data caused
(`is_data_error`), and the rest, which is a fault of this program or of the schema and ends the process rather
than sending good messages to the dead letters.
"""

from __future__ import annotations

import contextlib
import os
import re
import ssl
from importlib import resources
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from urllib.parse import parse_qs, urlsplit

import asyncpg

from runtime.errors import ConfigurationError, Retry, Stop
from runtime.lifecycle import keep_trying
from runtime.logs import mask
from runtime.secret import current
from runtime.settings.addresses import refuse_postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
    from importlib.resources.abc import Traversable

    from asyncpg.pool import PoolConnectionProxy

    from runtime.http import Health

_CONNECT_TIMEOUT_S = 10.0
_COMMAND_TIMEOUT_S = 30.0
_RELEASE_TIMEOUT_S = 2.0

T = TypeVar("T")

Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"
"""A connection that a pool lent out."""

# Everything that a call of asyncpg raises.
ERRORS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

# SQLSTATE classes and codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
_RETRY = (
    "08",  # connection exceptions
    "28",  # wrong user or password: an operator may mend it
    "3D000",  # the database is not there yet
    "25006",  # read-only: a standby, until the failover is over
    "25P03",  # idle in transaction for too long
    "25P04",  # the transaction took too long
    "40",  # deadlock, serialization failure
    "42501",  # a right is missing: an operator may grant it
    "53",  # out of connections, memory or disk
    "55006",  # an object is in use
    "55P03",  # a lock was not to be had in time
    "57",  # shutting down, starting up, cancelled
    "58",  # the server's own I/O
)
_GONE = ("closed", "closing", "released back to the pool")
_DATA = (
    "21",  # cardinality
    "22",  # a value is out of range, malformed or not representable
    "23",  # a constraint refuses the row
    "54",  # too large for an index or a row
)

# The server ends a session whose peer vanished within about a minute, and with it the locks the session
# holds. Its days have 24 hours, wherever the server is; and whatever the database's own default is, a
# statement sees what was committed before it: who waited for a lock must see what was done under it.
_SERVER_SETTINGS = {
    "TimeZone": "UTC",
    "default_transaction_isolation": "read committed",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "60000",
}


async def open_pool(
    dsn: str,
    *,
    name: str,
    max_size: int = 4,
    settings: Mapping[str, str] | None = None,
    unlimited: bool = False,
) -> asyncpg.Pool[asyncpg.Record]:
    """Open a pool with one connection made, so that whoever gets it knows that the server answers.

    Behind PgBouncer see docs/operating.md.

    Args:
        dsn: connection URL; one that came from a file is read anew for each connection.
        name: `application_name`, which `pg_stat_activity` shows.
        max_size: most connections open at once.
        settings: server settings of each connection, over those that every process uses.
        unlimited: whether a command may take longer than 30 seconds.

    Raises:
        Retry: the server is away, refuses us or is not ready; anything that can change without this process.
        ConfigurationError: the URL is malformed or asks for something impossible.
    """
    if reason := refuse_postgres(dsn):
        raise ConfigurationError(f"postgres.dsn: {reason}")
    try:
        pool = await asyncpg.create_pool(
            dsn,
            connect=_connect,
            min_size=0,  # with a floor asyncpg reconnects by itself while the server is away, and logs it
            max_size=max_size,
            timeout=_CONNECT_TIMEOUT_S,
            command_timeout=None if unlimited else _COMMAND_TIMEOUT_S,
            reset=_keep_as_it_is,
            server_settings={**_SERVER_SETTINGS, "application_name": name, **(settings or {})},
        )
        await pool.release(await pool.acquire())
    except ERRORS as error:
        if isinstance(error, ValueError) and not isinstance(error, OSError):
            raise _malformed(error) from None  # asyncpg refuses an option
        retry = as_retry(error)
        if retry is None:
            raise Stop(f"postgres: {_one_line(error)}") from error
        raise Retry("postgres", f"{address(dsn)}: {retry.reason}") from error
    except ValueError as error:
        raise _malformed(error) from None  # the cause may quote parts of the password
    return pool


async def connect(dsn: str, *, name: str) -> asyncpg.Connection[asyncpg.Record]:
    """Open a connection beside any pool, under the same rules.

    Raises:
        Retry: the file that the URL comes from cannot be used.
        OSError, asyncpg.PostgresError: as `retryable` takes them.
    """
    return await _connect(
        dsn,
        timeout=_CONNECT_TIMEOUT_S,
        command_timeout=_COMMAND_TIMEOUT_S,
        server_settings={**_SERVER_SETTINGS, "application_name": name},
    )


async def _connect(dsn: str | None = None, **options: Any) -> asyncpg.Connection[asyncpg.Record]:  # noqa: ANN401  # asyncpg's
    """Make a connection by what the URL's file holds now, if it came from one."""
    now = current(dsn or "", "postgres")
    if now != dsn and (reason := refuse_postgres(now)):  # the file has been changed to this
        raise Retry("postgres", f"postgres.dsn_file: {reason}")
    try:
        return await asyncpg.connect(now, **options)
    except OSError:
        raise  # a certificate that does not verify is a ValueError too
    except ValueError as error:
        if now == dsn:
            raise
        raise Retry("postgres", str(_malformed(error))) from None  # the file has been changed to this


@contextlib.asynccontextmanager
async def lent(pool: asyncpg.Pool[asyncpg.Record]) -> AsyncIterator[Connection]:
    """Borrow a connection whose way back cannot fail.

    A connection that dies after COMMIT was answered must not make the committed look failed.
    """
    connection = await pool.acquire()
    try:
        yield connection
    finally:
        with contextlib.suppress(*ERRORS):
            await pool.release(connection, timeout=_RELEASE_TIMEOUT_S)


def as_retry(error: BaseException) -> Retry | None:
    """Translate an error of asyncpg or of the network into `Retry`, or None when trying again cannot help."""
    if isinstance(error, asyncpg.PostgresError):
        mends = (error.sqlstate or "").startswith(_RETRY)
    elif isinstance(error, asyncpg.InterfaceError):
        # The library's own refusals have no code; those of a connection or pool that is gone all say so.
        mends = any(word in str(error) for word in _GONE)
    else:
        # An internal error is a connection whose state the client lost track of; a new one has none.
        mends = isinstance(
            error, (OSError, asyncpg.InternalClientError, asyncpg.TargetServerAttributeNotMatched)
        )
    return Retry("postgres", _one_line(error)) if mends else None


def is_data_error(error: BaseException) -> bool:
    """Whether one row of the statement's data caused the error: without that row the statement succeeds."""
    return isinstance(error, asyncpg.PostgresError) and (error.sqlstate or "").startswith(_DATA)


def address(dsn: str) -> str:
    """The host and port of a connection URL, for messages: nothing of user, password or options."""
    try:
        parts = urlsplit(dsn)
        host = parts.netloc.rpartition("@")[2] or parse_qs(parts.query).get("host", [""])[0]
    except ValueError:
        host = ""
    return host or "the default socket"


@contextlib.contextmanager
def retryable() -> Iterator[None]:
    """Turn errors of the database inside the block into `Retry` where trying again can help; others pass.

    Raises:
        Retry: instead of an error that may mend itself.
        Stop: instead of one that only a pooler makes that gives each statement another session.
    """
    try:
        yield
    except (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError) as error:
        raise Stop(
            "postgres.dsn leads to a pooler that gives each transaction another session; locks and prepared "
            "statements need their own: set pool_mode = session there"
        ) from error
    except ERRORS as error:
        if retry := as_retry(error):
            raise retry from error
        raise


async def keep_asking(ask: Callable[[], Awaitable[T]], health: Health) -> T:
    """Ask PostgreSQL for as long as it is away; any error that waiting does not mend leaves at once."""

    async def attempt() -> T:
        with retryable():
            return await ask()

    return await keep_trying("postgres", attempt, health)


class Queries:
    """SQL statements by name, as attributes."""

    def __init__(self, statements: dict[str, str], source: str) -> None:
        self._statements = statements
        self._source = source

    def __getattr__(self, name: str) -> str:
        try:
            return self._statements[name]
        except KeyError:
            known = ", ".join(sorted(self._statements))
            raise AttributeError(f"no query {name!r} in {self._source}; it has {known}") from None

    def __dir__(self) -> list[str]:
        return sorted(self._statements)


def ending(pid: int) -> str:
    """What somebody types to end a session, for messages that advise it."""
    return f"SELECT pg_terminate_backend({pid});"


def load_queries(package: str, folder: str = "sql") -> Queries:
    """Read every `*.sql` file of a package's folder.

    A query starts with a line `-- name: snake_case_name`, followed by at least one comment line on why it is
    there. Whatever stands before the first name is about the file. The name stays in front of the statement
    as a comment, so that `pg_stat_activity` tells which one runs.

    Raises:
        ValueError: a query has no description or no statement, or a name comes twice; it names file and
            query.
    """
    source = resources.files(package) / folder
    statements: dict[str, str] = {}
    for file in sorted(
        (file for file in source.iterdir() if file.name.endswith(".sql")), key=lambda f: f.name
    ):
        for name, statement in _parse(file):
            if name in statements:
                raise ValueError(f"{package}/{folder}/{file.name}: query {name} is there already")
            statements[name] = statement
    return Queries(statements, f"{package}/{folder}")


def _parse(file: Traversable) -> list[tuple[str, str]]:
    found = []
    for part in re.split(r"^-- name:", file.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        first, _, rest = part.partition("\n")
        name = first.strip()
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise ValueError(f"{file.name}: {name!r} is no snake_case name of a query")
        described = re.match(r"(?:--[^\n]*\S[^\n]*\n)+", rest)
        if not described or not re.match(r"--\s*\w", rest):
            raise ValueError(f"{file.name}: query {name} needs a comment line after its name that says why")
        statement = rest[described.end() :].strip().removesuffix(";")
        if not statement:
            raise ValueError(f"{file.name}: query {name} has no statement")
        found.append((name, f"-- {name}\n{statement}"))
    return found


async def _keep_as_it_is(connection: object) -> None:
    """Nothing in this house leaves state in a session, so returning a connection costs no round trip."""


def _malformed(error: ValueError) -> ConfigurationError:
    advice = "expected a URL such as postgresql://user@host:5432/database, special characters as %XX"
    known = isinstance(error, asyncpg.ClientConfigurationError) and not str(error).startswith("invalid DSN")
    return ConfigurationError(f"postgres.dsn: {_one_line(error) if known else advice}")


def _one_line(error: Any) -> str:  # noqa: ANN401  # exceptions of several families
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is refused: {error.verify_message}"
    if isinstance(error, FileNotFoundError) and error.filename is None:
        return "a certificate file of postgres.dsn (sslrootcert, sslcert, sslkey) is not there"
    if isinstance(error, ConnectionError) and error.errno:
        return os.strerror(error.errno)
    text = str(error.args[0]) if isinstance(error, asyncpg.PostgresError) and error.args else str(error)
    return mask(" ".join(text.split()) or type(error).__name__)
