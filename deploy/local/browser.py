"""A real browser for tests and benchmarks: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from playwright.async_api import async_playwright

from deploy.local import install

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

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
DESKTOP = (1280, 800)
PHONE = (360, 740)

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
