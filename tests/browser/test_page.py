"""What the page makes of what comes, and of what does not."""

from __future__ import annotations

import asyncio
import csv
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest
from msgspec import to_builtins
from msgspec.structs import replace
from playwright.async_api import expect

from projector.live.state import Devices, Hot, Letter, Region
from tests.browser.stage import AT_MS, Stage, row

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from deploy.local.browser import Visit

HOUR_MS = 3_600_000


@pytest.fixture
async def stage(visits: Callable[..., Awaitable[Visit]]) -> Stage:
    """A page that is not open yet."""
    return Stage((await visits()).page)


NUMBERS = {
    "1764000000123": "1,764,000,000,123",
    "-356938035643809": "-356,938,035,643,809",
    "10000000000000002": "10000000000000002",
    "1764000000.123": "1,764,000,000.123",
    "0.30000000000000004": "0.3",
}


async def test_numbers_are_what_was_sent(stage: Stage) -> None:
    """All digits of what a device sends are shown, but not the dust of binary fractions."""
    await stage.open()
    found = await stage.page.evaluate(
        """async (texts) => {
          const { number } = await import("/live/format.js");
          return [...texts.map((text) => number(+text)), number(1764000000123.4, 6), number(21.456789, 6)];
        }""",
        list(NUMBERS),
    )
    assert found == [*NUMBERS.values(), "1,764,000,000,123", "21.4568"]


async def test_what_nobody_knows_is_not_said_to_be_nothing(stage: Stage) -> None:
    """That there is no device, region or rejection is said when it is known, and not before."""
    await stage.open()
    away = {"redis": "gone", "postgres": "gone"}
    await stage.show(views_at_ms=None, letters_at_ms=None, problems=away)
    empty = stage.page.locator(".empty")
    await expect(stage.page.locator("#sum-silent strong")).to_have_text("\N{EN DASH}")
    await expect(empty.locator("visible=true")).to_have_count(0)
    await expect(stage.page.locator("#devices-note")).to_be_empty()
    await stage.show(views_at_ms=AT_MS, letters_at_ms=AT_MS, problems={})
    await expect(empty.locator("visible=true")).to_have_count(4)


async def test_what_the_watch_says(stage: Stage) -> None:
    """Before it has begun, and of whom it has not heard, nothing; silence is as long as nothing has come."""
    await stage.open()
    rows = [replace(row("new"), standing="unknown"), row("well", seen_ms=AT_MS - 9 * HOUR_MS)]
    begins = Devices(2, 2, None, 0, ["new", "well"], unknown=2)
    await stage.show(*rows, devices=begins)
    silent = stage.page.locator("#sum-silent")
    await expect(silent).to_contain_text("?not known yet")
    await expect(stage.page.locator(".row").first).to_contain_text("Not known yet")
    lost = replace(row("lost"), standing="silent", heard_ms=AT_MS - 1_200_000, usual_ms=HOUR_MS)
    said = Devices(3, 3, 1, 0, ["lost", "new", "well"], unknown=1)
    await stage.show(*rows, lost, devices=said)
    await expect(silent).to_contain_text("1of 3, 1 not known yet")
    first = stage.page.locator(".row").first
    await expect(first).to_contain_text("Silent 20 min")
    await expect(first).to_contain_text("usually 60 min")
    await expect(stage.page.locator(".row").last).to_contain_text("Heard")


@pytest.mark.parametrize(("unknown", "level"), [(0, "ok"), (5, "ok"), (6, "warn"), (50, "warn")])
async def test_none_silent_is_good_news_of_those_that_are_known(
    stage: Stage, unknown: int, level: str
) -> None:
    """While more than one in ten is not known yet nobody says that all is well."""
    await stage.open()
    await stage.show(row("a"), devices=Devices(50, 50, 0, 0, ["a"], unknown=unknown))
    await expect(stage.page.locator("#sum-silent")).to_have_attribute("data-level", level)


async def test_what_is_beyond_is_not_known_yet(stage: Stage) -> None:
    """The figure is there as soon as limits are set, and says no number before there is one."""
    await stage.open()
    hot = stage.page.locator("#sum-hot")
    await stage.show(row("a"), hot=Hot(None, None))
    await expect(hot).to_have_text("Beyond limits?not known yet")
    await expect(hot).to_have_attribute("data-level", "warn")
    await stage.show(hot=Hot(0, 0))
    await expect(hot).to_have_text("Beyond limits0no device")
    await stage.show(hot=None)
    await expect(hot).to_be_hidden()


async def test_names_that_the_language_has_too(stage: Stage) -> None:
    """A device or a metric may be called as a part of every object is."""
    shown = row("constructor", name=5, length=7)
    metric = {"count": 1, "last": 5, "min": 5, "max": 5, "avg": 5}
    stats = {"last_seen_ms": AT_MS, "updated_ms": AT_MS, "region": None, "sample_count": 1}
    stage.answers |= {
        "live/device": {"row": to_builtins(shown), "spark": None, "letters": [], "beyond": {}},
        "device/stats": {
            **stats,
            "clock_wrong_since": None,
            "metrics_dropped": 0,
            "tags": {},
            "metrics": {"constructor": metric},
        },
    }
    await stage.open()
    await stage.show(shown, metrics=["name", "length"])
    cells = stage.page.locator(".row .values > *")
    await expect(cells).to_have_text(["name 5", "length 7"])
    await expect(stage.page.locator(".row [data-beyond]")).to_have_count(0)
    await stage.page.goto(f"{stage.page.url.partition('#')[0]}#/device/constructor")
    await expect(stage.page.locator("#device tbody tr td").first).to_have_text("5")


async def test_ages_stand_still_while_nobody_can_read_them(stage: Stage) -> None:
    """A device that reports is not shown as older and older because the views are away."""
    await stage.open()
    await stage.show(row("a", seen_ms=AT_MS - 3000))
    age = stage.page.locator(".row .age")
    await expect(age).to_have_text("3 s ago")
    await stage.show(at_ms=AT_MS + 60_000, problems={"redis": "gone"})
    await expect(stage.page.get_by_role("alert")).to_contain_text("Redis is away")
    await expect(age).to_have_text("3 s ago")
    await stage.show(at_ms=AT_MS + 60_000, views_at_ms=AT_MS + 60_000, problems={})
    await expect(age).to_have_text("63 s ago")


async def test_back_from_another_tab(stage: Stage) -> None:
    """What was not looked at for a while is not live before the next frame; nobody asks meanwhile."""
    await stage.open()
    await stage.show(row("a"))
    connection, main = stage.page.locator("#connection"), stage.page.locator("#overview")
    await expect(connection).to_contain_text("Live")
    await stage.page.evaluate("looking(false)")
    for event in ("pagehide", "online"):
        await stage.page.evaluate("(name) => dispatchEvent(new Event(name))", event)
    assert await stage.page.evaluate("opened.map((each) => Boolean(each.closed))") == [True]
    await stage.page.evaluate("looking(true)")
    await expect(connection).to_contain_text("Connecting; as of")
    await expect(main).to_have_css("filter", "grayscale(1)")
    await stage.show()
    await expect(connection).to_contain_text("Live")
    await expect(main).to_have_css("filter", "none")


async def test_a_page_that_stays_after_all(stage: Stage) -> None:
    """Before it is left it lets go; when nothing came of that it looks on."""
    closed = "opened.map((each) => Boolean(each.closed))"
    await stage.open()
    await stage.page.evaluate("() => { dispatchEvent(new Event('beforeunload')) }")
    assert await stage.page.evaluate(closed) == [True]
    await stage.pass_s(4)
    assert await stage.page.evaluate(closed) == [True, False]


async def test_a_question_that_nobody_answers(stage: Stage) -> None:
    """It is given up, and said, in the list as on a device's page; what was there stays."""
    stage.answers["live/devices"] = None
    await stage.open("#/?q=a")
    await stage.show(row("a"))
    await stage.pass_s(11)
    await expect(stage.page.locator("#list-trouble")).to_have_text("No answer within 10 s.")
    stage.answers["live/device"] = None
    await stage.page.goto(stage.page.url.partition("#")[0] + "#/device/a")
    await stage.pass_s(11)
    await expect(stage.page.locator("#device")).to_contain_text("No answer within 10 s.")


async def test_spaces_can_be_typed_into_the_search(stage: Stage) -> None:
    """What stands in the field is what was typed; what is looked for has no space at its ends."""
    await stage.open()
    await stage.show(row("pump 1"))
    query = stage.page.locator("#query")
    await query.press_sequentially("pump 1 ")
    await expect(query).to_have_value("pump 1 ")
    await expect(stage.page.locator("#devices-note")).to_contain_text("with “pump 1”")


async def test_a_row_stays_its_device(stage: Stage) -> None:
    """When devices change places the focus goes with its device, and an element never gets another."""
    await stage.open()
    await stage.show(row("a"), row("b"), row("c"))
    await expect(stage.page.locator(".row")).to_have_count(3)
    await stage.page.locator("#list").press("Home")
    await stage.page.evaluate("globalThis.held = document.activeElement")
    for order in ("bca", "cab", "abc"):
        await stage.show(*map(row, order))
        await expect(stage.page.locator(".row .id")).to_have_text(list(order))
        assert await stage.page.evaluate("document.activeElement === held") is True
        await expect(stage.page.locator(".row:focus-within .id")).to_have_text("a")
    await stage.page.keyboard.press("ArrowDown")
    await expect(stage.page.locator(".row:focus-within .id")).to_have_text("b")


async def test_a_file_is_of_one_choice(stage: Stage) -> None:
    """What is chosen while the file is made does not change it; whom it lacks is said."""
    begun, go_on = asyncio.Event(), asyncio.Event()
    wanted = []

    async def window(query: dict[str, str]) -> Any:  # noqa: ANN401  # JSON
        start, count = int(query["start"]), int(query["count"])
        if count == 100:
            wanted.append(query.get("q"))
            begun.set()
            await go_on.wait()
        rows = [to_builtins(row(f"d{number}")) for number in range(start, min(start + count, 140))]
        return {"total": 150, "rows": rows, "sparks": {}}

    stage.answers["live/devices"] = window
    await stage.open("#/?q=d")
    await stage.show(row("d1"))
    async with stage.page.expect_download() as download:
        await stage.page.get_by_role("button", name="CSV").click()
        await begun.wait()
        await stage.page.locator("#query").fill("other")
        go_on.set()
    saved = csv.reader((await (await download.value).path()).read_text().splitlines())
    assert len(list(saved)) == 141
    assert wanted == ["d", "d"]
    await expect(stage.page.locator("#list-trouble")).to_contain_text("has 140 of 150 devices")
    await stage.show()
    await expect(stage.page.locator("#list-trouble")).to_be_visible()


async def test_a_chart_goes_by_the_servers_clock_and_can_be_read(stage: Stage) -> None:
    """Its last hour is the server's; what it was refused stays said; a finger and keys read its points."""
    at_ms = AT_MS + 3 * HOUR_MS
    metric = {"last": 1, "min": 1, "max": 3, "avg": 2, "sum": 6, "count": 3}
    stats: dict[str, Any] = {
        "last_seen_ms": at_ms,
        "updated_ms": at_ms,
        "region": None,
        "sample_count": 3,
        "tags": {},
    }
    stage.answers |= {
        "live/device": {"row": to_builtins(row("a")), "spark": None, "letters": [LETTER]},
        "device/stats": {**stats, "clock_wrong_since": None, "metrics": {"t": metric}},
        "device/history": 503,
    }
    await stage.open("#/device/a")
    await stage.show(at_ms=at_ms, views_at_ms=at_ms)
    await stage.pass_s(3)
    readout, picture = stage.page.locator("#chart-readout"), stage.page.locator("svg.chart")
    await expect(readout).to_contain_text("The answer was 503")
    await picture.dispatch_event("pointerleave", {"pointerType": "mouse"})
    await expect(readout).to_contain_text("The answer was 503")
    last = parse_qs([each for each in stage.asked if each.startswith("device/history")][-1])["to"][0]
    assert abs(datetime.fromisoformat(last).timestamp() * 1000 - at_ms) < 60_000
    stamps = [datetime.fromtimestamp(at_ms / 1000 - 60 * ago, UTC).isoformat() for ago in (3, 2, 1)]
    points = [{"at": at, "count": 1, "min": i, "max": i, "avg": i} for i, at in enumerate(stamps, 1)]
    stage.answers["device/history"] = {"step_seconds": 60, "points": points}
    await stage.pass_s(18)
    await expect(readout).to_contain_text("1 to 3, 3 values")
    box = await picture.bounding_box()
    assert box is not None
    touch = {"pointerType": "touch", "clientX": box["x"] + box["width"]}
    await picture.dispatch_event("pointerdown", touch)
    await picture.dispatch_event("pointerleave", touch)
    await expect(readout).to_contain_text("mean 3,")
    await picture.press("ArrowLeft")
    await expect(readout).to_contain_text("mean 2,")
    await stage.pass_s(16)
    await expect(readout).to_contain_text("mean 2,")
    hidden = "node => node.scrollHeight - node.clientHeight"
    assert await stage.page.locator("#device-letters .letter-error").evaluate(hidden) == 0


async def test_ages_and_counts_of_a_large_fleet_fit(stage: Stage) -> None:
    """Nothing is cut of which device was seen when, or of a region; what is a moment ahead is now."""
    await stage.open()
    rows = [row("sim-000001", seen_ms=AT_MS - 12_492_000), row("sim-000002", seen_ms=AT_MS + 4000)]
    await stage.show(*rows, regions=[Region("north", 16_666, 83.3, 1, 1666)], regions_total=1)
    cut = (
        "nodes => nodes.filter((node) => node.scrollWidth > node.clientWidth).map((node) => node.textContent)"
    )
    for width in (1280, 360):
        await stage.page.set_viewport_size({"width": width, "height": 740})
        await expect(stage.page.locator(".row .age")).to_have_text(["3 h 28 min ago", "now"])
        await expect(stage.page.locator("#region-rows .silent")).to_have_text("1,666 of 16.7 K silent")
        shown = stage.page.locator(".row .age, .row .id, #region-rows .cut")
        assert await shown.evaluate_all(cut) == []


async def test_a_phone_on_its_side(stage: Stage) -> None:
    """The list leaves something of the page to swipe at, and hands on what is beyond its ends."""
    await stage.page.set_viewport_size({"width": 740, "height": 360})
    await stage.open()
    await stage.show(row("a"))
    box = await stage.page.locator("#devices").bounding_box()
    assert box is not None
    assert round(box["height"]) <= 252
    await expect(stage.page.locator("#list")).to_have_css("overscroll-behavior", "auto")


LETTER = to_builtins(Letter(1, AT_MS, "malformed_json", "a", "t", "word " * 200, replayed=False))
