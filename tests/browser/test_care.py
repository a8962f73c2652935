"""Muted and retired devices and wrong clocks on the live page, with gateway and projector behind it."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect
from redis.asyncio import Redis

from deploy.local.browser import PHONE
from tests.support.silent import leave_silent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from runtime.settings import Settings
    from tests.browser.conftest import Devices, Open
    from tests.support.commands import RunningCommand

    Run = Callable[..., Awaitable[RunningCommand]]

LEFT = re.compile("^Muted,? 1[0-9]{2} min left$")
pytestmark = pytest.mark.usefixtures("gateway")


async def say(run_command: Run, *words: str) -> None:
    """Run `projector devices …`."""
    command = await run_command("projector", "devices", *words)
    assert await command.exit_code() == 0, command.output


@pytest.mark.full
async def test_a_clock_that_is_wrong(
    devices: Devices, open_page: Open, run_command: Run, settings: Settings
) -> None:
    """The row says by how much, once it is known; how many there are leads to a list of just those."""
    await devices.send("right", level=1)
    await devices.send("slow", level=2)
    where = {"postgres_dsn": settings.postgres.dsn, "redis_url": settings.redis.url}
    await leave_silent({"right": 0, "slow": 0}, **where)
    async with Redis.from_url(settings.redis.url) as redis:
        await redis.delete("projector:silent")
        await redis.hset("projector:clocks", "slow", "1 1795945200000000")
    projector = await run_command("projector", "run")
    await projector.event("watch_begins")
    await projector.event("connected")
    page = await open_page()
    row = page.locator(".row", has_text="slow")
    await expect(row.locator(".usual")).to_have_text("clock wrong")
    await devices.send("slow", ago=timedelta(hours=3, seconds=40), level=2)
    await expect(row.locator(".usual")).to_have_text("clock \N{MINUS SIGN}3 h")
    await expect(row.locator(".usual")).to_have_attribute("title", "its clock is 3 h behind")
    await page.get_by_role("link", name="1 clock is wrong").click()
    await expect(page.locator(".row .id")).to_have_text(["slow"])
    await expect(page.locator("#devices-note")).to_have_text("1 whose clock is wrong, of 2 devices")
    if pictures := os.environ.get("PICTURES"):
        await page.screenshot(path=Path(pictures, "clock.png"))
        await page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
        await page.screenshot(path=Path(pictures, "clock-phone.png"))
    await row.click()
    await expect(page.locator("#device .facts")).to_contain_text("Its clock3 h behind, found")


@pytest.mark.full
async def test_who_is_muted_and_who_is_retired(
    devices: Devices, open_page: Open, run_command: Run, settings: Settings
) -> None:
    """Neither is silent; the one says for how long, the other is in a list of its own, or found by its id."""
    for device in ("lost", "pump", "old"):
        await devices.send(device, region="north", level=1)
    where = {"postgres_dsn": settings.postgres.dsn, "redis_url": settings.redis.url}
    await leave_silent({"lost": 20, "pump": 30, "old": 40}, **where)
    projector = await run_command("projector", "run")
    await projector.event("watch_begins", silent=3)
    await projector.event("connected")
    page = await open_page()
    silent = page.locator("#sum-silent")
    await expect(silent).to_have_text("Silent devices3of 3")
    await say(run_command, "mute", "pump", "--for", "2h", "--reason", "new battery", "--by", "ann")
    await expect(silent).to_have_text("Silent devices2of 3, 1 muted")
    row = page.locator(".row", has_text="pump")
    await expect(row.locator(".state")).to_have_text(LEFT)
    await say(run_command, "retire", "old", "--by", "ann")
    await expect(silent).to_have_text("Silent devices1of 2, 1 muted")
    await expect(page.locator(".row .id")).to_have_text(["lost", "pump"])
    if pictures := os.environ.get("PICTURES"):
        await page.screenshot(path=Path(pictures, "care.png"))
        await page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
        await page.screenshot(path=Path(pictures, "care-phone.png"))

    await row.click()
    await expect(page.locator("#device .standing")).to_have_text(LEFT)
    await expect(page.locator("#device .facts")).to_contain_text("Muted byann: new battery")
    await page.get_by_role("link", name="← All devices").click()
    await page.locator("#query").fill("ol")
    await expect(page.locator("#list-empty")).to_be_visible()
    await page.locator("#query").fill("old")
    await expect(page.locator(".row .state")).to_have_text("Retired")
    await page.locator("#filter-off").click()
    await page.get_by_role("link", name="1 retired").click()
    await expect(page.locator(".row .id")).to_have_text(["old"])
    await expect(page.locator("#devices-note")).to_have_text("1 retired, of 2 devices")
    await devices.send("old", level=2)
    await page.locator("#filter-off").click()
    await expect(page.locator(".row .id")).to_have_text(["lost", "old", "pump"])
