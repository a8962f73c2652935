"""The views in a Redis Cluster whose nodes change, and in a Redis whose master dies, under load."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.redis_servers import PREFIX, open_cluster, open_watched, until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.faults.site import Site
    from tests.support.commands import RunningCommand

pytestmark = pytest.mark.full


async def test_cluster(site: Site) -> None:
    """The owner of the keys dies without its last writes at its replica, then the keys go to another node.

    A rebuild beside the second meets it too. Afterwards the views are exact, and nothing was doubled.
    """
    async with open_cluster(site.services.redis.binary, site.services.place) as cluster:
        site.views_in = cluster.url, PREFIX
        _, projector = await site.start_both()
        more = _more(projector)
        async with site.fleet().load(500):
            await more()
            await cluster.fail_over(lacking=more)
            await more()
            target = cluster.others[0]
            rebuild = await site.command("projector", "rebuild")
            await cluster.begin_move(target)
            await cluster.move(target)
            await cluster.end_move(target)
            assert await rebuild.exit_code(timeout_s=60) in {0, 1}
            await more()
        await _is_exact(site, projector)


async def test_sentinels(site: Site) -> None:
    """The master dies, its last writes not at its replica, comes back as one, and takes over again."""
    async with open_watched(site.services.redis.binary, site.services.place) as watched:
        site.views_in = watched.url, PREFIX
        _, projector = await site.start_both()
        more = _more(projector)
        async with site.fleet().load(500):
            await more()
            await watched.fail_over(lacking=more)
            await more()
            await watched.master.start()
            await until(watched.master, "ROLE", "slave")
            await until(watched.master, "INFO replication", "'master_link_status': 'up'")
            await watched.replica.kill()
            await until(watched.master, "ROLE", "master")
            await more()
        await _is_exact(site, projector)


def _more(projector: RunningCommand) -> Callable[[], Awaitable[None]]:
    """Waits until some more runs have been applied."""

    async def more() -> None:
        applied = sum(event["event"] == "run_applied" for event in projector.events)
        await projector.event("run_applied", skip=applied + 5)

    return more


async def _is_exact(site: Site, projector: RunningCommand) -> None:
    await site.audit(cursor_within_s=20)
    verify = await site.command("projector", "verify")
    assert await verify.exit_code(timeout_s=60) == 0, verify.output
    assert await projector.terminate() == 0
