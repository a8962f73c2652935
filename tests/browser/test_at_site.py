"""What a gateway has on its own disk and has yet to store, on the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from projector.live.state import AtSite, Stream
from tests.browser.stage import AT_MS, Stage, row

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from deploy.local.browser import Visit

_HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("left", "says"),
    [
        (
            AtSite(1_234_567, AT_MS - 5 * _HOUR_MS, 250.0, AT_MS - 500),
            "at the site: 1.2 M messages, oldest 5 h, drains in about 4 min",
        ),
        (AtSite(9876, AT_MS - 90_000, None, AT_MS - 500), "at the site: 9,876 messages, oldest 90 s"),
        (
            AtSite(1, None, 3.0, AT_MS - 2 * _HOUR_MS),
            "at the site: 1 message, as of 2 h ago",
        ),
    ],
)
async def test_what_is_still_at_the_site(
    visits: Callable[..., Awaitable[Visit]], left: AtSite, says: str
) -> None:
    """How much, since when and for how long; nobody is told that the view is up to date. Then it is gone."""
    lags: dict[str, float | None] = {
        "received": 18_000.0,
        "committed": 0.1,
        "published": 0.01,
        "projected": 0.01,
    }
    stream = Stream(0, 31_000.0, 0, 0.0, lags, at_site=left)
    stage = Stage((await visits()).page)
    await stage.open()
    await stage.show(row("a1", temperature=21.5), streams=[stream])
    await expect(stage.page.locator("#stream-rows .at-site")).to_have_text(says)
    behind = stage.page.locator("#sum-behind")
    await expect(behind).to_contain_text("at the site")
    await expect(behind).to_have_attribute("data-level", "warn")
    await stage.show(streams=[Stream(0, 10.0, 0, 0.0, lags)])
    await expect(stage.page.locator("#stream-rows .at-site")).to_be_hidden()
    await expect(behind).to_contain_text("up to date")
