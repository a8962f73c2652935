from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.browser.scene import SILENT, last_hour, take_pictures
from tests.support.devices import publish

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Browser

    from tests.browser.conftest import Devices, FallSilent, Open

pytestmark = pytest.mark.usefixtures("gateway", "projector")

MOST_BYTES = 300_000
MANY = 10_000


@pytest.mark.full
async def test_pictures_for_the_readme(
    browser: Browser,
    base: str,
    broker_port: int,
    topic_prefix: str,
    tmp_path: Path,
    fall_silent: FallSilent,
) -> None:
    """The pictures in `docs/img` can be taken again: 200 devices, silent ones first, small files."""
    await publish(broker_port, last_hour(f"{topic_prefix}/{{device_id}}/telemetry", time.time()))
    await fall_silent(SILENT)
    pictures = await take_pictures(browser, base, tmp_path)
    assert {picture.name for picture in pictures} == {"live-light.png", "live-dark.png", "live-phone.png"}
    for picture in pictures:
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert picture.stat().st_size <= MOST_BYTES


@pytest.mark.full
async def test_ten_thousand_devices(
    devices: Devices, broker_port: int, topic_prefix: str, open_page: Open
) -> None:
    """Of ten thousand devices only those in sight are in the page, and each can be scrolled to and found."""
    names = [f"d{number:05d}" for number in range(MANY)]
    await publish(broker_port, ((f"{topic_prefix}/{name}/telemetry", b'{"level": 1}') for name in names))
    page = await open_page()
    await expect(page.locator("#devices-note")).to_have_text(
        "10,000 devices, what needs attention first", timeout=30_000
    )
    await expect(page.locator(".row").first).to_contain_text("d00000")
    await page.locator("#list").evaluate("node => node.scrollTo(0, node.scrollHeight)")
    await expect(page.locator(".row").last).to_contain_text("d09999level 1")
    assert await page.locator(".row").count() < 60
    await page.locator("#query").fill("d0777")
    await expect(page.locator(".row")).to_have_count(10)
    await page.locator("#query").fill("")
    await page.locator("#list").press("Home")
    await expect(page.locator(".row:focus-within")).to_contain_text("d00000")
    await devices.send("d00000", level=7)
    await expect(page.locator(".row").first).to_contain_text("level 7")
