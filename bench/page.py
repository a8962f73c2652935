"""The live page in front of a large fleet: how soon it shows something, and what watching it costs."""

from __future__ import annotations

import asyncio
import contextlib
from statistics import median as middle
from typing import TYPE_CHECKING, Any, Final

import httpx
import msgspec
import psutil
from playwright.async_api import expect

from bench import meter
from bench.generator import Generator
from bench.load import Load
from bench.packets import Shape
from bench.plant import Plant
from bench.scenario import Scenario, run_alone
from bench.tables import Line
from deploy.local.browser import chromium, visiting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from playwright.async_api import Browser, CDPSession

_PAINT_MS: Final = 500
_SEARCH_MS: Final = 100
_MEMORY_MB: Final = 400
_READY_MS: Final = 30_000
_POLL_S: Final = 0.05
_PERCENT: Final = 100
_PAINT: Final = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
_SHOWN: Final = """new Promise((shown) => {
  const look = () =>
    document.querySelector(".row a[href]") ? shown(performance.now()) : requestAnimationFrame(look);
  look();
})"""

_SEARCH: Final = """(word) => new Promise((found) => {
  const query = document.querySelector("#query"), since = performance.now();
  query.value = word;
  query.dispatchEvent(new Event("input", { bubbles: true }));
  const look = () => {
    const rows = [...document.querySelectorAll(".row a[href]")];
    const all = rows.length && rows.every((each) => each.textContent.includes(word));
    if (all) found(performance.now() - since);
    else requestAnimationFrame(look);
  };
  look();
})"""
"""From the letter typed until the page shows devices that match and no others, in milliseconds."""


class Options(msgspec.Struct, frozen=True):
    """How large the fleet is, how many of it are dead, how much it sends, and for how long somebody looks."""

    devices: int = 200_000
    dead: int = 20_000
    rate: float = 1000.0
    seconds: float = 10.0


class Figures(msgspec.Struct, frozen=True):
    """One round.

    Attributes:
        first_paint_ms: first contentful paint (W3C Paint Timing) after the navigation began.
        first_rows_ms: until devices were in the page.
        search_ms: until what was typed was found, the median; `search_worst_ms` likewise.
        projector_mb: most resident memory of the projector.
        rows: elements of devices in the page.
        main_thread_percent: of the page's main thread that was busy, one viewer.
        browser_percent: of one core, all of the browser's processes; painting is in software here.
        projector_percent: of one core, while somebody looks.
        projector_alone_percent: of one core, the same load, while nobody looks.
        stream_kb_per_s: of events that a viewer is sent.
    """

    first_paint_ms: float
    first_rows_ms: float
    search_ms: float
    search_worst_ms: float
    projector_mb: float
    rows: int
    main_thread_percent: float
    browser_percent: float
    projector_percent: float
    projector_alone_percent: float
    stream_kb_per_s: float


async def measure(number: int, options: Options) -> Figures:
    """Fill the views with a fleet, let it send on, and look at it for a while."""
    shape = Shape(run=f"f{number}", devices=options.devices)
    async with Plant.open() as plant:
        async with Generator(plant.mqtt_port, Load(messages=options.devices, shape=shape)) as load:
            load.go()
            await load.result()
        while (await plant.counters()).applied < options.devices:  # noqa: ASYNC110  # another process counts
            await asyncio.sleep(_POLL_S)
        living = options.devices - options.dead
        steady = Load(rate=options.rate, shape=Shape(run=f"s{number}", devices=living))
        async with Generator(plant.mqtt_port, steady) as load, chromium() as browser:
            load.go()
            before = plant.cpu_s()["projector"]
            await asyncio.sleep(options.seconds)
            alone = plant.cpu_s()["projector"] - before
            figures = await _look(plant, browser, options)
            load.stop()
    return msgspec.structs.replace(figures, projector_alone_percent=_PERCENT * alone / options.seconds)


async def _look(plant: Plant, browser: Browser, options: Options) -> Figures:
    seconds = options.seconds
    async with visiting(browser) as visit:
        page = visit.page
        session = await page.context.new_cdp_session(page)
        await session.send("Performance.enable")
        await page.goto(plant.url("projector"), wait_until="commit")
        shown = float(await page.evaluate(_SHOWN))
        paint = float(await page.evaluate(_PAINT))
        await expect(page.locator("#sum-rate strong")).not_to_have_text("\N{EN DASH}", timeout=_READY_MS)
        before = (plant.cpu_s()["projector"], _browser_s(), await _busy_s(session))
        await asyncio.sleep(seconds)
        after = (plant.cpu_s()["projector"], _browser_s(), await _busy_s(session))
        projector, tree, busy = (now - then for now, then in zip(after, before, strict=True))
        rows = await page.locator(".row").count()
        taken = await _stream_bytes(plant.url("projector"), seconds)
        searches = [await page.evaluate(_SEARCH, word) for word in _words(options.devices)]
        return Figures(
            first_paint_ms=paint,
            first_rows_ms=shown,
            search_ms=middle(searches),
            search_worst_ms=max(searches),
            projector_mb=plant.peak_mb()["projector"],
            rows=rows,
            main_thread_percent=_PERCENT * busy / seconds,
            browser_percent=_PERCENT * tree / seconds,
            projector_percent=_PERCENT * projector / seconds,
            projector_alone_percent=0.0,
            stream_kb_per_s=taken / seconds / 1000,
        )


def _words(devices: int) -> list[str]:
    """Searches as they are typed: a part of many names, of some, and whole names from all over the list."""
    names = [f"d{devices * part // 7:06d}" for part in range(1, 7)]
    return [names[0][:3], names[1][:-2], *names]


async def _stream_bytes(url: str, seconds: float) -> int:
    """What comes after the first frame of a stream; the browser's own is that of a worker, out of sight."""
    taken = 0
    async with httpx.AsyncClient() as http, http.stream("GET", f"{url}/live/events") as events:
        lines = events.aiter_lines()
        await anext(lines)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                async for line in lines:
                    taken += len(line.encode()) + 1
    return taken


async def _busy_s(session: CDPSession) -> float:
    metrics = (await session.send("Performance.getMetrics"))["metrics"]
    return float(next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration"))


def _browser_s() -> float:
    """CPU seconds of the browser that this process has started."""
    family = psutil.Process().children(recursive=True)
    return meter.cpu_s(process.pid for process in family if "chrom" in process.name())


def lines(median: Figures) -> Sequence[Line]:
    """The table."""
    looking = median.projector_percent - median.projector_alone_percent
    return [
        _bounded("first contentful paint", median.first_paint_ms, _PAINT_MS, "ms"),
        Line("devices in the page after", f"{median.first_rows_ms:.0f} ms"),
        _bounded("a search shows what it found after", median.search_ms, _SEARCH_MS, "ms"),
        Line("the slowest search", f"{median.search_worst_ms:.0f} ms"),
        _bounded("peak memory of the projector", median.projector_mb, _MEMORY_MB, "MB"),
        Line("their elements", f"{median.rows}"),
        Line("the page's main thread is busy", f"{median.main_thread_percent:.1f} %"),
        Line("all of the browser, painting in software", f"{median.browser_percent:.1f} % of a core"),
        Line("projector, nobody looks", f"{median.projector_alone_percent:.1f} % of a core"),
        Line("projector, for looking", f"{looking:+.1f} % of a core"),
        Line("sent to the page", f"{median.stream_kb_per_s:.1f} kB/s"),
    ]


def _bounded(what: str, measured: float, most: float, unit: str) -> Line:
    return Line(what, f"{measured:.0f} {unit}", f"≤ {most:,} {unit}", measured <= most)


SCENARIO: Scenario[Any] = Scenario(
    name="page",
    title="The live page",
    text=(
        "A fleet of 200,000 devices, of which 20,000 are dead and the others send 1,000 messages a second; a "
        "browser on the same machine looks at the page, and searches: for many devices, for some, for one."
    ),
    options=Options(),
    quick=Options(devices=500, dead=50, rate=200.0, seconds=2.0),
    figures=Figures,
    measure=measure,
    lines=lines,
)

if __name__ == "__main__":
    run_alone(SCENARIO)
