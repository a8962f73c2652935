"""Processes for which there is nothing to do sleep."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx

from bench.quiet import used
from tests.acceptance.test_ready import until_ready

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

WATCHED_S = 3.0


async def test_idle_processes_hardly_wake_up(
    run_command: Callable[..., Awaitable[RunningCommand]], settings: Settings
) -> None:
    """Where nothing comes: five wake-ups a second of the gateway at most, twenty of the projector.

    Of the best of some such spans: a chore of each minute, or of the start, falls into one of them.
    """
    gateway = await run_command("gateway", "run")
    projector = await run_command("projector", "run")
    for section in (settings.gateway, settings.projector):
        async with httpx.AsyncClient(base_url=f"http://{section.http}") as client:
            await until_ready(client)
    fewest = dict.fromkeys((gateway.pid, projector.pid), 1000)
    for _ in range(4):
        before = {pid: used(pid)[1] for pid in fewest}
        await asyncio.sleep(WATCHED_S)  # a time in which nothing happens is what is looked at
        for pid, woken in before.items():
            fewest[pid] = min(fewest[pid], used(pid)[1] - woken)
        if fewest[gateway.pid] <= 5 * WATCHED_S and fewest[projector.pid] <= 20 * WATCHED_S:
            break
    assert fewest[gateway.pid] <= 5 * WATCHED_S
    assert fewest[projector.pid] <= 20 * WATCHED_S
