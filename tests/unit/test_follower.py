"""A stream's follower, between servers that are made up: what it does when PostgreSQL hangs."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from prometheus_client import CollectorRegistry

from contract.events import VERSION, Event, EventBatch
from projector.follow import follower as follower_module
from projector.follow.follower import Follower
from projector.follow.state import Asked
from projector.meters import Meters
from projector.outbox import Page, Position
from projector.views import Cursor, Outcome, Run
from runtime.http import Health

if TYPE_CHECKING:
    import pytest

    from projector.follow.further import Further

AT = "2026-11-23T09:00:00.000000Z"
NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)


def row(n: int) -> EventBatch:
    """A row of one event."""
    return EventBatch(VERSION, 0, n, "e", AT, [Event("d", None, AT, AT, str(n), {"t": 1.0})])


async def test_a_database_that_hangs_does_not_hold_up_the_views(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is written without rows that are not read soon; what comes of them later is heard."""
    monkeypatch.setattr(follower_module, "PATIENCE_S", 0.05)
    applied, answered, asked = asyncio.Event(), asyncio.Event(), []
    heard: list[int] = []

    async def page(_stream: int, after: int, _most: int) -> Page:
        asked.append(after)
        await answered.wait()
        return Page([row(n) for n in range(after + 1, 4)], Position("e", 3))

    async def apply(run: Run, _now: datetime, more: Further) -> Outcome:
        last = run.last
        while rows := (await more(last))[0]:
            last = rows[-1].n
        applied.set()
        return Outcome("applied", last)

    follower = Follower(
        0,
        views=cast("Any", SimpleNamespace(apply=apply, changed=1)),
        outbox=cast("Any", SimpleNamespace(page=page)),
        health=Health(),
        meters=Meters(CollectorRegistry()),
        now=lambda: NOW,
        heard=lambda rows: heard.extend(each.n for each in rows),
    )
    follower.on_mark(Cursor(0, None), None)
    look = partial(follower.on_look, Asked(cursor=0, hinted=True), Position("e", 3), replaced=False)
    look()
    follower.offer(row(1), 100)
    running = asyncio.create_task(follower.run())
    try:
        async with asyncio.timeout(5):
            await applied.wait()
            assert asked == [1]
            answered.set()
            while heard != [1, 2, 3]:  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.001)
            assert follower.course.cursor == 1
            look()
            while follower.course.cursor != 3:  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.001)
        assert asked == [1, 1]
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
