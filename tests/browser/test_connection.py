from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from deploy.local.services import LocalServices
from gateway.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from deploy.local.browser import Visit
    from tests.browser.conftest import Devices
    from tests.support.commands import RunningCommand

pytestmark = pytest.mark.usefixtures("gateway")

AGAIN_MS = 20_000


async def test_a_restart_of_the_projector(
    run_command: Callable[..., Awaitable[RunningCommand]],
    visits: Callable[..., Awaitable[Visit]],
    devices: Devices,
    base: str,
) -> None:
    """Without its projector the page says so, and how old it is; then it goes on by itself."""
    projector = await run_command("projector", "run")
    await projector.event("connected")
    await devices.send("a1", level=1)
    page = (await visits()).page
    await page.goto(base)
    await expect(page.locator(".row")).to_contain_text("level 1")
    assert await projector.terminate() == 0
    alert = page.get_by_role("alert")
    await expect(alert).to_contain_text("No connection to the projector")
    await expect(alert).to_contain_text(re.compile(r"below is how it was at \d\d:\d\d:\d\d"))
    await expect(page.locator("#connection")).to_have_text("Connection lost")
    await expect(page.locator(".row")).to_contain_text("level 1")
    await devices.send("a1", level=2)
    await run_command("projector", "run")
    await expect(page.locator(".row")).to_contain_text("level 2", timeout=AGAIN_MS)
    await expect(page.locator("#connection")).to_contain_text("Live")
    await expect(alert).to_be_empty()


async def test_servers_away(
    run_command: Callable[..., Awaitable[RunningCommand]],
    visits: Callable[..., Awaitable[Visit]],
    devices: Devices,
    base: str,
) -> None:
    """Whatever is away is named, with the time of what is still shown; the rest goes on."""
    async with LocalServices(["redis"], environ={}) as own:
        projector = await run_command("projector", "run", EDGE_REDIS_URL=own.redis.url())
        await projector.event("connected")
        await devices.send("a1", level=1)
        page = (await visits()).page
        await page.goto(base)
        await expect(page.locator(".row")).to_contain_text("level 1")
        await page.locator("#query").fill("a")
        await expect(page.locator("#devices-note")).to_contain_text("1 with “a”")
        async with page.expect_response(lambda answer: answer.status == HTTPStatus.SERVICE_UNAVAILABLE):
            await own.redis.stop()
        alert = page.get_by_role("alert")
        await expect(alert).to_contain_text(re.compile(r"Redis is away.*as of \d\d:\d\d:\d\d"))
        await expect(page.locator(".row")).to_contain_text("level 1")
        await devices.send_raw("a1", b"{")
        await expect(page.locator("#letter-rows")).to_contain_text("malformed_json")
        await own.redis.start()
        await expect(alert).to_be_empty(timeout=AGAIN_MS)
        await devices.send("a1", level=2)
        await expect(page.locator(".row")).to_contain_text("level 2")


@pytest.mark.full
async def test_postgres_away(
    run_command: Callable[..., Awaitable[RunningCommand]], visits: Callable[..., Awaitable[Visit]], base: str
) -> None:
    """Without PostgreSQL nobody knows what is rejected now, and the page does not say that nothing is."""
    async with LocalServices(["postgres"], environ={}) as own:
        dsn = own.postgres.dsn()
        await migrate(dsn)
        projector = await run_command("projector", "run", EDGE_POSTGRES_DSN=dsn)
        await projector.event("connected")
        page = (await visits()).page
        await page.goto(base)
        rejected = page.locator("#sum-rejected")
        await expect(rejected).to_contain_text("0nothing")
        await expect(rejected).to_have_attribute("data-level", "ok")
        await own.postgres.stop()
        await expect(page.get_by_role("alert")).to_contain_text(
            re.compile(r"PostgreSQL is away.*as of \d\d:\d\d:\d\d")
        )
        await expect(rejected).to_contain_text("?not known now")
        await expect(rejected).to_have_attribute("data-level", "warn")
        await own.postgres.start()
        await expect(rejected).to_contain_text("0nothing", timeout=AGAIN_MS)


async def test_nothing_is_computed_when_nobody_looks(
    projector: RunningCommand, visits: Callable[..., Awaitable[Visit]], base: str
) -> None:
    """The projector looks at nothing before the first viewer, and stops some seconds after the last."""
    assert not any(line["event"] == "live_page_watched" for line in projector.events)
    page = (await visits()).page
    await page.goto(base)
    await expect(page.locator("#connection")).to_contain_text("Live")
    await projector.event("live_page_watched")
    assert not any(line["event"] == "live_page_left" for line in projector.events)
    await page.goto("about:blank")
    await projector.event("live_page_left")
