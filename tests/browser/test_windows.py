from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from playwright.async_api import Browser, BrowserContext

    from tests.browser.conftest import Devices
    from tests.support.commands import RunningCommand

pytestmark = pytest.mark.usefixtures("gateway")

WINDOWS = 8  # a browser has six connections to a server
AGAIN_MS = 20_000
STREAMS = """() =>
  performance.getEntriesByType("resource").filter((each) => each.name.endsWith("/events")).length"""


@asynccontextmanager
async def profile(browser: Browser, **options: str) -> AsyncIterator[BrowserContext]:
    """One profile of a browser, whose windows share what a browser shares."""
    context = await browser.new_context(**options)  # type: ignore[arg-type]  # only texts here
    try:
        yield context
    finally:
        await context.close()


@pytest.mark.full
async def test_windows_of_a_browser_share_a_stream(
    run_command: Callable[..., Awaitable[RunningCommand]], browser: Browser, devices: Devices, base: str
) -> None:
    """Eight windows live on one stream of events; it stays when one goes, and comes back for all."""
    projector = await run_command("projector", "run")
    await projector.event("connected")
    await devices.send("a1", level=1)
    async with profile(browser) as context:
        pages = [await context.new_page() for _ in range(WINDOWS)]
        for page in pages:
            await page.goto(base, wait_until="domcontentloaded")
            await expect(page.locator(".row")).to_contain_text("level 1")
            assert await page.evaluate(STREAMS) == 0
        await pages[0].close()
        await devices.send("a1", level=2)
        for page in pages[1:]:
            await expect(page.locator(".row")).to_contain_text("level 2")
        assert await projector.terminate() == 0
        for page in pages[1:]:
            await expect(page.get_by_role("alert")).to_contain_text("No connection to the projector")
        await devices.send("a1", level=3)
        await run_command("projector", "run")
        for page in pages[1:]:
            await expect(page.locator(".row")).to_contain_text("level 3", timeout=AGAIN_MS)
            await expect(page.get_by_role("alert")).to_be_empty()


@pytest.mark.parametrize(
    "without",
    [
        "delete globalThis.SharedWorker",
        "globalThis.SharedWorker = class { constructor() { throw Error('no') } }",
    ],
)
@pytest.mark.full
async def test_a_browser_that_cannot_share(
    run_command: Callable[..., Awaitable[RunningCommand]],
    browser: Browser,
    devices: Devices,
    base: str,
    without: str,
) -> None:
    """Where there is no shared worker, or it is forbidden, a window has a stream of its own."""
    projector = await run_command("projector", "run")
    await projector.event("connected")
    await devices.send("a1", level=1)
    async with profile(browser) as context:
        page = await context.new_page()
        await page.add_init_script(without)
        await page.goto(base)
        await expect(page.locator(".row")).to_contain_text("level 1")
        await devices.send("a1", level=2)
        await expect(page.locator(".row")).to_contain_text("level 2")


@pytest.mark.full
async def test_the_time_zone(
    run_command: Callable[..., Awaitable[RunningCommand]], browser: Browser, devices: Devices, base: str
) -> None:
    """The zone of the times shown is named, and is the browser's or UTC, as it was last chosen."""
    projector = await run_command("projector", "run")
    await projector.event("connected")
    await devices.send("a1", ts="2026-07-01T10:00:00Z", level=1)
    async with profile(browser, timezone_id="Europe/Berlin", locale="en-GB") as context:
        page = await context.new_page()
        await page.goto(f"{base}/#/device/a1")
        zone = page.get_by_label("Time zone")
        await expect(zone.locator("option:checked")).to_have_text("Europe/Berlin")
        facts = page.locator("#device .facts")
        await expect(facts).to_contain_text("1 Jul 2026, 12:00:00")
        await zone.select_option("UTC")
        await expect(facts).to_contain_text("1 Jul 2026, 10:00:00")
        await page.reload()
        await expect(zone.locator("option:checked")).to_have_text("UTC")
        await expect(facts).to_contain_text("1 Jul 2026, 10:00:00")
        await zone.select_option("here")
        await expect(facts).to_contain_text("1 Jul 2026, 12:00:00")
