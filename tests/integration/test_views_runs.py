"""How much goes into one run, on a real Redis: all that is there, unless others wait or there is no room."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from redis.asyncio import Redis

from projector.views import Outcome, Run, Views, setting, writes
from runtime.errors import Retry
from tests.integration.test_views_in_pieces import KEYS, NOW, dies, event, fleet, rows_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime

    from contract.events import EventBatch


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client of the test's Redis."""
    async with Redis.from_url(redis_url) as client:
        yield client


def fat(n: int) -> Run:
    """A run of fifty devices, of which each run of eight has others, a megabyte."""
    text = f"{n:02d}" * 10_000
    return Run(0, "e", n, n, [event(f"d{n % 8}-{i}", n, state=text) for i in range(50)])


async def test_redis_is_nearly_full(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run for which Redis has no room is followed by smaller ones; nothing of it takes room from others."""
    monkeypatch.setattr(writes, "PIECE", 100)
    views = Views(redis, KEYS)
    for n in range(1, 9):
        await views.apply(fat(n), NOW)
    used = (await redis.info("memory"))["used_memory"]
    await redis.config_set("maxmemory", used + 6_000_000)

    async def more(after: int) -> tuple[Sequence[EventBatch], datetime]:
        return (rows_of(fat(after + 1)) if after < 24 else []), NOW

    n, refused = 9, 0
    for _ in range(24):
        try:
            n = (await views.apply(fat(n), NOW, more)).cursor + 1
        except Retry:
            refused += 1
        if n > 24:
            break
    await redis.config_set("maxmemory", 0)
    assert n == 25
    assert refused
    assert not await redis.exists(KEYS.staged)
    assert await redis.hget(KEYS.device("d0-49"), "last_state") == b"24" * 10_000


async def test_a_list_that_is_nobodys_goes_with_the_next_write(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a projector had listed when it died takes no room once another writes, however little that is."""
    monkeypatch.setattr(writes, "PIECE", 100)
    monkeypatch.setattr(setting, "TOGETHER", 2)
    await dies(Views(redis, KEYS), fleet(1), monkeypatch, 2, "listed")
    assert await redis.llen(KEYS.staged) > 4
    assert (await Views(redis, KEYS).apply(Run(0, "e", 1, 1, [event("d", 1, t=1)]), NOW)).status == "applied"
    assert not await redis.exists(KEYS.staged)


async def test_what_is_no_list_is_left_alone(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else keeps something under the key of the list: it is named, and stays."""
    monkeypatch.setattr(writes, "PIECE", 100)
    monkeypatch.setattr(setting, "TOGETHER", 2)
    await redis.set(KEYS.staged, "not ours")
    with pytest.raises(Retry, match=f"{KEYS.staged}: WRONGTYPE"):
        await Views(redis, KEYS).apply(fleet(1), NOW)
    assert await redis.get(KEYS.staged) == b"not ours"


async def test_who_waits_has_a_turn(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream on which rows never end lets another have its turn, once that waits."""
    monkeypatch.setattr("projector.views.pace.RUN_S", 1e9)
    monkeypatch.setattr("projector.views.pace.RUN_SHARED_S", 0.0)
    views = Views(redis, KEYS)
    waiting: list[asyncio.Task[Outcome]] = []

    async def more(after: int) -> tuple[Sequence[EventBatch], datetime]:
        if after == 5:
            run = Run(1, "e", 1, 1, [event("other", 1, t=1)])
            waiting.append(asyncio.create_task(views.apply(run, NOW)))
        return rows_of(fleet(after + 1)), NOW

    async with asyncio.timeout(10):
        for n in (1, 2):
            await views.apply(fleet(n), NOW)
        assert await views.apply(fleet(3), NOW, more) == ("applied", 6, "")
        assert await waiting[0] == ("applied", 1, "")
    assert (await views.marks()).keys() == {0, 1}
