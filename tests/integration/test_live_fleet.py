"""The live page's view of two hundred thousand devices, of which a tenth is dead."""

from __future__ import annotations

import asyncio
import gc
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psutil
import pytest
from prometheus_client import CollectorRegistry

from contract.events import Event
from projector.live.board import Board
from projector.meters import Meters
from projector.query import Queries
from projector.views import Keys
from projector.watch.said import Watch
from projector.watch.silence import Silence
from runtime.http import Health
from runtime.redis import open_redis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

pytestmark = pytest.mark.timeout(240)  # planting alone takes seconds

KEYS = Keys("p:")
DEVICES = 200_000
DEAD = 20_000
REGIONS = 40
STALL_S = 0.1
SEARCH_S = 0.1
CALL_S = 0.005
MEMORY = 200_000_000
NOW_MS = 1_795_000_000_000
NEWEST = "dev-123456"
CAME_BACK = "dev-000007"
PLANT = """
for i = tonumber(ARGV[1]), tonumber(ARGV[2]) do
  local id = string.format('dev-%06d', i)
  local seen = i < tonumber(ARGV[4]) and ARGV[3] - 86400000 - i or ARGV[3] - i % 50000
  redis.call('ZADD', KEYS[1], seen, id)
  redis.call('HSET', KEYS[2] .. id, 'region', 'r' .. i % ARGV[5], 'last_seen_ms', seen, 'last_t', i)
end
"""


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.ms = NOW_MS

    def __call__(self) -> datetime:
        return datetime.fromtimestamp(self.ms / 1000, UTC)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """Redis with the fleet."""
    async with open_redis(redis_url) as client:
        for first in range(0, DEVICES, 20_000):
            arguments = (first, first + 19_999, NOW_MS, DEAD, REGIONS)
            await client.eval(PLANT, 2, KEYS.last_seen, KEYS.devices, *map(str, arguments))
        yield client


@pytest.fixture
def clock() -> Clock:
    """The board's."""
    return Clock()


@pytest.fixture
def silence() -> Silence:
    """A watch that has been told of the dead, and knows of the others."""
    made = Silence({name(i): NOW_MS // 1000 - 86_400 - i for i in range(DEAD)})
    for i in range(DEVICES):
        made.know(name(i), f"r{i % REGIONS}")
    made.all_known()
    return made


@pytest.fixture
async def board(redis: Redis, clock: Clock, silence: Silence) -> Board:
    """A board that nobody has looked at."""
    watch = Watch()
    watch.begins(silence)
    return Board(
        redis,
        KEYS,
        queries=Queries(redis, KEYS),
        meters=Meters(CollectorRegistry()),
        health=Health(),
        watch=watch,
        now=clock,
    )


async def whole(board: Board) -> None:
    """Look until everybody is known, and once more."""
    async with asyncio.timeout(60):
        while (await board.look()).devices.watched < DEVICES:
            pass
    await board.look()
    await board.look()


def name(number: int) -> str:
    """A device."""
    return f"dev-{number:06d}"


async def hear(silence: Silence, minute: int, *, but: str = "") -> None:
    """All that are not dead send a message, except one."""
    at = NOW_MS // 1000 + 60 * minute
    for start in range(DEAD, DEVICES, 1000):
        names = (name(i) for i in range(start, start + 1000))
        silence.hear(0, at, [Event(each, None, "", "", "", {}) for each in names if each != but])
        await asyncio.sleep(0)


async def see(redis: Redis, device: str, at_ms: int) -> None:
    """A device was heard at some time."""
    await redis.zadd(KEYS.last_seen, {device: at_ms})
    await redis.hset(KEYS.device(device), mapping={"region": "r7", "last_seen_ms": at_ms})


@asynccontextmanager
async def no_stall() -> AsyncIterator[None]:
    """Nothing in the block keeps the loop for long: by this thread's CPU, as others use the machine too.

    Without collections, which in our processes are few and look at little (`runtime/lifecycle.py`).
    """
    worst, ended = 0.0, asyncio.Event()

    async def watch() -> None:
        nonlocal worst
        while not ended.is_set():
            before = time.thread_time()
            await asyncio.sleep(0.001)
            worst = max(worst, time.thread_time() - before)

    gc.disable()
    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        ended.set()
        await task
        gc.enable()
    assert worst < STALL_S


async def standing(board: Board, device: str) -> str:
    """How a device stands, as the list has it."""
    (row,) = (await board.window(device, None, 0, 3)).rows
    return row.standing


async def listed(board: Board, device: str) -> bool:
    """Whether the list has a device."""
    return (await board.window(device, None, 0, 3)).total > 0


async def redis_cpu_s(redis: Redis) -> float:
    """What Redis has used of a processor."""
    used = await redis.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


async def calls(redis: Redis) -> int:
    """How often Redis was asked for many devices at once since its numbers were set to nothing."""
    counts = await redis.info("commandstats")
    return sum(int(counts[f"cmdstat_{name}"]["calls"]) for name in ("evalsha", "zmscore", "zrange"))


@pytest.mark.full
async def test_all_of_a_large_fleet_is_known(
    board: Board, redis: Redis, clock: Clock, silence: Silence
) -> None:
    """Who is silent, found and counted exactly, within bounds of time, memory and Redis."""
    memory = psutil.Process().memory_info().rss
    async with no_stall():
        first = await board.look()
        assert len(first.rows) == 60
        assert all(row.standing == "silent" for row in first.rows.values())
        await whole(board)
        state = await board.look()
        assert (state.devices.total, state.devices.watched, state.devices.silent) == (DEVICES, DEVICES, DEAD)

        assert state.devices.unknown == DEVICES - DEAD
        for minute in range(3):
            await hear(silence, minute)
        for minute in range(3, 7):
            silence.hear(0, NOW_MS // 1000 + 60 * minute, [Event(CAME_BACK, "r7", "", "", "", {})])
            if minute % 2 == 0:
                await hear(silence, minute, but=NEWEST)
        clock.ms += 6 * 60_000
        await redis.config_resetstat()
        busy_s = await redis_cpu_s(redis)
        async with asyncio.timeout(60):
            while True:
                silence.turn()
                silence.learn(dict.fromkeys(silence.unsure, ()))
                if NEWEST not in silence.silent:
                    await asyncio.sleep(0)
                    continue
                for _ in range(2):  # devices are ranked every other look
                    state = await board.look()
                newest, back = [await standing(board, each) for each in (NEWEST, CAME_BACK)]
                if (newest, back, state.devices.silent) == ("silent", "ok", DEAD):
                    break
        found = await board.window("", None, 0, 3, recent=True)
        assert (found.total, found.rows[0].id, found.rows[0].standing) == (DEAD, NEWEST, "silent")
        assert state.regions == []  # no region has statistics here

        for part, total in (("dev-19999", 10), ("DEV-150000", 1), ("99999", 2), ("dev", DEVICES), ("x", 0)):
            begun = time.thread_time()
            found = await board.window(part, None, 0, 50)
            took = time.thread_time() - begun
            assert found.total == total
            assert took < SEARCH_S
        assert (await board.window("", "r7", 4000, 50)).total == DEVICES // REGIONS
        assert (await board.window("19999", "r7", 0, 50)).total == 0
    assert psutil.Process().memory_info().rss - memory < MEMORY
    assert (await redis_cpu_s(redis) - busy_s) / await calls(redis) < CALL_S


async def test_who_comes_and_who_goes(board: Board, redis: Redis, clock: Clock) -> None:
    """A device that is new is found at once by its id, and soon by all; one that has gone leaves."""
    await whole(board)
    await see(redis, "new", clock.ms - 59_000)
    assert [row.id for row in (await board.window("new", None, 0, 3)).rows] == ["new"]
    await redis.zrem(KEYS.last_seen, "dev-199999")
    await redis.delete(KEYS.device("dev-199999"))
    async with asyncio.timeout(60):
        while (await board.look()).devices.watched > DEVICES or await listed(board, "dev-199999"):
            pass
    state = await board.look()
    assert state.devices.total == DEVICES
    assert [row.id for row in (await board.window("ne", None, 0, 3)).rows] == ["new"]
