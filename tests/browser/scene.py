"""Two hundred devices with an hour behind them, and pictures of the page that shows them.

`make pictures` takes the pictures that are in `docs/img`.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

import msgspec
from playwright.async_api import expect

from deploy.local.browser import DESKTOP, PHONE, chromium, visiting
from deploy.local.children import Children
from deploy.local.figures import is_ready
from deploy.local.server import free_port
from deploy.local.services import LocalServices
from gateway.simulate.devices import Device
from runtime import logs
from tests.support.devices import publish
from tests.support.silent import leave_silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.async_api import Browser

    from deploy.local.browser import Scheme

DEVICES: Final = 200
SILENT: Final = {"sim-0197": 41, "sim-0198": 22, "sim-0199": 9, "sim-0200": 6}  # the last devices: minutes
_REGIONS: Final = 4
_HOUR_MINUTES: Final = 60
_READY_MS: Final = 30_000
_RATE: Final = 200
_GARBAGE: Final = 0.0015
_WATCHED_S: Final = 45
_PICTURES: Final[dict[str, tuple[tuple[int, int], Scheme]]] = {
    "live-light": (DESKTOP, "light"),
    "live-dark": (DESKTOP, "dark"),
    "live-phone": (PHONE, "light"),
}

_encode = msgspec.json.Encoder().encode


def last_hour(topic: str, now: float) -> Iterator[tuple[str, bytes]]:
    """One message a device with a reading for each minute of the last hour; the last devices fell silent.

    Args:
        topic: where devices publish, with `{device_id}`.
        now: epoch seconds.
    """
    for index in range(DEVICES):
        rng = Random(index)  # noqa: S311  # a simulation
        device = Device(index, index % _REGIONS, "hour", topic, rng)
        minutes = range(_HOUR_MINUTES - 1, SILENT.get(device.device_id, 0) - 1, -1)
        yield device.topic, _encode([device.measure(now - 60 * minute) for minute in minutes])


async def take_pictures(browser: Browser, base: str, folder: Path, *, settle_s: float = 0) -> list[Path]:
    """Take the pictures of a page that shows the scene; each is complete, with its sparklines.

    Args:
        browser: to look with.
        base: where the page is.
        folder: where to put them.
        settle_s: how long to look before the pictures are taken, for a course of the rate.
    """
    taken = []
    async with visiting(browser) as watching:
        await watching.page.goto(base)
        await watching.page.wait_for_timeout(settle_s * 1000)
        for name, (size, scheme) in _PICTURES.items():
            async with visiting(browser, size, scheme) as visit:
                await visit.page.goto(base)
                await expect(visit.page.locator("#sum-silent")).to_contain_text(
                    f"{len(SILENT)}of {DEVICES}", timeout=_READY_MS
                )
                await expect(visit.page.locator(".row path[d^=M]").nth(3)).to_be_attached(timeout=_READY_MS)
                await expect(visit.page.locator("#sum-rate strong")).not_to_have_text("\N{EN DASH}")
                taken.append(folder / f"{name}.png")
                await visit.page.screenshot(path=taken[-1])
    return taken


async def main(folder: Path) -> None:
    """Play the scene on servers of its own, and take the pictures."""
    logs.configure("json", "warning")
    address = f"127.0.0.1:{free_port()}"
    async with LocalServices(environ={}) as services:
        with (
            tempfile.TemporaryDirectory(prefix="edge-pictures-") as place,
            Children(Path(place), services.environment()) as children,
        ):
            http = f"127.0.0.1:{free_port()}"
            await _start(children, "gateway", EDGE_GATEWAY_HTTP=http)
            await publish(services.mqtt_port, last_hour("devices/{device_id}/telemetry", time.time()))
            await leave_silent(SILENT, postgres_dsn=services.postgres_dsn, redis_url=services.redis_url)
            await _start(children, "projector", EDGE_PROJECTOR_HTTP=address)
            awake = str(DEVICES - len(SILENT))
            shares = ("--garbage", str(_GARBAGE), "--duplicates", "0.01", "--late", "0.01")
            children.start(
                "devices", "gateway", "simulate", "--devices", awake, "--rate", str(_RATE), "--quiet", *shares
            )
            async with chromium() as browser:
                for taken in await take_pictures(browser, f"http://{address}", folder, settle_s=_WATCHED_S):
                    print(taken)  # noqa: T201  # says what it made


async def _start(children: Children, name: str, **http: str) -> None:
    children.start(name, name, "run", **http)
    (where,) = http.values()
    while not await asyncio.to_thread(is_ready, f"http://{where}"):
        children.check()
        await asyncio.sleep(0.1)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
