"""A device that makes up names without end, of metrics and of regions."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Final

import httpx
import pytest

from tests.faults.watch import until
from tests.support.devices import publish

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.site import Site

NAMES: Final = 256  # of a message
MESSAGES: Final = 200
REGIONS: Final = 10_000
MOST_REGIONS: Final = 500
SLOW_US: Final = 20_000


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


class Innocent:
    """A device that sends ten messages a second, in the scanner's region.

    Attributes:
        waited_s: how long a message took into the views, of each.
        answered_s: how long the projector took to say that it lives, of each time.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.waited_s: list[float] = []
        self.answered_s: list[float] = []

    async def send(self) -> None:
        """Until cancelled."""
        base = f"http://{self.site.settings()['EDGE_PROJECTOR_HTTP']}"
        async with self.site.redis() as redis, httpx.AsyncClient(base_url=base) as http:
            for n in range(10**6):
                body = json.dumps({"id": f"i{n}", "region": "hall", "n": n}).encode()
                await publish(self.site.services.mqtt_port, [("devices/innocent/telemetry", body)])
                begun = time.monotonic()
                while await redis.hget("device:stats:innocent", "last_n") != str(n):  # noqa: ASYNC110  # it tells nobody
                    await asyncio.sleep(0.005)
                self.waited_s.append(time.monotonic() - begun)
                begun = time.monotonic()
                await http.get("/healthz")
                self.answered_s.append(time.monotonic() - begun)
                await asyncio.sleep(0.1)


@pytest.mark.full
@pytest.mark.timeout(300)
async def test_names_without_end(site: Site) -> None:
    """Fifty thousand names and ten thousand regions of one device each: no call of Redis takes 20 ms."""
    await site.start("gateway")
    projector = await site.start("projector", {"EDGE_PROJECTOR_MAX_REGIONS": str(MOST_REGIONS)})
    innocent = Innocent(site)
    base = f"http://{site.settings()['EDGE_PROJECTOR_HTTP']}"
    async with site.redis() as redis, httpx.AsyncClient(base_url=base) as http:
        await redis.config_set("slowlog-log-slower-than", SLOW_US)
        await redis.slowlog_reset()
        sending = asyncio.create_task(innocent.send())
        await publish(site.services.mqtt_port, [*metrics(), *regions()])

        async def all_there() -> str:
            scanner = await redis.hget("device:stats:scanner", "sample_count")
            wanderer = await redis.hget("device:stats:wanderer", "sample_count")
            there = (scanner, wanderer) == (str(MESSAGES), str(REGIONS))
            return "" if there else f"{scanner!r} and {wanderer!r} messages"

        async def regions_bounded() -> str:
            many = await redis.hlen("projector:marks:regions")
            await http.get("/regions")
            return "" if many == MOST_REGIONS else f"{many} regions"

        await until(all_there, within_s=60)
        await until(regions_bounded, within_s=100)
        sending.cancel()
        for path in ("/devices/scanner/stats", "/regions/hall/stats"):
            stats = (await http.get(path)).json()
            assert (len(stats["metrics"]), stats["metrics_dropped"] > 0) == (1000, True), path
        assert (await http.get("/regions")).json()["dropped"] == REGIONS + 1 - MOST_REGIONS
        slow = [f"{entry['duration']} us: {entry['command'][:60]}" for entry in await redis.slowlog_get(128)]
    print(f"innocent: {max(innocent.waited_s):.3f} s, /healthz {max(innocent.answered_s):.3f} s")  # noqa: T201
    print(len(innocent.waited_s), sorted(innocent.waited_s)[-5:], sorted(innocent.answered_s)[-5:])
    print("\n".join(slow))  # noqa: T201
    assert slow == []
    verify = await site.command("projector", "verify")
    assert await verify.exit_code(timeout_s=60) == 0, "\n".join(verify.output)
    assert await projector.terminate() == 0
