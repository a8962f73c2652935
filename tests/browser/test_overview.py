from __future__ import annotations

import json
import shlex
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect
from redis.asyncio import Redis

from deploy.local.browser import PHONE

if TYPE_CHECKING:
    from deploy.local.browser import Scheme
    from runtime.settings import Settings
    from tests.browser.conftest import Devices, FallSilent, Open

pytestmark = pytest.mark.usefixtures("gateway", "projector")

ARRIVAL_MS = 5000


async def test_five_seconds_after_arriving(
    devices: Devices, open_page: Open, fall_silent: FallSilent
) -> None:
    """In five seconds one sees who is silent, what is busy, how far behind it is, and what was rejected."""
    for number in range(3):
        await devices.send("busy-1", region="north", temperature=20 + number)
    await devices.send("lost-1", region="south", temperature=4)
    await devices.send_raw("odd-1", b"secret payload")
    await fall_silent({"lost-1": 20})
    await devices.send("busy-1", ago=timedelta(hours=9), region="north", temperature=23)  # its clock is slow
    page = await open_page()
    await expect(page.locator("#sum-silent")).to_contain_text("1of 2", timeout=ARRIVAL_MS)
    await expect(page.locator("#sum-rejected")).to_contain_text("1malformed_json 1", timeout=ARRIVAL_MS)
    await expect(page.locator("#sum-behind")).to_contain_text("up to date", timeout=ARRIVAL_MS)
    first = page.locator(".row").first
    await expect(first).to_contain_text("lost-1", timeout=ARRIVAL_MS)
    await expect(first).to_contain_text("Silent 20 min")
    await expect(page.locator("#region-rows li")).to_have_count(2)
    await expect(page.locator("#region-rows")).to_contain_text("1 of 1 silent")
    await expect(page.locator("#letter-rows")).to_contain_text("odd-1")
    await expect(page.locator("#stream-rows")).to_contain_text("Stream 0")
    assert "secret" not in await page.content()
    assert await page.title() == "(1 silent) MQTT edge gateway"


async def test_a_message_changes_the_page(devices: Devices, open_page: Open) -> None:
    """A message that a device publishes is on the page that is open, and so is the next."""
    page = await open_page()
    await expect(page.locator("#list-empty")).to_have_text("No device has been heard yet.")
    await devices.send("a1", region="north", temperature=21.5)
    row = page.locator(".row", has_text="a1")
    await expect(row).to_contain_text("temperature 21.5")
    await expect(row).to_contain_text("Heard")
    await devices.send("a1", region="north", temperature=22.5)
    await expect(row).to_contain_text("temperature 22.5")


@pytest.mark.full
async def test_a_sparkline_that_is_none(devices: Devices, open_page: Open, settings: Settings) -> None:
    """What somebody else wrote where a device's sparklines are costs that line, not the page."""
    async with Redis.from_url(settings.redis.url) as redis:
        await redis.hset("device:spark:a1", mapping={"level": "1, 2, 3", b"\xff": ""})
    await devices.send("a1", level=1)
    page = await open_page()
    await expect(page.locator(".row")).to_contain_text("level 1")
    await devices.send("a1", level=2)
    await expect(page.locator(".row")).to_contain_text("level 2")


@pytest.mark.full
async def test_a_key_that_never_changes(devices: Devices, open_page: Open) -> None:
    """A device whose key is the same in all messages is named, with the line that mends it and the replay."""
    for level in range(4):
        await devices.send_raw("ble;it's", json.dumps({"id": "A4:C1", "level": level}).encode())
    for level in range(2):
        await devices.send_raw("counter", json.dumps({"id": "1", "level": level}).encode())
    page = await open_page()
    told = page.locator("#constant-keys li")
    await expect(told).to_contain_text("ble;it's names one key in all its messages, 'A4:C1'.")
    await expect(told).to_contain_text('put key = "" on the route of ')
    await expect(told).to_contain_text("/ble;it's/telemetry, then gateway dead-letters replay")
    await expect(told).to_contain_text(shlex.join(("--device", "ble;it's")))
    await expect(told).to_have_count(1)
    await page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    overflow = "node => node.scrollHeight - node.clientHeight"
    assert await page.locator("#rejected").evaluate(overflow) == 0


async def test_a_region_and_a_search_narrow_the_list(devices: Devices, open_page: Open) -> None:
    """A region, a part of an id, or both, leave the devices they fit; the address keeps them."""
    for device, region in (("pump-1", "north"), ("pump-2", "south"), ("fan-1", "north")):
        await devices.send(device, region=region, level=1)
    page = await open_page()
    await page.locator("#region-rows a", has_text="north").click()
    await expect(page.locator(".row")).to_have_count(2)
    await page.locator("#query").fill("PUMP")
    await expect(page.locator(".row")).to_have_count(1)
    await expect(page.locator(".row")).to_contain_text("pump-1")
    await page.reload()
    await expect(page.locator("#devices-note")).to_have_text("1 with “PUMP” in north, of 3 devices")
    await page.locator("#query").fill("nobody")
    await expect(page.locator("#list-empty")).to_have_text("No device matches.")
    await page.get_by_role("button", name="Show all").click()
    await expect(page.locator(".row")).to_have_count(3)


async def test_keyboard_walk(devices: Devices, open_page: Open) -> None:
    """Everything can be reached and left without a mouse, and it is seen where one is."""
    for number in (1, 2, 3):
        await devices.send(f"a{number}", level=number)
    page = await open_page()
    await expect(page.locator(".row")).to_have_count(3)
    focused = page.locator(":focus")
    await page.keyboard.press("Tab")
    await expect(focused).to_have_text("Skip to the devices")
    await expect(focused).to_be_in_viewport()
    await page.keyboard.press("/")
    await expect(page.locator("#query")).to_be_focused()
    await page.keyboard.type("a")
    await page.keyboard.press("Enter")
    await expect(focused).to_contain_text("a1")
    await page.keyboard.press("ArrowDown")
    await expect(focused).to_contain_text("a2")
    await page.keyboard.press("End")
    await expect(focused).to_contain_text("a3")
    outline = await focused.evaluate("node => getComputedStyle(node).outlineStyle")
    assert outline == "solid"
    await page.keyboard.press("Shift+Tab")
    await page.keyboard.press("Shift+Tab")
    await expect(page.get_by_role("button", name="Last seen")).to_be_focused()
    await page.keyboard.press("Tab")
    await expect(focused).to_contain_text("a3")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="a3")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(page.locator("#overview")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("hash_", ["", "#/device/a1"])
@pytest.mark.full
async def test_legible_on_a_phone(
    devices: Devices, open_page: Open, fall_silent: FallSilent, scheme: Scheme, hash_: str
) -> None:
    """At 360 pixels nothing is cut off, and every text has the contrast that WCAG 2.2 AA asks for."""
    await devices.send("a1", region="north", temperature=21.5, humidity=40, status="ok")
    await devices.send("lost-1", region="north", temperature=4)
    await fall_silent({"lost-1": 20})
    await devices.send_raw("a1", b"{")
    page = await open_page(hash_, size=PHONE, scheme=scheme)
    await expect(page.get_by_text("malformed_json").locator("visible=true").first).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth") == 360
    assert await page.evaluate(_TOO_FAINT) == []


_TOO_FAINT = """() => {
  const channel = (v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const faint = [];
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility()) continue;
    const [ink, paper] = [parse(getComputedStyle(node).color), ground(node)];
    const [a, b] = [luminance(ink), luminance(paper)].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) faint.push(`${walker.currentNode.data}: ${ink} on ${paper}`);
  }
  return faint;
}"""
