"""What the page makes of what comes, and of what does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from deploy.local.browser import Visit


@pytest.fixture
async def stage(visits: Callable[..., Awaitable[Visit]]) -> Stage:
    """A page that is not open yet."""
    return Stage((await visits()).page)


NUMBERS = {
    "1764000000123": "1,764,000,000,123",
    "-356938035643809": "-356,938,035,643,809",
    "10000000000000002": "10000000000000002",
    "1764000000.123": "1,764,000,000.123",
    "0.30000000000000004": "0.3",
}


async def test_numbers_are_what_was_sent(stage: Stage) -> None:
    """All digits of what a device sends are shown, but not the dust of binary fractions."""
    await stage.open()
    found = await stage.page.evaluate(
        """async (texts) => {
          const { number } = await import("/live/format.js");
          return [...texts.map((text) => number(+text)), number(1764000000123.4, 6), number(21.456789, 6)];
        }""",
        list(NUMBERS),
    )
    assert found == [*NUMBERS.values(), "1,764,000,000,123", "21.4568"]
