"""Who is beyond a limit, as it is asked for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from contract.events import Event
from projector.limits import beyond as beyond_module
from projector.limits.beyond import Asked, Beyond, Hot, LimitCount
from projector.limits.rules import Rules
from projector.limits.states import Limits
from runtime.errors import Retry
from runtime.settings import Limit

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from projector.limits.beyond import Page

AT = "2026-11-23T09:00:00.000000Z"
SET = [
    Limit("t", warn=30, crit=40),
    Limit("t", when="below", crit=0),
    Limit("u", warn=1),
]


def beyond(*events: tuple[str, str, dict[str, float]], learned: bool = True) -> Beyond:
    """Devices in regions with readings."""
    limits, found = Limits(Rules(SET)), Beyond()
    limits.hear(0, 0, [Event(id_, region, AT, AT, "k", dict(metrics)) for id_, region, metrics in events])
    found.use(limits)
    if learned:
        found.learned()
    return found


async def test_pages_hold_whole_devices_by_id() -> None:
    """Each device once, with all that it is beyond; the last page leads nowhere."""
    found = beyond(
        ("c", "north", {"t": 50}),
        ("a", "north", {"t": 35, "u": 2}),
        ("ok", "north", {"t": 20}),
        ("b", "south", {"t": -1}),
    )
    pages: list[list[tuple[object, ...]]] = []
    after = None
    while len(pages) < 3:
        page = await found.page(Asked(), limit=1, after=after)
        after = page.after
        pages.append(
            [(each.device_id, each.metric, each.when, each.state, each.limit) for each in page.limits]
        )
    assert pages == [
        [("a", "t", "above", "warn", 30), ("a", "u", "above", "warn", 1)],
        [("b", "t", "below", "crit", 0)],
        [("c", "t", "above", "crit", 40)],
    ]
    assert after is None
    assert [each.device_id for each in (await found.page(Asked("crit"), limit=9)).limits] == ["b", "c"]
    assert [each.metric for each in (await found.page(Asked(metric="u"), limit=9)).limits] == ["u"]
    assert [each.device_id for each in (await found.page(Asked("crit", "t", "north"), limit=9)).limits] == [
        "c"
    ]
    assert found.counts() == [
        LimitCount("t", "above", 2, 1, 1),
        LimitCount("t", "below", 3, 0, 1),
        LimitCount("u", "above", 0, 1, 0),
    ]


def test_what_the_page_shows() -> None:
    """How many devices and critical readings there are, and of a device the worse of both sides."""
    found = beyond(("a", "north", {"t": 35, "u": 2}), ("b", "north", {"t": -1}), ("ok", "north", {"t": 20}))
    assert found.hot() == Hot(2, 1)
    assert found.ids() == {"a", "b"}
    assert found.of(["a", "ok", "b"]) == {"a": {"t": "warn", "u": "warn"}, "b": {"t": "crit"}}


async def test_nothing_is_said_before_it_is_known() -> None:
    """Neither that nobody is beyond, nor how many; who has set no limits is told nothing of them."""
    again = beyond(("a", "north", {"t": 50}))
    again.begin_anew()
    for found in (Beyond(Rules(SET)), beyond(learned=False), again):
        assert found.hot() == Hot(None, None)
        with pytest.raises(Retry, match="limits: what devices sent last is being read"):
            found.counts()
        with pytest.raises(Retry):
            await found.page(Asked(), limit=1)
    empty = Beyond()
    assert (empty.hot(), empty.counts(), empty.ids()) == (None, [], frozenset())
    assert await empty.page(Asked(), limit=1) == ([], None)


async def turns(asking: Coroutine[None, None, Page]) -> tuple[Page, int]:
    """What is answered, and how often others had their turn meanwhile."""
    task, turns = asyncio.create_task(asking), 0
    while not task.done():
        await asyncio.sleep(0)
        turns += 1
    return await task, turns


async def test_very_many_are_sorted_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others have their turn meanwhile, and between rows; all who ask have the same order."""
    monkeypatch.setattr(beyond_module, "PIECE", 10)
    clock = iter((5.0, 5.0, 5.5, 5.9, 6.5, 6.5))
    monkeypatch.setattr(beyond_module, "monotonic", lambda: next(clock))
    ids = [f"d{(n * 7919) % 1000:03}" for n in range(1000)]
    found = beyond(*((id_, "north" if id_ < "d990" else "south", {"t": 50.0}) for id_ in ids))
    first, waited = await turns(found.page(Asked(), limit=20))
    assert waited >= 100
    assert [each.device_id for each in first.limits] == sorted(ids)[:20]
    second, waited = await turns(found.page(Asked(), limit=20, after=first.after))
    assert waited < 50
    assert [each.device_id for each in second.limits] == sorted(ids)[20:40]
    rare, waited = await turns(found.page(Asked(region="south"), limit=20))
    assert ([each.device_id for each in rare.limits], rare.after) == (sorted(ids)[-10:], None)
    assert waited >= 100, "it is looked for among all of them"
    _, waited = await turns(found.page(Asked(), limit=20))
    assert waited >= 100, "in order anew"
