"""The newest is the newest: where device times tie or are missing, what was sent last is the last value.

A hundred devices send a value after the other, each device in order, and the broker keeps all of it until the
gateway comes. Keys are numbers, which compare as texts in another order than they count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.messages import Sent, plain
from tests.faults.watch import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.faults.site import Site

DEVICES = 100
VALUES = 8
FIRST = 7  # so that keys have one digit, then two
PAD = "x" * 1500  # so that one read of the socket brings a part of what waits
BATCHES = {"EDGE_GATEWAY_BATCH_MESSAGES": "50"}


def messages(*, timed: bool) -> list[Sent]:
    """Each device's values in their order, all devices in turns."""
    ts = "2026-11-26T08:00:00.000000Z" if timed else None
    return [
        plain(
            f"o{device}",
            str(FIRST + turn),
            "north",
            ts,
            {"v": FIRST + turn, "state": f"s{turn}", "pad": PAD},
            1,
        )
        for turn in range(VALUES)
        for device in range(DEVICES)
    ]


async def newest(site: Site) -> str:
    """Say which devices' last values are not the last that they sent; empty when all are."""
    wrong = {}
    async with site.redis() as redis:
        for device in range(DEVICES):
            found = await redis.hmget(f"device:stats:o{device}", ["last_v", "last_state", "sample_count"])
            if found != [str(FIRST + VALUES - 1), f"s{VALUES - 1}", str(VALUES)]:
                wrong[device] = found
    return f"{len(wrong)} devices, such as {list(wrong.items())[:3]}" if wrong else ""


@pytest.fixture(
    params=[pytest.param(True, marks=pytest.mark.full), False], ids=["one device time", "no device time"]
)
async def waiting(site: Site, request: pytest.FixtureRequest) -> Site:
    """A site whose broker holds everything, and whose gateway is away."""
    assert await (await site.start("gateway")).terminate() == 0
    await site.start("projector")
    await site.fleet().deliver_in_order(messages(timed=request.param))
    return site


@pytest.mark.parametrize("point", [pytest.param("before_commit", marks=pytest.mark.full), "after_commit"])
@pytest.mark.full
async def test_killed(waiting: Site, point: str) -> None:
    """Killed with batches under way, again and again: what comes again does not overtake what was stored."""
    for passing in (1, 2, 1):
        await waiting.crash("gateway", f"{point}:{passing}", BATCHES)
    await waiting.start("gateway", BATCHES)
    await waiting.settled()
    await until(lambda: newest(waiting), within_s=20)
    await waiting.audit()


@pytest.mark.full
async def test_delivered_again(open_site: Callable[..., Awaitable[Site]]) -> None:
    """The connection is cut while batches are stored: what the broker delivers again changes nothing."""
    site = await open_site(through=("mosquitto", "postgres"))
    assert await (await site.start("gateway")).terminate() == 0
    await site.start("projector")
    await site.fleet().deliver_in_order(messages(timed=False))
    site.proxies["postgres"].delay_s = 0.05
    gateway = await site.start("gateway", BATCHES)
    for turn in range(4):
        await gateway.event("batch_stored", skip=turn)
        site.proxies["mosquitto"].cut()
        await gateway.event("connected", client_id="site-gateway", skip=turn + 1, timeout_s=40)
    site.proxies["postgres"].delay_s = 0.0
    await site.settled()
    await until(lambda: newest(site), within_s=20)
    await site.audit()


@pytest.mark.full
async def test_rebuilt(waiting: Site) -> None:
    """Made anew from PostgreSQL, the views hold the same last values."""
    await waiting.crash("gateway", "after_commit:2", BATCHES)
    await waiting.start("gateway", BATCHES)
    await waiting.settled()
    rebuild = await waiting.command("projector", "rebuild")
    assert await rebuild.exit_code(timeout_s=40) == 0
    await until(lambda: newest(waiting), within_s=20)
    verify = await waiting.command("projector", "verify")
    assert await verify.exit_code(timeout_s=40) == 0, verify.output
    await waiting.audit()
