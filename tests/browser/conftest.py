"""The whole product as processes, and a browser in front of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

import httpx
import pytest

from deploy.local.browser import DESKTOP, attached, chromium_process, visiting
from tests.support.devices import publish
from tests.support.silent import leave_silent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from playwright.async_api import Browser, Page

    from deploy.local.browser import Scheme, Visit
    from deploy.local.services import LocalServices
    from runtime.settings import Settings
    from tests.support.commands import RunningCommand


FallSilent = Callable[[dict[str, int]], Awaitable[None]]


class Open(Protocol):
    """Opens the live page."""

    async def __call__(
        self, hash_: str = "", *, size: tuple[int, int] = DESKTOP, scheme: Scheme = "light"
    ) -> Page:
        """In a window of a size, at a place in it."""


class Devices:
    """Devices that publish."""

    def __init__(self, port: int, topic_prefix: str) -> None:
        self._port = port
        self._prefix = topic_prefix
        self._sent = 0

    async def send(self, device: str, *, ago: timedelta = timedelta(), **fields: str | float) -> None:
        """Publish one reading, measured some time ago."""
        self._sent += 1
        message = {"id": f"m{self._sent}", "ts": (datetime.now(UTC) - ago).isoformat(), **fields}
        await self.send_raw(device, json.dumps(message).encode())

    async def send_raw(self, device: str, *payloads: bytes) -> None:
        """Publish anything."""
        topic = f"{self._prefix}/{device}/telemetry"
        await publish(self._port, [(topic, payload) for payload in payloads])


@pytest.fixture
def devices(broker_port: int, topic_prefix: str) -> Devices:
    """Devices of this test."""
    return Devices(broker_port, topic_prefix)


@pytest.fixture
def base(settings: Settings) -> str:
    """Where the page is."""
    return f"http://{settings.projector.http}"


@pytest.fixture
async def gateway(
    run_command: Callable[..., Awaitable[RunningCommand]], settings: Settings
) -> RunningCommand:
    """A gateway that takes messages."""
    command = await run_command("gateway", "run")
    await command.event("connected", client_id=settings.broker.client_id)
    return command


@pytest.fixture
async def projector(run_command: Callable[..., Awaitable[RunningCommand]]) -> RunningCommand:
    """A projector that serves the page."""
    command = await run_command("projector", "run")
    await command.event("connected")
    return command


@pytest.fixture
def fall_silent(
    projector: RunningCommand,
    run_command: Callable[..., Awaitable[RunningCommand]],
    settings: Settings,
) -> FallSilent:
    """Has devices that have sent fall silent so many minutes ago; another projector finds them so."""

    async def fall(devices: dict[str, int]) -> None:
        await projector.terminate()
        await leave_silent(devices, postgres_dsn=settings.postgres.dsn, redis_url=settings.redis.url)
        again = await run_command("projector", "run")
        await again.event("watch_begins", silent=len(devices))
        await again.event("connected")

    return fall


@pytest.fixture(scope="session")
def chromium(services: LocalServices) -> Iterator[str]:
    """A browser's address; it is the worker's, and each test has profiles of its own in it."""
    with chromium_process(services.place.group) as address:
        yield address


@pytest.fixture
async def browser(chromium: str) -> AsyncIterator[Browser]:
    """A browser."""
    async with attached(chromium) as running:
        yield running


@pytest.fixture
async def visits(browser: Browser) -> AsyncIterator[Callable[..., Awaitable[Visit]]]:
    """Opens empty pages that are watched."""
    async with AsyncExitStack() as stack:

        async def visit(size: tuple[int, int] = DESKTOP, scheme: Scheme = "light") -> Visit:
            return await stack.enter_async_context(visiting(browser, size, scheme))

        yield visit


async def _answers(base: str) -> None:
    """Wait until the projector knows whether the views are whole; it refuses before, and a page complains."""
    async with asyncio.timeout(20), httpx.AsyncClient(base_url=base) as http:
        while (await http.get("/devices?limit=1")).is_server_error:  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(0.02)


@pytest.fixture
async def open_page(visits: Callable[..., Awaitable[Visit]], base: str) -> AsyncIterator[Open]:
    """Opens the live page; in the end nothing may have complained, and nobody else have been asked."""
    seen: list[Visit] = []

    async def visit_page(
        hash_: str = "", *, size: tuple[int, int] = DESKTOP, scheme: Scheme = "light"
    ) -> Page:
        visit = await visits(size, scheme)
        await _answers(base)
        seen.append(visit)
        await visit.page.goto(f"{base}/{hash_}")
        return visit.page

    yield visit_page
    for visit in seen:
        assert visit.complaints == []
        assert visit.strangers(base) == []
