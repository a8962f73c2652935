"""Devices that said they are offline on the live page, beside those of which nothing is heard."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.async_api import expect

from tests.support.devices import publish
from tests.support.silent import leave_silent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from runtime.settings import Settings
    from tests.browser.conftest import Open
    from tests.support.commands import RunningCommand

CLOCK = "[0-2][0-9]:[0-5][0-9]"


async def test_offline_and_silent(
    run_command: Callable[..., Awaitable[RunningCommand]],
    open_page: Open,
    settings: Settings,
    broker_port: int,
    unique: str,
) -> None:
    """The one says since when it said so, the other since when nothing was heard; each has its list."""
    routes = json.dumps([{"dialect": "tasmota", "prefix": f"{unique}/"}])
    gateway = await run_command("gateway", "run", EDGE_ROUTE=routes)
    await gateway.event("connected", client_id=settings.broker.client_id)
    for device in ("lost", "plug", "fine"):
        await publish(broker_port, [(f"{unique}/tele/{device}/LWT", b"Online")])
    where = {"postgres_dsn": settings.postgres.dsn, "redis_url": settings.redis.url}
    await leave_silent({"lost": 20, "plug": 0, "fine": 0}, **where, prefix="")
    projector = await run_command("projector", "run")
    await projector.event("watch_begins")
    await projector.event("connected")
    page = await open_page()
    await publish(broker_port, [(f"{unique}/tele/plug/LWT", b"Offline")])
    row = page.locator(".row", has_text="plug")
    await expect(row.locator(".standing")).to_have_text("Offline")
    await expect(row.locator(".state")).to_have_attribute(
        "title", re.compile(rf"^Offline since {CLOCK} \(said so\)$")
    )
    lost = page.locator(".row", has_text="lost").locator(".state")
    await expect(lost).to_have_attribute("title", re.compile(rf"^Silent since {CLOCK} \(nothing heard\)$"))
    await page.locator("#offline").click()
    await expect(page.locator(".row .id")).to_have_text(["plug"])
    await expect(page.locator("#devices-note")).to_have_text("1 that said they are offline, of 3 devices")
    if pictures := os.environ.get("PICTURES"):
        await page.screenshot(path=Path(pictures, "presence.png"))
    await row.click()
    standing = page.locator("#device .standing")
    await expect(standing).to_have_text(re.compile(rf"^Offline since {CLOCK} \(said so\)$"))
    await expect(page.locator("#device .facts")).to_contain_text("Offline since")
    await publish(broker_port, [(f"{unique}/tele/plug/LWT", b"Online")])
    await expect(standing).to_have_text("")
