"""Devices by what people call them, on the page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.browser.conftest import Devices, Open
    from tests.support.commands import RunningCommand

    Run = Callable[..., Awaitable[RunningCommand]]

HOSTILE = "<img src=x onerror=alert(1)> & \"pump\" 'three'"


@pytest.mark.usefixtures("gateway", "projector")
async def test_devices_by_what_people_call_them(devices: Devices, open_page: Open, run_command: Run) -> None:
    """A name stands beside the id and is found, labels narrow as tags do, and who never sent is named."""

    async def command(*words: str) -> None:
        ran = await run_command("gateway", "devices", *words)
        assert await ran.exit_code() == 0, ran.output

    await devices.send("a1", region="north", level=1)
    await devices.send("b1", region="north", level=2)
    page = await open_page()
    await expect(page.locator(".row")).to_have_count(2)
    await command("set", "a1", "--name", HOSTILE, "--label", "site=<b>south</b>", "--expected-every", "15m")
    await command("set", "z9", "--name", "Spare", "--label", "site=<b>south</b>")
    row = page.locator(".row", has_text="a1")
    await expect(row.locator(".called")).to_have_text(HOSTILE)
    await expect(row.locator(".region")).to_have_text("north · <b>south</b>")
    await expect(row.locator(".usual")).to_have_text("every 15 min")
    await page.locator("#query").fill("PUMP")
    await expect(page.locator(".row .id")).to_have_text(["a1"])
    await page.locator("#query").fill("")

    await page.get_by_role("link", name="1 never heard").click()
    await expect(page.locator(".row .id")).to_have_text(["z9"])
    await expect(page.locator(".row .standing")).to_have_text("Never heard")
    await expect(page.locator("#devices-note")).to_have_text("1 never heard, of 2 devices")
    if pictures := os.environ.get("PICTURES"):
        await page.screenshot(path=Path(pictures, "never.png"))
    await page.locator(".row").click()
    await expect(page.locator("#device .note").first).to_have_text(
        "It is in the registry, site <b>south</b>. Nothing was ever heard of it."
    )
    await page.get_by_role("link", name="← All devices").click()

    await row.click()
    await expect(page.locator("#device .called")).to_have_text(HOSTILE)
    await expect(page.locator("#device .facts")).to_contain_text("Should send every15 min")
    await page.locator("#device").get_by_role("link", name="<b>south</b>").click()
    await expect(page.locator(".row .id")).to_have_text(["a1", "z9"])
    if pictures := os.environ.get("PICTURES"):
        await page.screenshot(path=Path(pictures, "names.png"))
