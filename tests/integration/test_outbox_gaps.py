"""History and the watch behind the topic: they read what is missing, and what comes meanwhile follows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import pytest
from prometheus_client import CollectorRegistry

from contract.events import Event, format_time
from projector.history.audit import Auditor
from projector.history.recorder import Recorder
from projector.history.store import Store
from projector.meters import Meters
from projector.outbox import Outbox
from projector.watch.rows import Rows
from runtime.http import Health
from tests.support.committed import Committed
from tests.support.roles import open_pools

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

    import asyncpg

    from contract.events import EventBatch
    from projector.outbox import Page

NINE = datetime(2026, 11, 23, 9, tzinfo=UTC)


class Hearer(NamedTuple):
    """Whoever hears rows: what takes them, what reads those that did not come, and what was heard."""

    take: Callable[[Sequence[EventBatch]], None]
    catch_up: Callable[[], Awaitable[None]]
    heard: Callable[[], Awaitable[int]]


@pytest.fixture
async def written(database: str) -> AsyncIterator[Committed]:
    """A database to commit into."""
    async with open_pools(database) as pools:
        yield Committed(pools)


def history(pool: asyncpg.Pool[asyncpg.Record]) -> Hearer:
    """History, written at each turn."""

    async def nobody(_means: object) -> None:
        pass

    recorder = Recorder(
        Store(pool),
        Outbox(pool, "history"),
        auditor=Auditor(pool),
        shown=nobody,
        health=Health(),
        meters=Meters(CollectorRegistry()),
        now=lambda: NINE,
    )

    async def heard() -> int:
        await recorder.turn(flush=True)
        return int(await pool.fetchval("SELECT coalesce(sum(count), 0) FROM measurements_1m"))

    return Hearer(recorder.take, recorder.turn, heard)


def watch(pool: asyncpg.Pool[asyncpg.Record]) -> Hearer:
    """The watch."""
    events: list[Event] = []

    def hear(_stream: int, _at: int, more: Iterable[Event]) -> None:
        events.extend(more)

    rows = Rows(Outbox(pool, "watch"), hear=hear, begin_anew=lambda _: None, expect=lambda _, __: None)

    async def heard() -> int:
        return len(events)

    return Hearer(rows.take, rows.catch_up, heard)


async def commit(written: Committed) -> EventBatch:
    """Commit the next second's event."""
    n = len(written.rows)
    at = NINE + timedelta(seconds=n)
    event = Event("a", None, format_time(at), format_time(at), f"{n}", {"t": n})
    return await written.commit(event, at=at)


@pytest.mark.parametrize("kind", [history, watch])
async def test_what_comes_while_a_page_is_read_follows_it(
    written: Committed,
    monkeypatch: pytest.MonkeyPatch,
    kind: Callable[[asyncpg.Pool[asyncpg.Record]], Hearer],
) -> None:
    """Rows are lost on the way, and others come as that is read: once, and then the outbox is left alone."""
    hearer = kind(written.pools.projector)
    await commit(written)
    for _ in range(2):
        await hearer.catch_up()
    assert await hearer.heard() == (kind is history), "the watch begins with what comes"
    begun = len(written.rows) - await hearer.heard()
    for _ in range(5):
        await commit(written)  # the topic has lost these
    await hearer.catch_up()
    page, pages = Outbox.page, []

    async def under_way(outbox: Outbox, stream: int, after: int, max_events: int) -> Page:
        found = await page(outbox, stream, after, max_events)
        pages.append(after)
        for _ in range(3):
            hearer.take([await commit(written)])
        return found

    monkeypatch.setattr(Outbox, "page", under_way)
    for _ in range(3):
        hearer.take([await commit(written)])
        await hearer.catch_up()
    assert len(pages) == 1
    assert await hearer.heard() == len(written.rows) - begun


async def test_a_page_is_bounded(written: Committed, monkeypatch: pytest.MonkeyPatch) -> None:
    """By events, by rows and by bytes; one row comes whatever its size."""
    outbox = Outbox(written.pools.projector, "test")

    async def page(after: int, max_events: int) -> list[int]:
        return [row.n for row in (await outbox.page(0, after, max_events)).rows]

    for _ in range(6):
        await commit(written)
    assert await page(0, 4) == [1, 2, 3, 4]
    assert await page(4, 4) == [5, 6]
    monkeypatch.setattr("projector.outbox.PAGE_ROWS", 3)
    assert await page(0, 100) == [1, 2, 3]
    size = await written.pool.fetchval("SELECT octet_length(payload) FROM outbox WHERE n = 2")
    monkeypatch.setattr("projector.outbox.PAGE_BYTES", 2 * size)
    assert await page(0, 100) == [1, 2]
    monkeypatch.setattr("projector.outbox.PAGE_BYTES", 1)
    assert await page(1, 100) == [2]
