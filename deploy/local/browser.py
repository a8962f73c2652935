"""A real browser for tests and benchmarks: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import subprocess
import tempfile
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from playwright.async_api import async_playwright

from deploy.local import install

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from playwright.async_api import Browser, ConsoleMessage, Page, Request

FLAGS = (
    "--headless",
    "--no-sandbox",  # they may run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WHOLE = (  # so that a page is as it is for somebody who looks at it, and to be compared
    "--hide-scrollbars",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
)
DESKTOP = (1280, 800)
PHONE = (360, 740)
_START_S = 30.0

Scheme = Literal["light", "dark"]


@dataclass
class Visit:
    """A page with what went on in it.

    Attributes:
        complaints: errors and warnings on its console, and errors that nothing caught.
        asked: URLs of its requests.
    """

    page: Page
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Note from now on what goes on."""
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._on_request)

    def strangers(self, base: str) -> list[str]:
        """Requests that went elsewhere."""
        own = urlsplit(base).netloc
        return [url for url in self.asked if not url.startswith("data:") and urlsplit(url).netloc != own]

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def _on_request(self, request: Request) -> None:
        self.asked.append(request.url)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Chromium with a new profile, for as long as the block lasts."""
    path = install.ensure(["chromium"])["chromium"]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield browser
        finally:
            await browser.close()


@contextmanager
def chromium_process(process_group: int) -> Iterator[str]:
    """Chromium as a process, and the address at which `attached` finds it: a start costs two seconds of CPU.

    Args:
        process_group: a warden's, so that it cannot outlive a killed test run.

    Raises:
        TimeoutError: it did not start.
    """
    path = install.ensure(["chromium"])["chromium"]
    with tempfile.TemporaryDirectory(prefix="edge-chromium-", ignore_cleanup_errors=True) as profile:
        port = Path(profile) / "DevToolsActivePort"
        flags = (*FLAGS, *WHOLE, "--remote-debugging-port=0", f"--user-data-dir={profile}")
        process = subprocess.Popen(
            [path, *flags],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=process_group,
        )
        try:
            deadline = time.monotonic() + _START_S
            while not (port.exists() and port.read_text(encoding="ascii").count("\n")):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"Chromium did not start within {_START_S} s")
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port.read_text(encoding='ascii').splitlines()[0]}"
        finally:
            process.terminate()
            process.wait()


@asynccontextmanager
async def attached(address: str) -> AsyncIterator[Browser]:
    """A Chromium that runs already; what is opened in it is closed when the block ends."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.connect_over_cdp(address)
        try:
            yield browser
        finally:
            for context in browser.contexts[1:]:  # the first is its own
                await context.close()
            await browser.close()


@asynccontextmanager
async def visiting(
    browser: Browser, size: tuple[int, int] = DESKTOP, scheme: Scheme = "light"
) -> AsyncIterator[Visit]:
    """An empty page of its own profile, in a window of a size, for as long as the block lasts."""
    width, height = size
    context = await browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, locale="en-GB", timezone_id="UTC"
    )
    try:
        visit = Visit(await context.new_page())
        visit.watch()
        yield visit
    finally:
        await context.close()
