"""The shapes of the field, each by itself and in numbers."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.faults.messages import STORED_ONLY
from tests.faults.shapes import SHAPES

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.site import Site


async def test_each_shape(site: Site) -> None:
    """Every shape is stored as the device meant it, and no two messages are taken for one."""
    await site.start_both()
    fleet = site.fleet(mix=STORED_ONLY)
    rng, counters = Random(site.seed), Counter[str]()  # noqa: S311  # replayable
    messages = [fleet.generator.good() for _ in range(10 * len(SHAPES))]
    for i, sent in enumerate(messages):
        SHAPES[i % len(SHAPES)](sent, rng, counters)
        sent.shaped = True
    await fleet.deliver(messages, rate=500)
    books = await site.audit()
    assert books.stored == sum(1 + len(sent.also) for sent in messages)
    assert books.buried == 0


@pytest.mark.full
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
async def test_killed_with_one_shape(site: Site, shape: Callable[..., None]) -> None:
    """Killed around COMMIT with nothing but one shape: stored, and once where it has a key or a time."""
    await (await site.start("gateway")).terminate()
    await site.start("projector")
    fleet = site.fleet(mix=STORED_ONLY)
    rng, counters = Random(site.seed), Counter[str]()  # noqa: S311  # replayable
    messages = [fleet.generator.good() for _ in range(200)]
    for sent in messages:
        shape(sent, rng, counters)
    await fleet.deliver(messages)
    for point in ("before_commit:1", "after_commit:1"):
        await site.crash("gateway", point)
    await site.start("gateway")
    await site.audit()
