"""Series out of a PostgreSQL that does not answer: nobody waits for long, and nothing piles up."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest

from projector.history import series as series_module
from projector.history.series import History
from runtime.errors import Retry
from tests.support.roles import as_kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NINE = datetime(2026, 11, 23, 9, tzinfo=UTC)
ASKING = 20  # more than there are connections


@pytest.fixture
async def dark() -> AsyncIterator[str]:
    """The address of a server that takes connections and says nothing."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    async with await asyncio.start_server(take, "127.0.0.1") as server:
        host, port = server.sockets[0].getsockname()
        yield f"postgresql://postgres@{host}:{port}/postgres"


async def refusals(history: History) -> list[BaseException | object]:
    """What many get that ask at once."""
    asking = (
        history.series("a", "t", NINE, NINE + timedelta(hours=1), timedelta(minutes=1)) for _ in range(ASKING)
    )
    async with asyncio.timeout(5):
        return await asyncio.gather(*asking, return_exceptions=True)


async def test_a_server_that_is_dark(dark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of many that ask is refused in time, those that wait for another's connection too."""
    monkeypatch.setattr(series_module, "PATIENCE_S", 0.2)
    history = History(dark, "test")
    found = await refusals(history)
    assert [str(each) for each in found if isinstance(each, Retry)] == ["postgres: timed out"] * ASKING
    await history.aclose()


async def test_a_query_that_hangs(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same when it is the query that gets no answer; when it does again, so do those who ask."""
    history = History(as_kind(database, "projector"), "test")
    minute = timedelta(minutes=1)
    assert await history.series("a", "t", NINE, NINE + minute, minute) is None
    monkeypatch.setattr(series_module, "PATIENCE_S", 0.2)
    connection = await asyncpg.connect(database)
    async with connection.transaction():
        await connection.execute("LOCK TABLE measurements_1m IN ACCESS EXCLUSIVE MODE")
        assert [type(each) for each in await refusals(history)] == [Retry] * ASKING
        await connection.execute("INSERT INTO devices VALUES ('a', NULL, now(), now())")
    await connection.close()
    monkeypatch.undo()
    found = await history.series("a", "t", NINE, NINE + minute, minute)
    assert found is not None
    assert found.points == []
    await history.aclose()


async def test_a_device_is_known_from_its_first_row(database: str) -> None:
    """Its measurements are there before the gateway has entered it into the list of devices."""
    history = History(as_kind(database, "projector"), "test")
    minute = timedelta(minutes=1)
    connection = await asyncpg.connect(database)
    await connection.execute(
        "INSERT INTO measurements (device_id, ts, received_at, message_key, metrics)"
        " VALUES ('a', $1, $1, 'k', '{}')",
        NINE,
    )
    await connection.close()
    assert await history.series("a", "t", NINE, NINE + minute, minute) is not None
    assert await history.series("b", "t", NINE, NINE + minute, minute) is None
    await history.aclose()
