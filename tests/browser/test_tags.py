from __future__ import annotations

import json
from typing import TYPE_CHECKING

from playwright.async_api import expect

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from runtime.settings import Settings
    from tests.browser.conftest import Devices, Open
    from tests.support.commands import RunningCommand


async def test_a_tag_narrows_the_list(
    run_command: Callable[..., Awaitable[RunningCommand]],
    settings: Settings,
    topic_prefix: str,
    devices: Devices,
    open_page: Open,
) -> None:
    """A device shows its tags; each leads to the devices that have it too, and the address keeps it."""
    route = {"topic": f"{topic_prefix}/{{line}}/{{device_id}}/telemetry"}
    gateway = await run_command("gateway", "run", EDGE_ROUTE=json.dumps([route]))
    await gateway.event("connected", client_id=settings.broker.client_id)
    projector = await run_command("projector", "run")
    await projector.event("connected")
    for place in ("L 1/pump-1", "L 1/fan-1", "L2/pump-2"):
        await devices.send(place, region="north", level=1)
    page = await open_page()
    row = page.locator(".row", has_text="pump-1")
    await expect(row).to_contain_text("north · L 1")
    await row.click()
    await page.locator("#device").get_by_role("link", name="L 1").click()
    await expect(page.locator(".row")).to_have_count(2)
    await page.locator("#query").fill("pump")
    await expect(page.locator(".row")).to_have_count(1)
    await page.reload()
    await expect(page.locator("#devices-note")).to_have_text("1 with “pump” tagged line:L 1, of 3 devices")
    await expect(page.locator(".row")).to_contain_text("pump-1")
    await page.get_by_role("button", name="Show all").click()
    await expect(page.locator(".row")).to_have_count(3)
