"""What devices may call themselves, through the whole path: to page, terminal, log, SQL, Redis and file."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import asyncpg
import httpx
import pytest
from playwright.async_api import expect
from redis.asyncio import Redis

from tests.support.devices import publish

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from deploy.local.browser import Visit
    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

    Run = Callable[..., Awaitable[RunningCommand]]

ESC: Final = "\x1b[2J\x1b]0;owned\x07"
STORED: Final = (  # all of them are names, strange as they are
    "<script>owned=1</script>",
    "<img src=x onerror=owned=1>",
    "\"onmouseover='owned=1'",
    "javascript:owned=1",
    "../../etc/passwd",
    "..",
    "'; DROP TABLE measurements; --",
    "%s%n{0}${jndi:ldap:x}",
    "*?[a-z]",
    "=cmd|' '!A0",
    "@SUM(1)",
    "\u202etxt.exe\u2066",
    "__proto__",
    "constructor",
    "{edge}:x",
)
REFUSED: Final = (ESC, "two\nlines\r\nX: y", "n\0l", "x" * 10_000, "+", "a/#", "", " \ud800".strip())
MESSAGES: Final = len(STORED) + len(REFUSED) + 1


def message(name: str) -> bytes:
    """One whose every name is this."""
    whole = {
        "id": f"k {name}"[:200],
        "dev": name,
        "region": name,
        "tag": name,
        "m": {name: 1.5, "text": name},
    }
    return json.dumps(whole).encode()


def harmless(lines: list[str]) -> None:
    """Nothing of it moves the cursor, turns the writing or begins a line of its own."""
    assert lines
    for line in lines:
        assert line.replace("\t", "").isprintable(), ascii(line)  # tabs are between columns


@pytest.fixture
def hostile(unique: str) -> dict[str, str]:
    """A route on which everything comes from the message."""
    route = {"topic": f"{unique}/any", "device": "dev", "tags": ["tag"], "metrics": "m"}
    return {"EDGE_ROUTE": json.dumps([route]), "NO_COLOR": "1"}


@pytest.mark.timeout(180)  # seven processes and a browser
async def test_names_of_strangers(
    run_command: Run,
    settings: Settings,
    hostile: dict[str, str],
    broker_port: int,
    redis_url: str,
    unique: str,
    visits: Callable[..., Awaitable[Visit]],
) -> None:
    """Each is a name wherever it comes to, or a dead letter; nobody else's row or key is touched."""
    gateway = await run_command("gateway", "run", "--log-level", "debug", **hostile)
    await gateway.event("connected", client_id=settings.broker.client_id)
    projector = await run_command("projector", "run", "--log-level", "debug")
    await projector.event("connected")
    tail = await run_command("gateway", "tail", "--count", str(MESSAGES), "--for", "20s", **hostile)
    await tail.said("watching dead letters")
    await tail.said("listening")
    discover = await run_command("gateway", "discover", f"{unique}/#", "--seconds", "3", **hostile)
    await discover.said("listening")
    messages = [(f"{unique}/any", message(name)) for name in ("victim", *STORED, *REFUSED)]
    await publish(broker_port, messages)
    assert await tail.exit_code() == 0, tail.output
    assert await discover.exit_code() == 0, discover.output

    connection = await asyncpg.connect(settings.postgres.dsn)
    rows = await connection.fetch(
        "SELECT device_id, region, tags->>'tag' AS tag, metrics->>'text' AS text FROM measurements"
    )
    assert sorted(tuple(row) for row in rows) == sorted((name,) * 4 for name in ("victim", *STORED))
    await connection.close()
    base = f"http://{settings.projector.http}"
    async with httpx.AsyncClient(base_url=base) as http, Redis.from_url(redis_url) as redis:
        async with asyncio.timeout(20):
            while len((await http.get("/devices")).json().get("devices", ())) <= len(STORED):  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(0.05)
        keys = {key.decode() async for key in redis.scan_iter("device:stats:*")}
        assert keys == {f"device:stats:{name}" for name in ("victim", *STORED)}
        for name in ("victim", *STORED):
            for path in ("/device/stats", "/region/stats"):
                answer = await http.get(path, params={"id": name})
                assert (answer.status_code, answer.json()["sample_count"]) == (200, 1), name
                assert answer.headers["content-type"] == "application/json"
                assert answer.headers["x-content-type-options"] == "nosniff"

    traced = await run_command("gateway", "trace", f"k {STORED[0]}", **hostile)
    looked = [
        await run_command(*words.split(), COLUMNS="300", **hostile)
        for words in ("gateway dead-letters list", "gateway devices list", "projector top --once")
    ]
    for command in (traced, *looked):
        assert await command.exit_code() == 0, command.output
    for command in (traced, *looked, tail, discover):
        harmless(command.output)
    assert len(tail.stdout) == MESSAGES

    await _look_at_the_page(await visits(), base, f"{base}/")
    for process in (gateway, projector):
        assert await process.terminate() == 0
        lines = [line for line in process.output if not line.startswith("received=")]
        assert all(isinstance(json.loads(line), dict) for line in lines)
        harmless(lines)


async def _look_at_the_page(visit: Visit, base: str, address: str) -> None:
    """Nothing runs, in the list, in any device's page and in the file that is saved."""
    page = visit.page
    await page.goto(address)
    await expect(page.locator(".row")).to_have_count(len(STORED) + 1)
    assert sorted(await page.locator(".row .id").all_text_contents()) == sorted(("victim", *STORED))
    async with page.expect_download() as saving:
        await page.get_by_role("button", name="CSV").click()
    text = await asyncio.to_thread(Path(await (await saving.value).path()).read_text, encoding="utf-8")
    ids = [row[0] for row in csv.reader(io.StringIO(text))][1:]
    assert sorted(ids) == sorted("'" + each if each[0] in "=@" else each for each in ("victim", *STORED))
    for name in STORED[::6]:
        await page.goto(f"{base}/#/device/{quote(name, safe='')}")
        await expect(page.locator("#device h2").first).to_have_text(name)
        await expect(page.locator("#device .facts")).to_contain_text(name)
    assert await page.evaluate("typeof owned") == "undefined"
    assert visit.complaints == []
    assert visit.strangers(base) == []
