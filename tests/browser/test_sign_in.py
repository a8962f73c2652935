"""The page where a token is needed, behind a proxy that has it below a path of its own."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
from playwright.async_api import expect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from deploy.local.browser import Visit
    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

AGAIN_MS = 20_000


@asynccontextmanager
async def proxied(port: int, prefix: bytes) -> AsyncIterator[str]:
    """A reverse proxy as sites have one: takes its path off, and says who asks, how and below what."""

    async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await source.read(65536):
                sink.write(piece)
                await sink.drain()
        sink.close()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            request, _, rest = head.partition(b"\r\n")
            method, path, version = request.split(b" ")
            kept = [
                line for line in rest.split(b"\r\n") if line and not line.lower().startswith(b"connection:")
            ]
            said = [b"Connection: close", b"X-Forwarded-For: 192.0.2.7", b"X-Forwarded-Proto: http"]
            behind, sink = await asyncio.open_connection("127.0.0.1", port)
            lines = [b" ".join((method, path.removeprefix(prefix), version)), *kept, *said]
            sink.write(b"\r\n".join([*lines, b"X-Forwarded-Prefix: " + prefix, b"", b""]))
            await asyncio.gather(pass_on(reader, sink), pass_on(behind, writer))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{prefix.decode()}/"
    finally:
        server.close()


@pytest.fixture
async def site(
    run_command: Callable[..., Awaitable[RunningCommand]], settings: Settings, tmp_path: Path
) -> AsyncIterator[tuple[str, str, Path]]:
    """Where the page is, a token, and the file that has its hash."""
    file = tmp_path / "tokens"
    keys = {"EDGE_PROJECTOR_TOKENS_FILE": str(file), "EDGE_PROJECTOR_TRUST_PROXY": "127.0.0.1"}
    made = await run_command("projector", "token", "wall", "--scope", "read", **keys)
    assert await made.exit_code() == 0
    projector = await run_command("projector", "run", "--log-level", "debug", **keys)
    await projector.event("connected")
    async with proxied(int(settings.projector.http.rpartition(":")[2]), b"/edge") as base:
        yield base, made.stdout[0], file
    assert made.stdout[0] not in "".join(projector.output)


@pytest.mark.timeout(180)  # five loads of the page
async def test_signing_in(
    site: tuple[str, str, Path], visits: Callable[..., Awaitable[Visit]], unique: str
) -> None:
    """One enters a token once and is where one wanted to be; what is revoked ends at once; one can leave."""
    base, token, file = site
    visit = await visits()
    page = visit.page
    await page.goto(f"{base}#/device/{unique}")
    await expect(page).to_have_url(f"{base}sign-in#/device/{unique}")
    await page.get_by_label("Token").fill(token[:-1])
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert")).to_have_text("This is no token, or one that was revoked.")
    await page.get_by_label("Token").fill(token)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page).to_have_url(f"{base}#/device/{unique}")
    await expect(page.locator("#connection")).to_contain_text("Live", timeout=AGAIN_MS)
    (cookie,) = await page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/edge")
    await expect(page.locator("#sign-out")).to_contain_text("wall")

    await page.get_by_role("link", name="API").click()
    await page.get_by_text("GET /lag").click()
    await page.get_by_role("button", name="Send").locator("visible=true").click()
    await expect(page.locator("pre").locator("visible=true")).to_contain_text("200 OK")
    await page.goto(base)
    await expect(page.locator("#connection")).to_contain_text("Live", timeout=AGAIN_MS)

    await page.get_by_role("button", name="Sign out").click()
    await expect(page).to_have_url(f"{base}sign-in")
    assert await page.context.cookies() == []
    await page.get_by_label("Token").fill(token)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.locator("#connection")).to_contain_text("Live", timeout=AGAIN_MS)
    await asyncio.to_thread(file.write_text, "", encoding="utf-8")
    await expect(page).to_have_url(f"{base}sign-in", timeout=AGAIN_MS)

    assert [url for url in visit.asked if not url.startswith((base, "data:")) or token in url] == []
    assert {each for each in visit.complaints if "401 (Unauthorized)" not in each} == set()


async def test_no_page_of_somebody_elses_signs_in_or_out(site: tuple[str, str, Path]) -> None:
    """What another site's page asks for is refused; a token for metrics is none for the page."""
    base, token, _ = site
    async with httpx.AsyncClient(base_url=base) as http:
        for path in ("sign-in", "sign-out"):
            answer = await http.post(path, data={"token": token}, headers={"Sec-Fetch-Site": "cross-site"})
            assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)
        for body in (b"", b"token", b"token=%ff%00", b"token=" + b"x" * 60_000):
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            assert (await http.post("sign-in", content=body, headers=form)).status_code == 401
        answer = await http.post("sign-in", data={"token": token}, headers={"X-Forwarded-Proto": "https"})
        assert (answer.status_code, answer.headers["location"]) == (303, ".")
