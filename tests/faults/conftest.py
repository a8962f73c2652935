"""Scenarios: a quick set with every test run, all of them with `make faults`.

`SEED=n` plays a seed again. Every scenario prints the seed it used.
"""

from __future__ import annotations

import os
import secrets
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from tests.faults.site import Site

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path


@pytest.fixture(scope="session")
def seed() -> int:
    """Of everything random in a scenario."""
    return int(os.environ.get("SEED") or secrets.randbelow(10**6))


@pytest.fixture
async def open_site(seed: int, tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Site]]]:
    """Open further sites of this scenario, with proxies: `through=("postgres",)`."""
    print(f"SEED={seed}")  # noqa: T201  # shown with a failure
    async with AsyncExitStack() as stack:

        async def open_one(**options: object) -> Site:
            return await stack.enter_async_context(Site.open(seed, tmp_path, **options))  # type: ignore[arg-type]  # passed on

        yield open_one


@pytest.fixture
async def site(open_site: Callable[..., Awaitable[Site]]) -> Site:
    """A site without proxies."""
    return await open_site()
