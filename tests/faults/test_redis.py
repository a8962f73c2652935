"""Redis emptied, restarted, full, and holding what is not ours."""

from __future__ import annotations

import shutil
from http import HTTPStatus
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.faults.watch import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.faults.site import Site


async def test_flushall(site: Site) -> None:
    """Everything in Redis is deleted under load, twice: the views come back exactly, by themselves."""
    _, projector = await site.start_both()
    async with site.fleet().load(500):
        for turn in range(2):
            applied = sum(e["event"] == "run_applied" for e in projector.events)
            await projector.event("run_applied", skip=applied + 5)
            async with site.redis() as redis:
                await redis.flushall()
            await projector.event("run_applied", first=1, skip=turn + 1)
    await site.audit(cursor_within_s=10)
    assert await projector.terminate() == 0


@pytest.mark.full
@pytest.mark.parametrize("kept", [True, False], ids=["with its file", "without"])
async def test_killed(site: Site, *, kept: bool) -> None:
    """Killed and started again under load, with its append-only file or without: the views are exact.

    With `appendfsync everysec` the file may lack the last second, so the cursor goes back with the views.
    """
    _, projector = await site.start_both()
    async with site.fleet().load(500):
        for _ in range(2):
            applied = sum(e["event"] == "run_applied" for e in projector.events)
            await projector.event("run_applied", skip=applied + 5)
            await site.services.redis.kill()
            if not kept:
                shutil.rmtree(site.services.redis.folder / "appendonlydir")
            await site.services.redis.start()
    await site.audit(cursor_within_s=20)
    assert await projector.terminate() == 0


@pytest.mark.full
async def test_cut_at_any_moment(open_site: Callable[..., Awaitable[Site]]) -> None:
    """Connections to Redis cut sixteen times, answers of the script lost among them: counted once."""
    site = await open_site(through=("redis",))
    _, projector = await site.start_both()
    async with site.fleet().load(500):
        for turn in range(16):
            applied = sum(e["event"] == "run_applied" for e in projector.events)
            await projector.event("run_applied", skip=applied)
            if turn % 2:
                site.proxies["redis"].swallow_answer(b"EVALSHA", times=1)
            else:
                site.proxies["redis"].cut()
    await site.audit(cursor_within_s=20)
    assert site.proxies["redis"].swallowed > 4


@pytest.mark.full
async def test_out_of_memory(site: Site) -> None:
    """Redis refuses writes for want of memory: nothing is half applied, and it goes on with more."""
    _, projector = await site.start_both()
    async with site.fleet().load(500), site.redis() as redis:
        await projector.event("run_applied", skip=5)
        await redis.config_set("maxmemory", "1")
        behind = await projector.event("summary")
        assert "redis" in behind["waiting_for"]
        await redis.config_set("maxmemory", "0")
    await site.audit(cursor_within_s=20)
    assert await projector.terminate() == 0


async def test_a_policy_that_evicts(site: Site) -> None:
    """A Redis that may drop statistics one by one is not what the views can rely on: not ready, and said."""
    await site.start_both()
    url = f"http://{site.settings()['EDGE_PROJECTOR_HTTP']}/readyz"
    async with site.redis() as redis, httpx.AsyncClient() as client:

        async def not_ready() -> str:
            answer = await client.get(url)
            return "" if answer.status_code == HTTPStatus.OK else answer.text

        async def still_ready() -> str:
            return "" if await not_ready() else "it is ready"

        await until(not_ready, within_s=20)
        await redis.config_set("maxmemory-policy", "allkeys-lru")
        await until(still_ready, within_s=20)
        reason = (await client.get(url)).json()["reasons"]["redis eviction"]
        assert "allkeys-lru" in reason
        assert "set maxmemory-policy noeviction" in reason
        await redis.config_set("maxmemory-policy", "noeviction")
        await until(not_ready, within_s=20)


@pytest.mark.full
@pytest.mark.parametrize("key", ["device:stats:d3", "region:stats:north", "devices:last_seen"])
async def test_a_key_of_another_type(site: Site, key: str) -> None:
    """What is not ours stands under a key of ours: nothing is half applied; it goes on when that is gone.

    Whoever writes under our keys has deleted what was there, so the operator deletes all of it.
    """
    _, projector = await site.start_both()
    async with site.fleet().load(300), site.redis() as redis:
        await projector.event("run_applied", skip=5)
        await redis.set(key, "not ours")
        behind = await projector.event("summary")
        assert key in behind["waiting_for"]["redis"]
        await redis.flushall()
        await projector.event("run_applied", first=1, skip=1)
    await site.audit(cursor_within_s=20)
