from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from playwright.async_api import expect

from projector.live.feed import VIEWERS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from playwright.async_api import Route

    from deploy.local.browser import Visit

pytestmark = pytest.mark.usefixtures("projector")

AGAIN_MS = 20_000
PAGE = Path(__file__).parents[2] / "projector/live/page"


async def test_files_are_asked_for_again_only_when_they_changed(base: str) -> None:
    """Each file has an ETag, and who has it gets a 304; what is none of ours is a problem document."""
    async with httpx.AsyncClient(base_url=base) as http:
        for path in ("/", "/live/live.css", "/live/main.js"):
            first = await http.get(path)
            assert first.status_code == 200
            again = await http.get(path, headers={"If-None-Match": f'"other", W/{first.headers["etag"]}'})
            assert (again.status_code, again.content) == (304, b"")
        for path in ("/live/nothing.js", "/live/..%2f..%2fapp.py"):
            unknown = await http.get(path)
            assert (unknown.status_code, unknown.headers["content-type"]) == (404, "application/problem+json")


async def test_modules_are_fetched_at_once(base: str) -> None:
    """The page names all of its modules, so that none waits for the one that asks for it."""
    there = {file.name for file in PAGE.glob("*.js")} - {"shared.js", "sign-in.js"}  # of others
    async with httpx.AsyncClient(base_url=base) as http:
        page = (await http.get("/")).text
    named = re.findall(r'(?:modulepreload" href|module" src)="live/([a-z]+\.js)"', page)
    assert sorted(named) == sorted(there)


async def test_answers_are_compressed(base: str) -> None:
    """What is large is compressed for whoever takes that; what is small, and the events, are as they are."""
    async with httpx.AsyncClient(base_url=base) as http:
        plain = await http.get("/live/main.js", headers={"Accept-Encoding": "identity"})
        packed = await http.get("/live/main.js", headers={"Accept-Encoding": "gzip"})
        assert packed.headers["content-encoding"] == "gzip"
        assert packed.content == plain.content
        assert int(packed.headers["content-length"]) < int(plain.headers["content-length"]) / 2
        small = await http.get("/healthz", headers={"Accept-Encoding": "gzip"})
        assert "content-encoding" not in small.headers
        async with http.stream("GET", "/live/events", headers={"Accept-Encoding": "gzip"}) as events:
            assert "content-encoding" not in events.headers
            assert (await anext(events.aiter_lines())).startswith(("data:", "event:"))


async def test_pages_below_a_path(base: str, visits: Callable[..., Awaitable[Visit]]) -> None:
    """Behind a proxy that puts us below a path of its own, page and description find what is theirs."""
    page = (await visits()).page

    async def forward(route: Route) -> None:
        await route.continue_(url=route.request.url.replace("/edge/", "/", 1))

    await page.route("**/edge/**", forward)
    for path in ("/edge/docs", "/edge/docs/"):
        await page.goto(f"{base}{path}")
        await page.get_by_text("GET /lag").click()
        await page.get_by_role("button", name="Send").locator("visible=true").click()
        await expect(page.locator("pre").locator("visible=true")).to_contain_text("200 OK")
        assert await page.locator("#description").get_attribute("href") == "/edge/docs/openapi.json"
    await page.goto(f"{base}/edge/")
    await expect(page.locator("#connection")).to_contain_text("Live", timeout=AGAIN_MS)


async def test_the_page_may_ask_nobody_else(base: str) -> None:
    """The policy forbids anything that does not come from here, and any script that is not a file of ours."""
    async with httpx.AsyncClient(base_url=base) as http:
        policy = (await http.get("/")).headers["content-security-policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"


@pytest.mark.full
async def test_one_viewer_too_many_is_told_so(base: str, visits: Callable[..., Awaitable[Visit]]) -> None:
    """As many as may look get events; the next gets 503 and reads why, until one leaves."""
    page = (await visits()).page
    async with httpx.AsyncClient(base_url=base, limits=httpx.Limits(max_connections=None)) as http:
        async with AsyncExitStack() as stack:
            opened = [
                await stack.enter_async_context(http.stream("GET", "/live/events")) for _ in range(VIEWERS)
            ]
            assert {answer.headers["content-type"] for answer in opened} == {
                "text/event-stream; charset=utf-8"
            }
            refused = await http.get("/live/events")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
            detail = refused.json()["detail"]
            assert "500 look at the live page already" in detail
            await page.goto(base)
            await expect(page.get_by_role("alert")).to_contain_text(detail)
            await expect(page.locator("#connection")).to_have_text("Refused")
        async with asyncio.timeout(10):
            while (await _status(http)) != 200:  # those that left are noticed one by one
                pass
    await expect(page.locator("#connection")).to_contain_text("Live", timeout=AGAIN_MS)
    await expect(page.get_by_role("alert")).to_be_empty()


async def _status(http: httpx.AsyncClient) -> int:
    async with http.stream("GET", "/live/events") as answer:
        return answer.status_code
