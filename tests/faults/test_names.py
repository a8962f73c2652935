"""A device that makes up names without end, of metrics and of regions."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
import pytest

from tests.faults.watch import until
from tests.support.devices import publish

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tests.faults.site import Site

NAMES: Final = 256  # of a message
MESSAGES: Final = 200
REGIONS: Final = 10_000
MOST_REGIONS: Final = 500
# Of their own processor time, as the machine has others. Until an answer a loop goes round several times, and
# Redis does what others ask besides.
STALL_MS: Final = 100
REDIS_MS: Final = 30
LONGEST_S: Final = 10.0  # by the clock


def metrics() -> Iterator[tuple[str, bytes]]:
    """A scanner that names each beacon it hears, fifty thousand in all, in a region that others share."""
    for n in range(MESSAGES):
        names = {f"beacon-{n}-{i}": -60 for i in range(NAMES)}
        yield "devices/scanner/telemetry", json.dumps({"id": str(n), "region": "hall", **names}).encode()


def regions() -> Iterator[tuple[str, bytes]]:
    """A device that puts where it is into its region, a hundred readings a message."""
    for first in range(0, REGIONS, 100):
        readings = [{"id": f"w{i}", "region": f"52.5{i:05}", "speed": 3} for i in range(first, first + 100)]
        yield "devices/wanderer/telemetry", json.dumps(readings).encode()


async def send_innocently(site: Site, waited_s: list[float]) -> None:
    """Send a message after the other in the scanner's region, each when the views have the one before."""
    async with site.redis() as redis:

        async def counted() -> str:
            count = await redis.hget("device:stats:innocent", "count_n")
            return "" if count == str(len(waited_s) + 1) else f"{count!r} messages"

        while True:
            body = json.dumps({"id": f"i{len(waited_s)}", "region": "hall", "n": 1}).encode()
            await publish(site.services.mqtt_port, [("devices/innocent/telemetry", body)])
            began = time.monotonic()
            await until(counted, within_s=LONGEST_S)
            waited_s.append(time.monotonic() - began)


async def look_in(ask: Callable[[], Awaitable[object]], pid: int, spent_ms: list[float]) -> None:
    """Ask a process the least that it answers, time and again: for how long it worked until it did."""
    thread = Path(f"/proc/{pid}/schedstat")  # of the main one: nanoseconds that it ran, first

    def ran_ms() -> float:
        return int(thread.read_text(encoding="ascii").split()[0]) / 1e6

    while True:
        began = ran_ms()
        await ask()
        spent_ms.append(ran_ms() - began)
        await asyncio.sleep(0.01)


@pytest.mark.full
@pytest.mark.timeout(300)
async def test_names_without_end(site: Site) -> None:
    """Fifty thousand names and ten thousand regions: bounded, and neither Redis nor others wait for them."""
    await site.start("gateway")
    projector = await site.start("projector", {"EDGE_PROJECTOR_MAX_REGIONS": str(MOST_REGIONS)})
    waited_s: list[float] = []
    base = f"http://{site.settings()['EDGE_PROJECTOR_HTTP']}"
    async with site.redis() as redis, httpx.AsyncClient(base_url=base) as http:
        sending = asyncio.create_task(send_innocently(site, waited_s))
        loop_ms: list[float] = []
        redis_ms: list[float] = []
        redis_pid = (await redis.info("server"))["process_id"]
        looking = (
            asyncio.create_task(look_in(lambda: http.get("/healthz"), projector.pid, loop_ms)),
            asyncio.create_task(look_in(redis.ping, redis_pid, redis_ms)),
        )
        await publish(site.services.mqtt_port, [*metrics(), *regions()])

        async def all_there() -> str:
            scanner = await redis.hget("device:stats:scanner", "sample_count")
            wanderer = await redis.hget("device:stats:wanderer", "sample_count")
            there = (scanner, wanderer) == (str(MESSAGES), str(REGIONS))
            return "" if there else f"{scanner!r} and {wanderer!r} messages"

        async def bounded() -> str:
            many = await redis.hlen("projector:marks:regions")
            await http.get("/regions")
            return "" if many <= MOST_REGIONS else f"{many} regions"

        await until(all_there, within_s=60)
        await until(bounded, within_s=150)
        for task in (sending, *looking):
            assert not task.done(), task.exception()
            task.cancel()
        await asyncio.gather(sending, *looking, return_exceptions=True)
        for path in ("/devices/scanner/stats", "/regions/hall/stats"):
            stats = (await http.get(path)).json()
            assert (len(stats["metrics"]), stats["metrics_dropped"] > 0) == (1000, True), path
        left = await redis.hlen("projector:marks:regions")
        assert (await http.get("/regions")).json()["dropped"] == REGIONS + 1 - left
    assert max(loop_ms) < STALL_MS
    assert max(redis_ms) < REDIS_MS
    assert len(waited_s) > 1
    verify = await site.command("projector", "verify")
    assert await verify.exit_code(timeout_s=60) == 0, "\n".join(verify.output)
    assert await projector.terminate() == 0
