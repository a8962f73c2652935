"""Several gateways: by plan, by mistake, and one that comes back from the dead."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from random import Random
from typing import TYPE_CHECKING

import pytest

from deploy.local.server import free_port
from gateway.migrate import migrate
from tests.faults.watch import until
from tests.support.write_side import decode, write_side

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.faults.site import Site

LOCK = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory' AND objid = 0"
SILENT_S = 31.0
TAKE_OVER = "UPDATE streams SET owner = gen_random_uuid(), owner_name = 'another gateway'"


def second(*, stream: int = 1, client_id: str = "site-second") -> dict[str, str]:
    """Settings of another gateway."""
    return {
        "EDGE_GATEWAY_STREAM": str(stream),
        "EDGE_BROKER_CLIENT_ID": client_id,
        "EDGE_GATEWAY_HTTP": f"127.0.0.1:{free_port()}",
    }


@pytest.mark.full
async def test_two_streams_with_the_same_devices(site: Site) -> None:
    """Two gateways that both get every message, killed in turns: each is stored once, on either stream."""
    first, _ = await site.start_both()
    other = await site.start("gateway", second())
    async with site.fleet().load(400):
        await other.event("batch_stored", skip=20)
        await first.kill()
        await site.start("gateway")
        await other.event("batch_stored", skip=60)
        await other.kill()
        other = await site.start("gateway", second())
        await other.event("batch_stored", skip=20)
    await site.audit(cursor_within_s=20)
    assert await site.sql("SELECT count(*) FROM streams WHERE head > 0") == 2


async def test_overlapping_writers(site: Site) -> None:
    """Four gateways with the same keys in different orders: stored once, and none ever deadlocks."""
    dsn, rng = site.services.postgres.dsn(), Random(site.seed)  # noqa: S311  # replayable
    await migrate(dsn)
    payloads = [b'{"id":"k%d","ts":"2026-11-23T08:00:00Z","x":1}' % i for i in range(2000)]
    async with AsyncExitStack() as stack:
        sides = [await stack.enter_async_context(write_side(dsn, stream)) for stream in range(4)]
        for turn in range(5):
            part = payloads[turn * 400 : (turn + 1) * 400]
            await asyncio.gather(*(side.store.commit(*decode(*rng.sample(part, 400))) for side in sides))
    assert await site.sql("SELECT count(*) FROM measurements") == 2000
    await site.sql("SELECT pg_stat_force_next_flush()")
    deadlocks = await site.sql("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    assert deadlocks == 0


@pytest.mark.full
async def test_the_same_stream(site: Site) -> None:
    """A second gateway with a live one's stream leaves and says who has it; the first is not disturbed."""
    first, _ = await site.start_both()
    async with site.fleet().load():
        other = await site.start("gateway", second(stream=0), ready=False)
        assert await other.exit_code() == 1
        stopped = await other.event("stopped")
        assert "stream 0 is held by" in stopped["reason"]
    await site.audit()
    assert await first.terminate() == 0


@pytest.mark.full
async def test_the_same_client_id(site: Site) -> None:
    """A second gateway with a live one's client id leaves and says so; they do not take turns for ever."""
    first, _ = await site.start_both()
    async with site.fleet().load():
        other = await site.start("gateway", second(client_id="site-gateway"), ready=False)
        assert await other.exit_code(timeout_s=60) == 1
        stopped = await other.event("stopped")
        assert "client_id" in stopped["reason"]
    await site.audit(cursor_within_s=20)
    assert len([event for event in first.events if event["event"] == "disconnected"]) <= 2
    assert await first.terminate() == 0


@pytest.mark.full
@pytest.mark.timeout(180)
@pytest.mark.parametrize("point", ["before_commit", "after_commit", "after_ack"])
async def test_frozen_while_another_takes_the_stream(site: Site, point: str) -> None:
    """Frozen at any point of a batch until another replaces it, and thawed: it is fenced off, and leaves."""
    await site.start("projector")
    await (await site.start("gateway")).terminate()
    async with site.fleet().load(50):
        old = await site.start("gateway", faults=f"{point}:5:SIGSTOP")
        await site.frozen(old)

        async def silent() -> str:
            silent_s = float(str(await site.sql("SELECT extract(epoch FROM now() - seen_at) FROM streams")))
            return "" if silent_s > SILENT_S else f"silent for {silent_s:.0f} s"

        await until(silent, within_s=60)
        new = await site.start("gateway", second(stream=0, client_id="site-successor"))
        await new.event("batch_stored", skip=10)
        old.signal(signal.SIGCONT)
        assert await old.exit_code(timeout_s=60) == 1
        assert "stream 0" in (await old.event("stopped"))["reason"]
    await site.start("gateway", second(client_id="site-gateway"))  # what the frozen one's session still holds
    await site.audit(cursor_within_s=20)


@pytest.mark.full
async def test_taken_over_in_the_database(site: Site) -> None:
    """A gateway whose token is no longer the stream's writes nothing more and stops."""
    await site.start("projector")
    old = await site.start("gateway")
    async with site.fleet().load():
        await old.event("batch_stored", skip=5)
        await site.sql(TAKE_OVER)
        assert await old.exit_code() == 1
        assert "another gateway" in (await old.event("stopped"))["reason"]
        await site.start("gateway")
    await site.audit()


@pytest.mark.full
async def test_replaces_itself_at_once(open_site: Callable[..., Awaitable[Site]]) -> None:
    """Killed so that its server does not notice, and started again: it takes its own stream over at once."""
    site = await open_site(through=("postgres",))
    gateway, _ = await site.start_both()
    async with site.fleet().load():
        await gateway.event("batch_stored", skip=3)
        site.proxies["postgres"].half_open = True
        await gateway.kill()
        again = await site.start("gateway")
        await again.event("batch_stored", skip=3)
    await site.audit()


@pytest.mark.full
async def test_the_lock_is_lost(site: Site) -> None:
    """The lock's session is ended: the gateway takes the lock again and goes on with its stream."""
    gateway, _ = await site.start_both()
    async with site.fleet().load():
        await site.sql(LOCK)
        await gateway.event("stream_lock_lost")
    await site.audit()
    assert await gateway.terminate() == 0
