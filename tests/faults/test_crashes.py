"""Our own processes killed and stopped under load."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from deploy.local.server import free_port
from runtime.faults import POINTS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.faults.site import Site

GATEWAY_POINTS = ["before_commit", "after_commit", "after_ack", "after_publish"]
PROJECTOR_POINTS = ["before_apply", "after_apply"]
HISTORY_POINTS = ["before_history", "after_history"]


def test_every_point_is_visited() -> None:
    """No fault point is left out of the scenarios."""
    assert {
        *GATEWAY_POINTS,
        *PROJECTOR_POINTS,
        *HISTORY_POINTS,
        "packed",
        "rebuild",
        "swap",
        "staged",
        "listed",
    } == POINTS


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "share", [pytest.param(1, marks=pytest.mark.full), 2], ids=["everywhere", "at half of the points"]
)
async def test_kill_everywhere(site: Site, share: int) -> None:
    """Both processes killed once at every fault point under one load: nothing lost, doubled or miscounted."""
    dice = random.Random(site.seed)  # noqa: S311  # chooses points
    await (await site.start("gateway")).terminate()
    async with site.fleet().load():
        for point in dice.sample(GATEWAY_POINTS, len(GATEWAY_POINTS) // share):
            await site.crash("gateway", f"{point}:2")
        await site.start("gateway")
        for point in dice.sample(PROJECTOR_POINTS, len(PROJECTOR_POINTS) // share):
            await site.crash("projector", f"{point}:2")
        for point in dice.sample(HISTORY_POINTS, len(HISTORY_POINTS) // share):
            await site.crash("projector", f"{point}:1")
        await site.crash("projector", "packed:1")  # devices begin three hours ago
        await site.start("projector")
    books = await site.audit()
    assert books.stored > 500


@pytest.mark.full
@pytest.mark.parametrize("point", GATEWAY_POINTS)
async def test_gateway_killed_in_a_loop(site: Site, point: str) -> None:
    """Killed eight times at one point, at another passing each time."""
    await site.start("projector")
    await (await site.start("gateway")).terminate()
    async with site.fleet().load(500):
        for passing in (1, 2, 3, 5, 8, 1, 1, 1):
            await site.crash("gateway", f"{point}:{passing}")
        await site.start("gateway")
    await site.audit()


@pytest.mark.full
@pytest.mark.parametrize("point", PROJECTOR_POINTS)
async def test_projector_killed_in_a_loop(site: Site, point: str) -> None:
    """Killed eight times at one point, at another passing each time: every message is counted once."""
    await site.start("gateway")
    async with site.fleet().load(500):
        for passing in (1, 2, 3, 5, 8, 1, 1, 1):
            await site.crash("projector", f"{point}:{passing}")
        await site.start("projector")
    await site.audit()


@pytest.mark.full
@pytest.mark.timeout(400)  # a minute is written when it is over
@pytest.mark.parametrize("point", HISTORY_POINTS)
async def test_killed_while_history_is_written(site: Site, point: str) -> None:
    """Killed at each start as soon as it writes, then later: each event is in history once."""
    await site.start("gateway")
    async with site.fleet().load(500):
        for passing in (1, 1, 2, 1):
            await site.crash("projector", f"{point}:{passing}")
        await site.start("projector")
    await site.audit()


@pytest.mark.full
async def test_killed_in_a_rebuild(site: Site) -> None:
    """Killed in the middle of rebuilding, and at each step of putting it in place: the next one is exact."""
    gateway, projector = await site.start_both()
    await site.fleet().send(3000)
    await site.audit()
    await gateway.terminate()
    await projector.kill()
    await site.sql("UPDATE streams SET epoch = gen_random_uuid()")
    for point in ("rebuild:1", "rebuild:2", "swap:1", "swap:2", "swap:3"):
        await site.crash("projector", point)
    await site.start_both()
    await site.fleet().send(500)
    await site.audit(cursor_within_s=30)


@pytest.mark.full
async def test_killed_between_the_pieces_of_a_run(site: Site) -> None:
    """A run of thousands of devices takes several calls; killed after any, the next one sets what is left."""
    projector = await site.start("projector")
    await projector.terminate()
    await site.start("gateway")
    await site.fleet(devices=6000).send(9000)
    for passing in (1, 1, 2):
        await site.crash("projector", f"staged:{passing}")
    await site.start("projector")
    await site.audit(cursor_within_s=30)


@pytest.mark.full
async def test_killed_before_a_run_counts(site: Site) -> None:
    """A run of very many devices is listed before the call that decides: killed there, it comes again."""
    projector = await site.start("projector")
    await projector.terminate()
    await site.start("gateway")
    await site.fleet(devices=15_000).send(15_000)
    for _ in range(2):
        await site.crash("projector", "listed:1")
    await site.start("projector")
    await site.audit(cursor_within_s=30)


@pytest.mark.full
async def test_two_projectors(site: Site) -> None:
    """Two projectors on the same views, one of them killed again and again: every message is counted once."""
    await site.start_both()
    second = {"EDGE_PROJECTOR_HTTP": f"127.0.0.1:{free_port()}"}
    async with site.fleet().load(500):
        for passing in (3, 5, 8):
            await site.crash("projector", f"after_apply:{passing}", second)
    await site.audit()


@pytest.mark.full
async def test_soft_stop_under_load(site: Site) -> None:
    """SIGTERM in the middle of a load, twice: exit code 0 and balanced books."""
    await site.start("projector")
    gateway = await site.start("gateway")
    async with site.fleet().load(500):
        for _ in range(2):
            await gateway.event("batch_stored", skip=5)
            assert await gateway.terminate() == 0
            line = dict(part.split("=") for part in gateway.stdout[-1].split())
            assert line["in_flight"] == "0"
            settled = sum(int(line[name]) for name in ("committed", "duplicate", "dead_lettered"))
            assert int(line["received"]) == settled
            gateway = await site.start("gateway")
    await site.audit()


@pytest.mark.full
async def test_hard_deadline(open_site: Callable[..., Awaitable[Site]]) -> None:
    """SIGTERM while PostgreSQL is dark: it leaves at its deadline with exit code 1, nothing is lost.

    With a spool it leaves in time, with exit code 0.
    """
    site = await open_site(through=("postgres",))
    await site.start("projector")
    gateway = await site.start("gateway", {"EDGE_GATEWAY_SHUTDOWN_TIMEOUT": "15s" if site.spools else "2s"})
    fleet = site.fleet()
    async with fleet.load(500):
        await gateway.event("batch_stored", skip=5)
        site.proxies["postgres"].blackhole()
        await fleet.sent(len(fleet.log) + 200)
        assert await gateway.terminate() == (0 if site.spools else 1)
        assert site.spools or await gateway.event("stopping_hard")
        site.proxies["postgres"].cut()
        site.proxies["postgres"].heal()
        await site.start("gateway")
    await site.audit(cursor_within_s=40)
