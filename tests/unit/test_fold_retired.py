from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from contract.events import Event, Scalar
from projector.repair.retired import TAGS, Retired, fold_retired
from projector.views.fold import fold

if TYPE_CHECKING:
    from projector.views.fold import Delta

RECEIVED = "2026-11-23T12:00:09.000000Z"


def at(second: int) -> str:
    """A time past noon."""
    return f"2026-11-23T12:00:{second:02d}.000000Z"


def retired(
    region: str,
    metric: str,
    count: int,
    second: int,
    *values: float,
    last: Scalar | dict[str, str] | None,
) -> Retired:
    """A row of device `d` whose newest message has the second for its key."""
    total, low, high = (sum(values), min(values), max(values)) if values else (None, None, None)
    return Retired("d", region, metric, count, total, low, high, last, at(second), f"k{second}", RECEIVED)


def by_name(delta: Delta) -> dict[str, tuple[object, ...]]:
    """A delta's metrics."""
    return {m.name: (m.last, m.us, m.tie, m.count, m.total, m.low, m.high) for m in delta.metrics}


def test_equals_a_fold_of_the_events() -> None:
    """Statistics of events that are gone fold to the deltas that the events fold to."""
    events = [
        Event("d", "north", at(1), RECEIVED, "k1", {"t": 1, "state": "off"}),
        Event("d", "south", at(3), RECEIVED, "k3", {"t": 5.5}),
        Event("d", "north", at(2), RECEIVED, "k2", {"t": 3, "seen": True}),
        Event("d", None, at(4), RECEIVED, "k4", {"state": "on"}),
    ]
    tagged = ({"line": "1"}, {"line": "2"})
    events[0:3:2] = [msgspec.structs.replace(events[2 * i], tags=tags) for i, tags in enumerate(tagged)]
    rows = [
        retired("north", TAGS, 0, 2, last=tagged[1]),
        retired("north", "", 2, 2, last=None),
        retired("north", "t", 2, 2, 1.0, 3.0, last=3),
        retired("north", "state", 0, 1, last="off"),
        retired("north", "seen", 1, 2, 1.0, last=True),
        retired("south", "", 1, 3, last=None),
        retired("south", "t", 1, 3, 5.5, last=5.5),
        retired("", "", 1, 4, last=None),
        retired("", "state", 0, 4, last="on"),
    ]
    expected, found = fold(events), fold_retired(reversed(rows))
    assert [by_name(delta) for delta in found.devices] == [by_name(delta) for delta in expected.devices]
    for family in ("devices", "regions"):
        for right in getattr(expected, family):
            (delta,) = [each for each in getattr(found, family) if each.id == right.id]
            assert by_name(delta) == by_name(right)
            for field in right.__struct_fields__[:-1]:
                assert getattr(delta, field) == getattr(right, field), field


def test_nothing_folds_to_nothing() -> None:
    """Without rows there are no deltas."""
    assert fold_retired([]).devices == fold_retired([]).regions == []
