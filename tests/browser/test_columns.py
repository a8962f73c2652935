from __future__ import annotations

import csv
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from playwright.async_api import expect

from deploy.local.browser import PHONE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from playwright.async_api import Locator, Page

    from tests.browser.conftest import Devices, FallSilent, Open
    from tests.support.commands import RunningCommand

KNOWN = "expected device, region, seen or metric:<name>, with - in front to turn it"
PLACES = """() => {
  const parts = document.querySelectorAll("#columns > div, .row a > *");
  return [...parts].map((node) => node.getBoundingClientRect().x);
}"""
pytestmark = pytest.mark.usefixtures("gateway")


@pytest.fixture
async def projector(run_command: Callable[..., Awaitable[RunningCommand]]) -> RunningCommand:
    """A projector of a site that names a unit."""
    command = await run_command("projector", "run", EDGE_UNITS='{"speed": "km/h"}')
    await command.event("connected")
    return command


def heads(page: Page) -> Locator:
    """Which metrics have a column."""
    return page.locator("#columns .values button")


async def order(page: Page, *devices: str) -> None:
    """Wait until the devices stand in this order."""
    await expect(page.locator(".row .id")).to_have_text(list(devices))


@pytest.mark.usefixtures("projector")
async def test_columns_are_what_most_devices_have(devices: Devices, open_page: Open) -> None:
    """Without a choice the most common metrics have columns; who has none of them shows what it has."""
    for number in range(3):
        await devices.send(f"a{number}", battery=50, zeta=number, temperature_c=20.5)
    await devices.send("b0", zeta=9, temperature_c=-3.25)
    await devices.send("odd", firmware="1.10")
    page = await open_page()
    await expect(heads(page)).to_have_text(["temperature_c", "zeta", "battery"])
    await expect(page.locator(".row", has_text="b0").locator(".values > *")).to_have_text(
        ["temperature_c -3.25\N{NARROW NO-BREAK SPACE}°C", "zeta 9", ""]
    )
    await expect(page.locator(".row", has_text="odd")).to_contain_text("firmware 1.10")


@pytest.mark.usefixtures("projector")
@pytest.mark.full
async def test_columns_that_somebody_chose(devices: Devices, open_page: Open) -> None:
    """Columns are chosen from what the fleet has, with the keyboard too, and remembered by the browser."""
    await devices.send("a1", speed=7, level=1.5, rssi=-70, status="ok")
    page = await open_page()
    await expect(heads(page)).to_have_text(["level", "speed", "status"])
    menu = page.locator("#choose-columns")
    await menu.locator("summary").press("Enter")
    for metric in ("level", "speed", "status"):
        await menu.get_by_label(metric).press("Space")
    await menu.get_by_label("status").press("Space")
    await menu.get_by_label("speed").press("Space")
    await page.keyboard.press("Escape")
    await expect(menu.locator(".panel")).to_be_hidden()
    await expect(menu.locator("summary")).to_be_focused()
    await expect(heads(page)).to_have_text(["status", "speed"])
    await page.reload()
    await expect(heads(page)).to_have_text(["status", "speed"])
    await expect(page.locator(".row .values > *")).to_have_text(
        ["status ok", "speed 7\N{NARROW NO-BREAK SPACE}km/h"]
    )
    await devices.send("a1", speed=8, status="ok")
    await expect(page.locator(".row")).to_contain_text("speed 8")
    await menu.locator("summary").click()
    await page.get_by_role("button", name="Most common").click()
    await expect(heads(page)).to_have_text(["level", "speed", "status"])


@pytest.mark.usefixtures("projector")
@pytest.mark.full
async def test_a_metric_that_few_devices_have(devices: Devices, open_page: Open) -> None:
    """A column may be of a metric that does not come with the feed; its values follow all the same."""
    common: dict[str, Any] = {f"m{number}": number for number in range(7)}
    for device in ("a1", "a2", "a3"):
        await devices.send(device, **common)
    await devices.send("a1", rare=41)
    page = await open_page()
    await page.locator("#choose-columns summary").click()
    for metric in ("m0", "m1", "m2"):
        await page.get_by_role("checkbox", name=metric).uncheck()
    await page.get_by_role("checkbox", name="rare").check()
    row = page.locator(".row", has_text="a1")
    await expect(row).to_contain_text("rare 41")
    await devices.send("a1", rare=42)
    await expect(row).to_contain_text("rare 42")


@pytest.mark.usefixtures("projector")
async def test_sorting_by_a_column(devices: Devices, open_page: Open, fall_silent: FallSilent) -> None:
    """Each head sorts, one way, then the other, then back; who has no value is last; the address keeps it."""
    await devices.send("lost", ago=timedelta(minutes=30), region="south", level=5)
    await devices.send("a1", ago=timedelta(seconds=20), region="west", level=10)
    await devices.send("a2", ago=timedelta(seconds=10), region="east", level=9.5)
    await devices.send("a3", region="north", other="x")
    await fall_silent({"lost": 30})
    page = await open_page()
    await order(page, "lost", "a1", "a2", "a3")
    level = heads(page).first
    await level.press("Enter")
    await order(page, "a1", "a2", "lost", "a3")
    await expect(level).to_have_attribute("aria-label", "level, sorted, greatest first")
    await level.press("Space")
    await order(page, "lost", "a2", "a1", "a3")
    await page.reload()
    await order(page, "lost", "a2", "a1", "a3")
    await expect(level).to_have_attribute("aria-pressed", "true")
    await level.click()
    await order(page, "lost", "a1", "a2", "a3")
    for head, first in {"Region": "a2", "Device": "a1", "Last seen": "a3"}.items():
        await page.locator("#columns").get_by_role("button", name=head).click()
        await expect(page.locator(".row .id").first).to_have_text(first)
    await page.locator("#columns").get_by_role("button", name="Last seen").click()
    await order(page, "lost", "a1", "a2", "a3")
    await page.locator("#query").fill("a")
    await order(page, "a1", "a2", "a3")
    await page.locator("#columns").get_by_role("button", name="State").click()
    assert page.url.endswith("#/?q=a")


@pytest.mark.usefixtures("projector")
@pytest.mark.usefixtures("projector")
@pytest.mark.full
async def test_who_fell_silent_last(devices: Devices, open_page: Open, fall_silent: FallSilent) -> None:
    """Among many that are silent those of a moment ago are found at once."""
    silent = {"dead": 600, "old": 60, "new": 20}
    for device in (*silent, "well"):
        await devices.send(device, level=1)
    await fall_silent(silent)
    page = await open_page()
    await order(page, "dead", "old", "new", "well")
    await page.get_by_role("link", name="who fell silent last").click()
    await order(page, "new", "old", "dead")
    await expect(page.locator("#devices-note")).to_have_text(
        "3 that fell silent, the last first, of 4 devices"
    )


@pytest.mark.usefixtures("projector")
async def test_an_order_that_is_none(base: str) -> None:
    """An order that nobody knows is refused, with those that there are."""
    async with httpx.AsyncClient(base_url=base) as http:
        answer = await http.get("/live/devices", params={"sort": "size"})
    assert answer.status_code == 400
    assert answer.json()["detail"] == f"sort: {KNOWN}"


@pytest.mark.usefixtures("projector")
async def test_the_list_as_a_file(
    devices: Devices, open_page: Open, fall_silent: FallSilent, tmp_path: Path
) -> None:
    """The file has what is shown, filtered and sorted, quoted, and each number to its last digit."""
    await devices.send('a "1", x', region="north", level=52.520008123456, status="fine")
    await devices.send("=cmd|'x'!A0", region="north", level=-7, status="-1")
    await devices.send("b1", region="south", level=100)
    await devices.send("a2", region="north", level=1e21, status="two\nlines")
    await fall_silent({"a2": 20})
    page = await open_page("#/?region=north&sort=-metric:level")
    await expect(page.locator(".row")).to_have_count(3)
    async with page.expect_download() as started:
        await page.get_by_role("button", name="CSV").click()
    download = await started.value
    assert download.suggested_filename.startswith("devices-20")
    await download.save_as(tmp_path / "list.csv")
    text = (tmp_path / "list.csv").read_bytes().decode()
    head, *rows = csv.reader(text.splitlines(keepends=True))
    assert head[:6] == ["device", "state", "region", "tags", "last_seen", "usual_s"]
    new = ["heard_at", "name", "labels", "expected_s", "offline_since"]
    assert head[-5:] == new, "what is new stands behind what people count columns by"
    table = [dict(zip(head, row, strict=True)) for row in rows]
    assert [(row["device"], row["state"], row["level"], row["status"]) for row in table] == [
        ("a2", "silent", "1e+21", "two\nlines"),
        ('a "1", x', "unknown", "52.520008123456", "fine"),
        ("'=cmd|'x'!A0", "unknown", "-7", "-1"),
    ]
    assert table[0]["last_seen"].endswith("Z")
    assert table[0]["heard_at"] < table[0]["last_seen"]
    assert table[1]["heard_at"] == ""


@pytest.mark.usefixtures("projector")
@pytest.mark.full
async def test_a_quiet_plant_is_no_fault(devices: Devices, open_page: Open) -> None:
    """A message now and then is a rate a minute, without a colour that says that something is wrong."""
    await devices.send("a1", level=1)
    page = await open_page()
    rate = page.locator("#sum-rate")
    await expect(rate.locator("strong")).to_have_text("0/min")
    for level in (2, 3):
        await devices.send("a1", level=level)
        await expect(page.locator(".row")).to_contain_text(f"level {level}")
    await expect(rate.locator("strong")).to_have_text("12/min", timeout=20_000)
    assert await rate.get_attribute("data-level") in {"ok", None}
    await expect(rate.locator(".label")).to_have_text("Messages, last 10 s")


UNITS = {
    "temperature_c": "°C",
    "battery_pct": "%",
    "supply_v": "V",
    "power_w": "W",
    "energy_kwh": "kWh",
    "pressure_hpa": "hPa",
    "latency_ms": "ms",
    "outside.temperatureC": "°C",
    "speed": "km/h",
    "wheel.speed": "km/h",
    "silent_w": "",
    "phase_a": "",
    "constructor": "",
    "x_constructor": "",
    "temperature": "",
}


@pytest.mark.usefixtures("projector")
@pytest.mark.full
async def test_units(open_page: Open) -> None:
    """A unit is what the site says, also that there is none, else what the end of a name tells."""
    page = await open_page()
    found = await page.evaluate(
        """async (names) => {
          const { unitOf, useUnits } = await import("/live/units.js");
          useUnits({ speed: "km/h", silent_w: "" });
          return Object.fromEntries(names.map((name) => [name, unitOf(name)]));
        }""",
        list(UNITS),
    )
    assert found == UNITS


@pytest.mark.usefixtures("projector")
@pytest.mark.full
async def test_nothing_moves_while_values_change(devices: Devices, open_page: Open) -> None:
    """Long names and values stay within their columns, in a window and on a phone."""
    await devices.send("a1", a_rather_long_name_of_a_metric=1, level=1, status="ok")
    for size in ((1280, 800), PHONE):
        page = await open_page(size=size)
        await expect(page.locator(".row")).to_contain_text("level 1")
        before = await page.evaluate(PLACES)
        await devices.send("a1", level=123456789.25, status="a text that is much longer than its column")
        await expect(page.locator(".row")).to_contain_text("123,456,789.25")
        if size != PHONE:
            assert await page.evaluate(PLACES) == before
        assert await page.evaluate("document.documentElement.scrollWidth") == size[0]
        await devices.send("a1", level=1, status="ok")
