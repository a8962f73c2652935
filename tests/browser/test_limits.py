"""Limits on the live page, with gateway and projector behind it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from deploy.local.browser import PHONE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.browser.conftest import Devices, Open
    from tests.support.commands import RunningCommand

pytestmark = pytest.mark.usefixtures("gateway")
LIMITS = [
    {"metric": "temperature", "warn": 30, "crit": 40},
    {"metric": "pressure", "when": "below", "crit": 1},
]


@pytest.fixture
async def projector(run_command: Callable[..., Awaitable[RunningCommand]]) -> RunningCommand:
    """A projector of a site with limits."""
    command = await run_command("projector", "run", EDGE_LIMIT=json.dumps(LIMITS))
    await command.event("connected")
    await command.event("limits_begin")
    return command


@pytest.mark.usefixtures("projector")
async def test_who_is_beyond_a_limit(devices: Devices, open_page: Open) -> None:
    """A figure counts them and leads to them; a value that is beyond says so in a word and a colour."""
    for number in range(5):
        await devices.send(f"fine-{number}", temperature=20, humidity=40)
    page = await open_page()
    hot = page.locator("#sum-hot")
    await expect(hot).to_have_text("Beyond limits0no device")
    await devices.send("warm", temperature=31, humidity=40)
    await expect(hot).to_have_text("Beyond limits1none critical")
    await expect(hot).to_have_attribute("data-level", "warn")
    await devices.send("hot", temperature=50, humidity=40)
    await devices.send("leak", temperature=20, humidity=40, pressure=0.5)
    await expect(hot).to_have_text("Beyond limits32 readings critical")
    await expect(hot).to_have_attribute("data-level", "alarm")
    value = page.locator(".row", has_text="warm").locator("[data-beyond]")
    await expect(value).to_have_text("temperature 31 warn")
    plain = page.locator(".row", has_text="fine-1").locator(".values > *").first
    colour = "(node) => getComputedStyle(node).color"
    assert await value.evaluate(colour) != await plain.evaluate(colour)

    await hot.click()
    await expect(page.locator(".row .id")).to_have_text(["hot", "leak", "warm"])
    await expect(page.locator("#devices-note")).to_have_text("3 beyond a limit, of 8 devices")
    await expect(page.locator(".row", has_text="hot").locator("[data-beyond]")).to_contain_text("50 crit")
    await devices.send("warm", temperature=29, humidity=40)
    await expect(page.locator(".row .id")).to_have_text(["hot", "leak"])
    if pictures := os.environ.get("PICTURES"):
        await page.screenshot(path=Path(pictures, "hot.png"))

    await page.locator(".row", has_text="leak").click()
    metric = page.locator("#device tr", has_text="pressure")
    await expect(metric.locator("td").first).to_contain_text("crit")
    await devices.send("leak", temperature=20, humidity=40, pressure=2)
    await expect(metric.locator("td").first).not_to_contain_text("crit")


@pytest.mark.usefixtures("projector")
@pytest.mark.full
async def test_a_value_without_a_column(devices: Devices, open_page: Open) -> None:
    """What is beyond shows beside the device's name where no column has it, on a telephone too."""
    for number in range(5):
        await devices.send(f"fine-{number}", a=1, b=1, c=1)
    await devices.send("leak", a=1, b=1, c=1, pressure=0.5)
    page = await open_page(size=PHONE)
    await expect(page.locator("#sum-hot")).to_have_text("Beyond limits11 reading critical")
    await page.locator("#sum-hot").click()
    await expect(page.locator(".row .region")).to_have_text(["pressure crit"])
    await page.locator("#filter-off").click()
    await expect(page.locator(".row")).to_have_count(6)


@pytest.mark.full
async def test_without_limits_there_is_no_figure(
    devices: Devices, open_page: Open, run_command: Callable[..., Awaitable[RunningCommand]]
) -> None:
    """A site that sets none sees nothing of them."""
    command = await run_command("projector", "run")
    await command.event("connected")
    await devices.send("a", temperature=99)
    page = await open_page()
    await expect(page.locator(".row")).to_have_count(1)
    await expect(page.locator("#sum-hot")).to_be_hidden()
    await expect(page.locator(".row [data-beyond]")).to_have_count(0)
