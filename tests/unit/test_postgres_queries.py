from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import asyncpg
import pytest

from runtime.errors import Retry
from runtime.postgres import address, as_retry, is_data_error, load_queries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unique: str) -> Iterator[Callable[..., str]]:
    """Makes an importable package whose `sql` folder holds the files given, and returns its name."""

    def make(**files: str) -> str:
        folder = tmp_path / unique / "sql"
        folder.mkdir(parents=True)
        (folder.parent / "__init__.py").touch()
        (folder / "README.md").write_text("-- name: not_sql", encoding="utf-8")
        for name, text in files.items():
            (folder / f"{name}.sql").write_text(text, encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        return unique

    yield make
    sys.modules.pop(unique, None)


def test_queries_by_name(package: Callable[..., str]) -> None:
    """Each named query of each file is an attribute: name and statement, without the description."""
    queries = load_queries(
        package(
            a="-- What the file is about.\n\n-- name: one\n-- Why it is there,\n-- at length.\nSELECT 1;\n\n"
            "-- name: two\n-- Why.\nSELECT\n    -- a reason\n    2\n",
            b="-- name: three_3\n-- Why.\nSELECT 3;",
        )
    )
    assert queries.one == "-- one\nSELECT 1"
    assert queries.two == "-- two\nSELECT\n    -- a reason\n    2"
    assert queries.three_3 == "-- three_3\nSELECT 3"
    assert dir(queries) == ["one", "three_3", "two"]


def test_an_unknown_query_names_those_that_there_are(package: Callable[..., str]) -> None:
    """A misspelt query is an AttributeError that helps."""
    queries = load_queries(package(a="-- name: one\n-- Why.\nSELECT 1"))
    with pytest.raises(AttributeError, match=r"no query 'won' in .*/sql; it has one"):
        _ = queries.won


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-- name: one\nSELECT 1", "query one needs a comment line after its name that says why"),
        ("-- name: one\n\n-- Why.\nSELECT 1", "query one needs a comment line after its name that says why"),
        ("-- name: one\n--\nSELECT 1", "query one needs a comment line after its name that says why"),
        ("-- name: one\n-- Why.\n", "query one has no statement"),
        ("-- name: one\n-- Why.\n;\n", "query one has no statement"),
        ("-- name: One More\n-- Why.\nSELECT 1", "'One More' is no snake_case name of a query"),
        ("-- name: one\n-- Why.\nSELECT 1;\n-- name: one\n-- Why.\nSELECT 2", "query one is there already"),
    ],
)
def test_a_query_that_breaks_the_house_rule_is_refused(
    package: Callable[..., str], text: str, message: str
) -> None:
    """A query without its name, its reason or its statement does not load; the message says where."""
    with pytest.raises(ValueError, match=r"a\.sql") as caught:
        load_queries(package(a=text))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 5432)"), "Connection refused"),
        (ConnectionResetError(), "ConnectionResetError"),
        (TimeoutError(), "timed out"),
        (OSError("Multiple exceptions: a,\n b"), "Multiple exceptions: a, b"),
        (
            asyncpg.CannotConnectNowError("the database system is starting up"),
            "the database system is starting up",
        ),
        (asyncpg.TooManyConnectionsError("too many clients"), "too many clients"),
        (asyncpg.AdminShutdownError("terminating connection"), "terminating connection"),
        (asyncpg.DeadlockDetectedError("deadlock detected"), "deadlock detected"),
        (asyncpg.DiskFullError("no space left"), "no space left"),
        (asyncpg.ReadOnlySQLTransactionError("cannot execute INSERT"), "cannot execute INSERT"),
        (asyncpg.InterfaceError("connection is closed"), "connection is closed"),
        (asyncpg.InterfaceError("pool is closing"), "pool is closing"),
        (asyncpg.ConnectionDoesNotExistError("connection was closed"), "connection was closed"),
    ],
)
def test_what_may_mend_itself_is_a_retry(error: Exception, reason: str) -> None:
    """Whatever can change without this process is waited for, with one line that says what it is."""
    retry = as_retry(error)
    assert isinstance(retry, Retry)
    assert (retry.what, retry.reason) == ("postgres", reason)
    assert not is_data_error(error)


@pytest.mark.parametrize(
    ("error", "data"),
    [
        (asyncpg.NumericValueOutOfRangeError("x"), True),
        (asyncpg.CharacterNotInRepertoireError("x"), True),
        (asyncpg.NotNullViolationError("x"), True),
        (asyncpg.ProgramLimitExceededError("x"), True),
        (asyncpg.DataError("invalid input for query argument $1"), True),
        (asyncpg.UndefinedTableError("x"), False),
        (asyncpg.PostgresSyntaxError("x"), False),
        (asyncpg.DataCorruptedError("x"), False),
        (asyncpg.InterfaceError("another operation is in progress"), False),
        (ValueError("x"), False),
    ],
)
def test_what_no_retry_mends(error: Exception, *, data: bool) -> None:
    """Only what a row's data caused may send that row to the dead letters; the rest is a fault of ours."""
    assert as_retry(error) is None
    assert is_data_error(error) is data


@pytest.mark.parametrize(
    ("dsn", "where"),
    [
        ("postgresql://me:hunter2@db.example:5432/edge?sslmode=require", "db.example:5432"),
        ("postgresql://db.example/edge", "db.example"),
        ("postgresql://me:p@ss@a:1,b:2/edge", "a:1,b:2"),
        ("postgresql:///edge?host=/run/postgresql", "/run/postgresql"),
        ("postgresql:///edge", "the default socket"),
        ("postgresql://[::1", "the default socket"),
    ],
)
def test_address(dsn: str, where: str) -> None:
    """Messages name host and port and never the password."""
    assert address(dsn) == where
