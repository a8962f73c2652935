from __future__ import annotations

import asyncio
import csv
import json
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING

import httpx
import pytest
from playwright.async_api import expect

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from playwright.async_api import Route

    from deploy.local.browser import Visit
    from tests.browser.conftest import Devices, Open
    from tests.support.commands import RunningCommand

pytestmark = pytest.mark.usefixtures("gateway")

NEWS_MS = 15_000  # windows are asked for every five seconds
CLOCK = "var ahead = 0, now = performance.now.bind(performance); performance.now = () => now() + ahead"
HISTORY_MS = 40_000  # minutes are written every ten seconds or so, and looked at twice a minute


@pytest.fixture
async def projector(run_command: Callable[..., Awaitable[RunningCommand]]) -> RunningCommand:
    """A projector of a site with a Grafana."""
    command = await run_command("projector", "run", EDGE_PROJECTOR_GRAFANA_URL="http://grafana.example/edge/")
    await command.event("connected")
    return command


def cells(*texts: str) -> list[str]:
    """Units stand behind a narrow space."""
    return [text.replace(" ", "\N{NARROW NO-BREAK SPACE}") for text in texts]


@pytest.mark.usefixtures("projector")
@pytest.mark.full
async def test_windows_beside_those_of_all_time(devices: Devices, open_page: Open) -> None:
    """A glitch of yesterday stays in the extremes of all time, and is in none of the windows."""
    await devices.send("a1", ago=timedelta(hours=26), level_c=-9999, note="text")
    await devices.send("a1", ago=timedelta(hours=3), level_c=1)
    for minutes, level in ((40, 4), (20, 5), (0, 6), (0, 6.5)):
        await devices.send("a1", ago=timedelta(minutes=minutes), level_c=level)
    page = await open_page("#/device/a1")
    row, note = (
        page.locator("#device tbody tr", has_text=name).locator("td") for name in ("level_c", "note")
    )
    last, rate = "6.5 °C", "+3.38 °C"
    await expect(row).to_have_text(cells(last, rate, "1 °C", "4.5 °C", "6.5 °C", "5"))
    await expect(note).to_have_text(["text", "", "", "", "", ""])
    choices = page.get_by_role("group", name="Of how long").get_by_role("button")
    await expect(choices).to_have_text(["all time", "24 h", "1 h", "5 min"])
    for span, its in {
        "all time": cells("-9999 °C", "-1662.75 °C", "6.5 °C", "6"),
        "1 h": cells("4 °C", "5.375 °C", "6.5 °C", "4"),
        "5 min": cells("6 °C", "6.25 °C", "6.5 °C", "2"),
    }.items():
        await choices.get_by_text(span).click()
        await expect(row).to_have_text([*cells(last, rate), *its])
    await page.reload()
    await expect(choices.get_by_text("5 min")).to_have_attribute("aria-pressed", "true")
    await devices.send("a1", level_c=7)
    await expect(row.last).to_have_text("3", timeout=NEWS_MS)


@pytest.mark.usefixtures("projector")
@pytest.mark.full
async def test_all_time_where_windows_are_away(
    visits: Callable[..., Awaitable[Visit]], devices: Devices, base: str
) -> None:
    """While windows cannot be had, all time is shown, and it says so; when they can, they are back."""
    await devices.send("a1", ago=timedelta(hours=30), level=1)
    await devices.send("a1", level=3)
    page = (await visits()).page

    async def refuse(route: Route) -> None:
        await route.fulfill(
            status=503,
            content_type="application/problem+json",
            body=json.dumps({"detail": "history is away"}),
        )

    await page.route("**/device/windows?*", refuse)
    await page.goto(f"{base}/#/device/a1")
    statistics, row = page.get_by_label("Statistics"), page.locator("#device tbody tr td")
    said = "All time, for what was measured in the last 24 h is not known now: history is away"
    await expect(statistics.locator(".note")).to_have_text(said)
    await expect(row).to_have_text(["3", "", "1", "2", "3", "2"])
    await page.get_by_role("button", name="all time").click()
    await expect(statistics.locator(".note")).to_be_hidden()
    await page.get_by_label("Of how long").get_by_text("24 h").click()
    await page.unroute_all()
    await expect(statistics.locator(".note")).to_be_hidden(timeout=NEWS_MS)
    await expect(row).to_have_text(["3", "", "3", "3", "3", "1"])


@pytest.mark.usefixtures("projector")
@pytest.mark.full
async def test_a_device_that_measured_nothing_lately(
    visits: Callable[..., Awaitable[Visit]], devices: Devices, base: str
) -> None:
    """Until it is known, and where nothing is, the page says so; a question that is slow is not put again."""
    await devices.send("a1", ago=timedelta(hours=30), level=1)
    page = (await visits()).page
    asked: list[Route] = []
    looked = asyncio.Semaphore(0)

    async def hold(route: Route) -> None:
        asked.append(route)

    async def look(route: Route) -> None:
        looked.release()
        await route.continue_()

    await page.add_init_script(CLOCK)
    await page.route("**/device/windows?*", hold)
    await page.route("**/device/stats?*", look)
    await page.goto(f"{base}/#/device/a1")
    note, row = page.get_by_label("Statistics").locator(".note"), page.locator("#device tbody tr td")
    await expect(note).to_have_text("All time, until what was measured in the last 24 h is known.")
    await expect(row).to_have_text(["1", "", "1", "1", "1", "1"])
    await page.evaluate("ahead = 6000")
    while not looked.locked():
        await looked.acquire()
    for _ in range(3):  # a question comes after each
        await looked.acquire()
    assert len(asked) == 1
    answer = await asked[0].fetch()
    await asked[0].fulfill(response=answer)
    await expect(note).to_have_text("Nothing was measured in the last 24 h.")
    await expect(row).to_have_text(["1", "", "", "", "", ""])

    async def keep_less(route: Route) -> None:
        await route.fulfill(json=(await answer.json()) | {"since_24h": None})

    await page.unroute_all()
    await page.route("**/device/windows?*", keep_less)
    await expect(note).to_have_text("History is not kept that far back.", timeout=NEWS_MS)
    await page.get_by_role("button", name="all time").click()
    await expect(note).to_be_hidden()


@pytest.mark.usefixtures("projector")
async def test_the_chart_as_a_file(devices: Devices, open_page: Open, tmp_path: Path) -> None:
    """The file has the points of the chart with all their digits, and times in UTC."""
    await devices.send("a1", ago=timedelta(minutes=3), level=0.1)
    await devices.send("a1", ago=timedelta(minutes=3), level=0.2)
    page = await open_page("#/device/a1")
    await expect(page.locator("svg.chart path.line")).to_have_count(1, timeout=HISTORY_MS)
    async with page.expect_download() as started:
        await page.get_by_label("History").get_by_role("button", name="CSV").click()
    download = await started.value
    assert download.suggested_filename == "a1-level-1h.csv"
    await download.save_as(tmp_path / "chart.csv")
    head, *rows = csv.reader((tmp_path / "chart.csv").read_text().splitlines())
    assert head == ["at", "count", "min", "avg", "max"]
    assert sum(int(row[1]) for row in rows) == 2
    assert {row[2] for row in rows} <= {"0.1", "0.2"}
    assert all(row[0].endswith(":00.000Z") for row in rows)


@pytest.mark.usefixtures("projector")
async def test_the_newest_message_and_what_was_rejected(devices: Devices, open_page: Open, base: str) -> None:
    """A device's newest message is shown as it is stored, rejected bytes as they came; both as text."""
    await devices.send("a1", status="<img src=x onerror=alert(1)>", total=1234567.250)
    await devices.send_raw("a1", b'{"level": <script>alert(1)</script>\xff\n')
    page = await open_page("#/device/a1")
    await expect(page.locator("#device-letters li")).to_have_count(1)
    assert "script" not in await page.locator("#device").inner_html()
    stored, letter = page.locator("details.raw").nth(0), page.locator("details.raw").nth(1)
    await stored.locator("summary").press("Enter")
    await expect(stored.locator("pre")).to_contain_text('"status": "<img src=x onerror=alert(1)>"')
    await expect(stored.locator("pre")).to_contain_text('"total": 1234567.25')
    await expect(stored.locator(".note")).to_contain_text(", key m1")
    await letter.locator("summary").click()
    await expect(letter.locator("pre")).to_have_text('{"level": <script>alert(1)</script>\\xff\n')
    await expect(letter.locator(".note")).to_contain_text("37 bytes on ")
    async with httpx.AsyncClient(base_url=base) as http:
        for path in ("/live/message?device=nobody", "/live/letters/999999"):
            answer = await http.get(path)
            assert answer.status_code == HTTPStatus.NOT_FOUND
            assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.usefixtures("projector")
@pytest.mark.full
async def test_any_name_has_a_page(devices: Devices, open_page: Open) -> None:
    """A device whose name means something in an address is found like any other, with its history."""
    names = {41: "..", 42: ".", 43: "50%2F", 44: "a?b c"}
    for level, device in names.items():
        await devices.send(device, level=level)
    for level, device in names.items():
        page = await open_page()
        await page.locator(".row", has_text=f"level {level}").click()
        await expect(page.get_by_role("heading", name=device, exact=True)).to_be_visible()
        await expect(page.locator("#device tbody tr")).to_contain_text(f"level{level}")
        readout = page.locator("#chart-readout")
        await expect(readout).to_contain_text(f"{level} to {level}, 1 value,", timeout=HISTORY_MS)


@pytest.mark.usefixtures("projector")
@pytest.mark.full
async def test_long_payloads_are_cut(devices: Devices, open_page: Open) -> None:
    """Of a payload without end its beginning is shown, and how long it is."""
    await devices.send("a1", level=1)
    await devices.send_raw("a1", b"x" * 200_000)
    page = await open_page("#/device/a1")
    await page.locator("#device-letters summary").click()
    await expect(page.locator("#device-letters .note")).to_contain_text("200,000 bytes on ")
    await expect(page.locator("#device-letters .note")).to_contain_text("the first 4,000")
    assert len(await page.locator("#device-letters pre").inner_text()) == 4000


@pytest.mark.usefixtures("projector")
@pytest.mark.full
async def test_a_link_to_grafana(devices: Devices, open_page: Open) -> None:
    """A device's page leads to its dashboard, whatever its name."""
    await devices.send("a 1&x=2", level=1)
    page = await open_page("#/device/a%201%26x%3D2")
    link = page.get_by_role("link", name="Open in Grafana")
    await expect(link).to_have_attribute(
        "href", "http://grafana.example/edge/d/edge-device?var-device=a+1%26x%3D2"
    )
    await expect(link).to_have_attribute("rel", "noopener noreferrer")


@pytest.mark.full
async def test_no_link_without_a_grafana(
    run_command: Callable[..., Awaitable[RunningCommand]], devices: Devices, open_page: Open
) -> None:
    """Where the site names no Grafana there is no link."""
    projector = await run_command("projector", "run")
    await projector.event("connected")
    await devices.send("a1", level=1)
    page = await open_page("#/device/a1")
    await expect(page.locator("#device tbody tr")).to_contain_text("level")
    await expect(page.get_by_role("link", name="Open in Grafana")).to_be_hidden()


@pytest.mark.usefixtures("projector")
async def test_each_refusal_has_its_own_words(
    visits: Callable[..., Awaitable[Visit]], devices: Devices, base: str
) -> None:
    """What the server says is what the page says: of a device, its history, and the list; a proxy too."""
    await devices.send("a1", level=1)
    page = (await visits()).page
    said = "the ranks are being closed"

    async def refuse(route: Route) -> None:
        await route.fulfill(
            status=503, content_type="application/problem+json", body=json.dumps({"detail": said})
        )

    async def proxy(route: Route) -> None:
        await route.fulfill(status=502, content_type="text/html", body="<h1>Bad Gateway</h1>")

    await page.goto(f"{base}/#/device/a1")
    await expect(page.locator("#device tbody tr")).to_contain_text("level")
    await page.route("**/history?*", refuse)
    await page.get_by_role("button", name="6 h").click()
    await expect(page.locator("#chart-readout")).to_have_text(said)
    await page.route("**/device/stats?*", refuse)
    message = page.locator("#device > .note")
    await expect(message).to_have_text(said)
    await page.route("**/live/device?*", proxy)
    await expect(message).to_have_text("The answer was 502 Bad Gateway")
    await page.unroute_all()
    await expect(message).to_be_empty()
    await page.goto(f"{base}/#/?q=a")
    await expect(page.locator(".row")).to_have_count(1)
    await page.route("**/live/devices?*", refuse)
    await expect(page.locator("#list-trouble")).to_have_text(said)
    await page.unroute_all()
    await expect(page.locator("#list-trouble")).to_be_hidden()
