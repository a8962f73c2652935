from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

if TYPE_CHECKING:
    from tests.browser.conftest import Devices, Open

pytestmark = pytest.mark.usefixtures("gateway", "projector")

HISTORY_MS = 100_000  # a minute is written when it is over


async def test_a_device_with_its_history(devices: Devices, open_page: Open) -> None:
    """A device has an address of its own: statistics, history, and what was rejected of it."""
    for minutes in (9, 8, 7):
        await devices.send("a1", ago=timedelta(minutes=minutes), region="north", level=minutes, status="ok")
    await devices.send_raw("a1", b"{")
    page = await open_page("#/device/a1")
    await expect(page.get_by_role("heading", name="a1")).to_be_visible()
    await expect(page.locator("#device tbody tr", has_text="level")).to_have_text("level77893")
    await expect(page.locator("#device tbody tr", has_text="status")).to_contain_text("ok")
    await expect(page.locator("#device-letters")).to_contain_text("malformed_json")
    await expect(page.locator("#chart-readout")).to_contain_text("7 to 9, 3 values", timeout=HISTORY_MS)
    await expect(page.locator("svg.chart path.line")).to_have_count(1)
    await devices.send("a1", level=1)
    await expect(page.locator("#device tbody tr", has_text="level")).to_contain_text("1")
    await page.get_by_label("How far back").get_by_text("24 h").click()
    await expect(page.locator("#chart-readout")).to_contain_text("level, last 24 h")


async def test_a_device_that_nobody_has_heard(devices: Devices, open_page: Open) -> None:
    """An address with an unknown device says so, shows what was rejected of it, and waits for it."""
    await devices.send_raw("new <b>", b"{")
    page = await open_page("#/device/new%20%3Cb%3E")
    await expect(page.get_by_role("heading", name="new <b>")).to_be_visible()
    await expect(page.locator("#device-letters")).to_contain_text("malformed_json")
    await expect(page.locator("#device")).to_contain_text("Nothing is known of a device of this name")
    await devices.send("new <b>", level=40)
    await expect(page.locator("#device tbody tr")).to_contain_text("level40")
    await expect(page.locator("#chart-readout")).to_contain_text("40 to 40, 1 value,", timeout=HISTORY_MS)
    await expect(page.locator("svg.chart path.line")).to_have_count(1)
    await page.get_by_role("link", name=re.compile("All devices")).click()
    await expect(page.locator("#overview")).to_be_visible()


@pytest.mark.full
async def test_a_course_that_hardly_moves(devices: Devices, open_page: Open) -> None:
    """A value that stays as it is has a chart too, be it nothing or so large that its neighbour is itself."""
    for vast in (1e16, 1e16 + 2):
        await devices.send("a1", none=0, ten=10, vast=vast)
    page = await open_page("#/device/a1")
    readout = page.locator("#chart-readout")
    await expect(readout).to_contain_text("2 values", timeout=HISTORY_MS)
    for metric in ("none", "ten", "vast"):
        await page.get_by_label("Metric").select_option(metric)
        await expect(readout).to_contain_text(re.compile(rf"^{metric}, .* 2 values"))
        await expect(page.locator("svg.chart path.line")).to_have_count(1)


@pytest.mark.full
async def test_an_address_that_somebody_typed(open_page: Open) -> None:
    """An escape that is none is taken as it is."""
    page = await open_page("#/device/50%")
    await expect(page.get_by_role("heading", name="50%")).to_be_visible()
    await expect(page.locator("#device")).to_contain_text("Nothing is known of a device of this name")


async def test_what_devices_send_is_text(devices: Devices, open_page: Open) -> None:
    """Markup in names and values is shown as it is, and does nothing."""
    await devices.send("a1", region="<img src=x onerror=alert(1)>", status="<script>alert(1)</script>")
    page = await open_page()
    await expect(page.locator("#region-rows")).to_contain_text("<img src=x")
    await expect(page.locator(".row")).to_contain_text("<script>alert(1)</script>")


async def test_values_are_shown_as_they_were_sent(devices: Devices, open_page: Open) -> None:
    """A version stays `1.10`, a serial number `007`, a position keeps its digits: in list and page."""
    await devices.send("a1", firmware="1.10", lat=52.520008)
    page = await open_page()
    await expect(page.locator("#list")).to_contain_text("lat 52.520008firmware 1.10")
    await devices.send("a1", serial="007", none="nan", total=1234567.25)
    await page.goto(page.url + "#/device/a1")
    for metric, shown in {"firmware": "1.10", "serial": "007", "none": "nan"}.items():
        await expect(page.locator("#device tbody tr", has_text=metric)).to_have_text(f"{metric}{shown}")
    await expect(page.locator("#device tbody tr", has_text="total")).to_contain_text("1,234,567.25")
