"""Gathering very many events, and cutting what comes out into parts."""

from __future__ import annotations

from itertools import permutations
from operator import attrgetter

import pytest

from contract.events import Event, Scalar
from projector.repair.gather import Gathered
from projector.views.retired import Retired, merged, parts
from tests.support.changed import Changed, Memory


def event(
    second: int,
    device: str,
    region: str | None = "north",
    *,
    hour: int = 9,
    tags: dict[str, str] | None = None,
    **metrics: Scalar,
) -> Event:
    """An event at a second past nine, received a minute later."""
    ts = f"2026-11-23T{hour:02d}:00:{second:02d}.000000Z"
    return Event(device, region, ts, f"2026-11-23T09:01:{second:02d}.000000Z", f"k{second}", metrics, tags)


EVENTS = [
    event(3, "a", t=1, on=True),
    event(1, "a", t=-2.5, on=False),
    event(2, "a", region=None, t=7, state="idle"),
    event(9, "b", t="broken"),
    event(8, "b", region="south", t=4),
    event(5, "c"),
    event(6, "c", tags={"line": "1"}),
    event(7, "c", region="south", tags={"line": "2", "hall": "b"}, t=1),
    event(0, "d", hour=20, t=20),
    event(4, "d", t=1),
]


def told(changes: dict[str, Changed]) -> dict[str, tuple[dict[str, str], list[object]]]:
    """The fields and marks of every view."""
    return {id_: (changed.fields, changed.marks) for id_, changed in changes.items()}


def test_gathered_page_by_page_is_folded_at_once() -> None:
    """What events amount to does not depend on how they came, and is what all of them at once make."""
    gathered = Gathered()
    for each in EVENTS:
        gathered.add([each])
    assert gathered.events == len(EVENTS)
    assert told(Memory().run(rows=gathered.take())) == told(Memory().run(EVENTS))


def test_what_was_taken_is_gone() -> None:
    """Memory is given back when the rows are taken, and what comes later starts anew."""
    gathered = Gathered()
    gathered.add(EVENTS)
    assert gathered.size == 3 + 3 + 2 + 2 + 1 + 2 + 2, "groups of messages and their metrics"
    list(gathered.take())
    assert (gathered.size, list(gathered.take())) == (0, [])
    gathered.add(EVENTS[:1])
    assert told(Memory().run(rows=gathered.take())) == told(Memory().run(EVENTS[:1]))


def test_what_several_days_amount_to() -> None:
    """Rows of the same device, region and metric become one, which says what all of them say."""
    days: list[Retired] = []
    for some in (EVENTS[:3], EVENTS[3:6], EVENTS[6:]):
        gathered = Gathered()
        gathered.add(some)
        days += gathered.take()
    rows = list(merged(sorted(days, key=attrgetter("device_id"))))
    assert len({(row.device_id, row.region, row.metric) for row in rows}) == len(rows) < len(days)
    assert told(Memory().run(rows=rows)) == told(Memory().run(EVENTS))
    for other in permutations(days[:5]):
        assert told(Memory().run(rows=merged(other))) == told(Memory().run(rows=days[:5]))


@pytest.mark.parametrize("max_rows", [1, 2, 3, 5])
def test_parts_of_any_size_come_to_the_same(max_rows: int) -> None:
    """However many rows a device has, no part has more than asked for, and a device may be cut anywhere."""
    gathered = Gathered()
    gathered.add(EVENTS)
    memory = Memory()
    found: dict[str, tuple[dict[str, str], list[object]]] = {}
    for part in parts(gathered.take(), max_rows):
        assert len(part) <= max_rows
        for id_, (fields, marks) in told(memory.run(rows=part)).items():
            found[id_] = (found[id_][0] if id_ in found else {}) | fields, marks
    assert found == told(Memory().run(EVENTS))
