"""What runs make of views."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.events import Event, Scalar
from contract.order import microseconds
from projector.views import writes
from projector.views.numbers import number_text, total_text
from projector.views.retired import TAGS, Retired
from projector.views.state import FEW_NAMES, names_of
from tests.support.changed import Memory

NOON = "2026-11-23T12:00:00.000000Z"
LATER = "2026-11-23T12:00:00.000001Z"
RECEIVED = "2026-11-23T12:00:05.000000Z"
LONG_AFTER = "2026-11-23T12:00:09.000000Z"


def event(
    ts: str = NOON,
    key: str = "k",
    *,
    device: str = "d",
    region: str | None = None,
    received_at: str = RECEIVED,
    tags: dict[str, str] | None = None,
    **metrics: Scalar,
) -> Event:
    """One event."""
    return Event(device, region, ts, received_at, key, metrics, tags)


def fields(*events: Event, of: str = "d") -> dict[str, str]:
    """The fields that events set in a view that is not there yet."""
    return Memory().run(events)[of].fields


def statistics(found: dict[str, str], metric: str = "x") -> tuple[str | None, ...]:
    """Count, sum, minimum, maximum, average and last value of a metric."""
    return tuple(found.get(f"{name}_{metric}") for name in ("count", "sum", "min", "max", "avg", "last"))


def test_one_view_a_device() -> None:
    """However many events, a device is written once, with counts, sums and extremes."""
    changes = Memory().run([event(key=str(n), x=n, device=f"d{n % 2}") for n in range(10)])
    assert list(changes) == ["d0", "d1"]
    odd = changes["d1"].fields
    assert (odd["sample_count"], odd["device_id"]) == ("5", "d1")
    assert statistics(odd) == ("5", "25", "1", "9", "5", "9")


def test_much_room_is_made_for_one_view_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others have their turn between two pieces; a few metrics that go are no reason for one more."""
    monkeypatch.setattr(writes, "PIECE", 1_000_000)
    memory = Memory(most_metrics=10)
    for n, (names, pieces) in enumerate(((3000, 1), (3000, 3), (5, 3), (5, 1))):
        made: dict[str, Scalar] = {f"m{n}-{i}": 1 for i in range(names)}
        memory.run([Event("d", "r", NOON, f"2026-11-23T12:00:0{n}.000000Z", "k", made)])
        assert memory.pieces == pieces, n


def test_what_few_share_is_not_remembered() -> None:
    """Of few names there is one set for all views; a thousand others a message leave nothing behind."""
    few, many = (tuple(f"m{i}" for i in range(count)) for count in (FEW_NAMES, FEW_NAMES + 1))
    assert names_of(few) is names_of((*few,))
    assert names_of(many) is not names_of(many)
    assert names_of(many) == set(many)


def test_run_after_run() -> None:
    """What is remembered goes on: sums grow, and bounds are written only when they move."""
    memory = Memory()
    memory.run([event(x=2), event(LATER, x=4)])
    found = memory.run([event("2026-11-23T12:00:00.000002Z", x=3)])["d"].fields
    assert statistics(found) == ("3", "9", None, None, "3", "3")
    assert "device_id" not in found
    found = memory.run([event("2026-11-23T12:00:00.000003Z", x=5)])["d"].fields
    assert statistics(found) == ("4", "14", "2", "5", "3.5", "5")


def test_late_event_does_not_win() -> None:
    """The last value follows event time, not the order of arrival, within a run and after it."""
    memory = Memory()
    found = memory.run([event(LATER, x=2), event(NOON, x=1)])["d"].fields
    assert (found["last_x"], found["last_seen"]) == ("2", LATER)
    found = memory.run([event(NOON, "l", x=3)])["d"].fields
    assert ("last_x" in found, "last_seen" in found) == (False, False)
    assert found["sum_x"] == "6"


class Looked(dict[str, Scalar]):
    """Metrics that note each look for a name in them."""

    looks = 0

    def __contains__(self, name: object) -> bool:
        Looked.looks += 1
        return super().__contains__(name)


def test_work_grows_with_what_is_added() -> None:
    """A metric that only some messages have is not looked for in all of them."""
    Looked.looks = 0
    events = [
        Event("d", "r", NOON, RECEIVED, str(n), Looked({f"m{n}-{i}": n for i in range(20)}))
        for n in range(100)
    ]
    sent = {name: str(value) for each in events for name, value in each.metrics.items()}
    for changed in Memory().run(events).values():
        assert {name: changed.fields[f"last_{name}"] for name in sent} == sent
    assert Looked.looks < 5 * len(sent)


def test_arrival_settles_equal_times() -> None:
    """Of two messages at one device time the one that came later is newer: 10 after 9."""
    nine = event(key="9", state="ON", received_at="2026-11-23T12:00:05.000001Z")
    ten = event(key="10", state="OFF", received_at="2026-11-23T12:00:05.000002Z")
    for events in ([nine, ten], [ten, nine]):
        assert fields(*events)["last_state"] == "OFF"


def test_clock_ahead_wins_for_five_minutes() -> None:
    """A device time far beyond its arrival counts as five minutes after it, and the view says how far."""
    wrong = event("2026-11-24T08:00:00.000000Z", x=1)
    soon = event("2026-11-23T12:04:00.000000Z", received_at="2026-11-23T12:04:00.500000Z", x=2)
    later = event("2026-11-23T12:05:05.000001Z", received_at="2026-11-23T12:05:06.000000Z", x=3)
    found = fields(wrong, soon)
    assert (found["last_x"], found["last_seen"]) == ("1", "2026-11-23T12:05:05.000000Z")
    assert found["clock_ahead_ms"] == str((20 * 3600 - 5) * 1000)
    found = fields(later, wrong, soon)
    assert (found["last_x"], found["last_seen"]) == ("3", later.ts)
    assert "clock_ahead_ms" not in found


def test_tags_are_those_of_the_newest_message_with_any() -> None:
    """All tags of one message go together; a message without tags takes none away."""
    first = event(NOON, tags={"line": "3", "hall": "a"}, x=1)
    second = event(LATER, tags={"line": "4"}, x=2)
    bare = event("2026-11-23T12:00:00.000002Z", x=3)
    changed = Memory().run([second, bare, first])["d"]
    assert (changed.view.tags, changed.view.tags_mark) == ('{"line":"4"}', f"{LATER}{RECEIVED}k")
    assert {name: text for name, text in changed.fields.items() if name.startswith("tag_")} == {
        "tag_line": "4"
    }
    assert Memory().run([first])["d"].view.tags == '{"hall":"a","line":"3"}'


def test_key_settles_equal_arrivals() -> None:
    """Two gateways may receive in the same microsecond: the greater key is newer, compared byte by byte."""
    for events in ([event(key="Z", x=1), event(key="a", x=2)], [event(key="a", x=2), event(key="Z", x=1)]):
        assert fields(*events)["last_x"] == "2"


def test_each_metric_has_its_own_newest_message() -> None:
    """A newer message without a metric neither blocks that metric's last value nor takes it away."""
    memory = Memory()
    changed = memory.run([event(NOON, x=1, y=1), event(LATER, "b", y=2)])["d"]
    assert (changed.fields["last_x"], changed.fields["last_y"]) == ("1", "2")
    assert changed.view.others == {"x": f"{NOON}{RECEIVED}k"}
    assert changed.view.names == {"y"}
    found = memory.run([event(NOON, "l", x=3), event(NOON, "a", x=4), event(NOON, "z", y=5)])["d"]
    assert found.fields["last_x"] == "3", "newer than the first, older than the newest message"
    assert "last_y" not in found.fields
    back = memory.run([event("2026-11-23T12:00:00.000002Z", x=6)])["d"]
    assert back.view.others == {"y": f"{LATER}{RECEIVED}b"}


def test_regions_are_those_of_the_messages() -> None:
    """A region sums the messages that name it; a device's region is the newest that it named."""
    events = [
        event("2026-11-23T12:00:00.000001Z", "1", region="north", x=1),
        event("2026-11-23T12:00:00.000003Z", "3", region="south", x=3),
        event("2026-11-23T12:00:00.000002Z", "2", region="north", x=2),
        event("2026-11-23T12:00:00.000004Z", "4", x=4),
    ]
    changes = Memory().run(events)
    device = changes["d"]
    found = device.fields
    assert (found["sample_count"], found["sum_x"], found["region"]) == ("4", "10", "south")
    assert device.view.home == f"{events[1].ts}{RECEIVED}3"
    sums = {
        id_: tuple(changes[id_].fields[name] for name in ("sample_count", "sum_x", "last_x", "device_count"))
        for id_ in ("north", "south")
    }
    assert sums == {"north": ("2", "3", "2", "0"), "south": ("1", "3", "3", "1")}


def test_device_settles_a_regions_ties() -> None:
    """Two devices with equal time and key: the region's last value is that of the greater device id."""
    events = [event(device="b", region="r", x=2), event(device="a", region="r", x=1)]
    assert fields(*events, of="r")["last_x"] == "2"


def test_strings_have_a_last_value_only() -> None:
    """A string is a last value and is counted nowhere; numbers of the same metric are."""
    found = fields(event(NOON, state="on"), event(LATER, state=3), event(NOON, "a", state="off"))
    assert statistics(found, "state") == ("1", "3", "3", "3", "3", "3")
    assert statistics(fields(event(state="on")), "state") == (None, None, None, None, None, "on")


def test_booleans_are_numbers() -> None:
    """True is 1 and false is 0."""
    assert statistics(fields(event(NOON, x=True), event(LATER, x=False))) == ("2", "1", "0", "1", "0.5", "0")


def test_metric_named_seen_keeps_out_of_last_seen() -> None:
    """`last_seen` stays the time of the newest message, whatever a metric is called."""
    found = fields(event(seen=7, seen_ms=8))
    assert (found["last_seen"], found["last_seen_ms"]) == (NOON, str(microseconds(NOON) // 1000))
    assert (found["sum_seen"], found["sum_seen_ms"]) == ("7", "8")


def test_sums_stay_finite() -> None:
    """A sum beyond the largest double is the largest double: there is no infinity in JSON."""
    memory = Memory()
    for n in range(3):
        found = memory.run(event(x=1.7e308, key=f"{n}{i}") for i in range(3))["d"].fields
        assert math.isfinite(float(found["sum_x"]))
        assert float(found["sum_x"]) > 1.79e308


def test_nothing_changes_nothing() -> None:
    """A run without events touches no view."""
    assert Memory().run() == {}


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
    return Retired(
        "d",
        region,
        metric,
        count,
        total,
        low,
        high,
        last,
        at(second),
        f"k{second}",
        LONG_AFTER,
    )


def test_statistics_of_events_that_are_gone() -> None:
    """They make the same of a view as the events themselves, in any order, on top of what it holds."""
    events = [
        Event("d", "north", at(1), LONG_AFTER, "k1", {"t": 1, "state": "off"}),
        Event("d", "south", at(3), LONG_AFTER, "k3", {"t": 5.5}),
        Event("d", "north", at(2), LONG_AFTER, "k2", {"t": 3, "seen": True}),
        Event("d", None, at(4), LONG_AFTER, "k4", {"state": "on"}),
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
    before, after = event(NOON, "b", region="north", t=9), event(LATER, "c", device="e", region="north", t=8)
    for first in ([], [before], [before, after]):
        of_events, of_rows = Memory(), Memory()
        of_events.run(first)
        of_rows.run(first)
        expected, found = of_events.run(events), of_rows.run(rows=reversed(rows))
        assert expected.keys() == found.keys()
        for id_, right in expected.items():
            assert (found[id_].fields, found[id_].marks) == (right.fields, right.marks)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (21.5, "21.5"),
        (21.0, "21"),
        (21, "21"),
        (True, "1"),
        (-0.0, "0"),
        (0.1 + 0.2, "0.30000000000000004"),
        (2**53 + 1, "9007199254740992"),
        (2**63 - 1, "9.223372036854776e+18"),
        (1e-7, "1e-07"),
    ],
)
def test_number_text(value: float, text: str) -> None:
    """Text reads back as the same double, without needless digits; larger integers are rounded first."""
    assert number_text(value) == text
    assert float(text) == float(value)


@given(st.floats(allow_nan=False, allow_infinity=False) | st.decimals(-(10**9), 10**9, places=2).map(float))
def test_numbers_are_written_one_way(value: float) -> None:
    """Whichever way writes a number, it is what `repr` and `.15g` say of it."""
    assert number_text(value) == repr(value + 0.0).removesuffix(".0")
    assert total_text(value) == f"{value:.15g}"


@pytest.mark.parametrize(
    ("total", "text"),
    [
        (0.1 + 0.2, "0.3"),
        (21.0, "21"),
        (-12.5, "-12.5"),
        (123456789012345.0, "123456789012345"),
        (1e15, "1e+15"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
    ],
)
def test_total_text(total: float, text: str) -> None:
    """A sum has 15 digits, so decimal readings add up without the dust of binary fractions."""
    assert total_text(total) == text


def test_microseconds() -> None:
    """Times become exact integers."""
    assert microseconds("1970-01-02T00:00:01.000007Z") == 86_401_000_007
