from __future__ import annotations

import math

import pytest

from contract.events import Event, Scalar
from contract.order import microseconds
from projector.views.fold import Delta, MetricDelta, fold, number_text

NOON = "2026-11-23T12:00:00.000000Z"
LATER = "2026-11-23T12:00:00.000001Z"
RECEIVED = "2026-11-23T12:00:05.000000Z"


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


def metric(delta: Delta, name: str = "x") -> MetricDelta:
    """A metric of a delta."""
    return next(each for each in delta.metrics if each.name == name)


def test_one_delta_a_device() -> None:
    """However many events, a device gets one delta with its counts, sums and extremes."""
    folded = fold([event(key=str(n), x=n, device=f"d{n % 2}") for n in range(10)])
    assert [delta.id for delta in folded.devices] == ["d0", "d1"]
    odd = folded.devices[1]
    assert odd.count == 5
    x = metric(odd)
    assert (x.count, x.total, x.low, x.high, x.last) == (5, 25.0, 1.0, 9.0, "9")


def test_late_event_does_not_win() -> None:
    """The last value follows event time, not the order of arrival."""
    (delta,) = fold([event(LATER, x=2), event(NOON, x=1)]).devices
    assert metric(delta).last == "2"
    assert delta.last_seen == LATER


class Looked(dict[str, Scalar]):
    """Metrics that note each look for a name in them."""

    looks = 0

    def __contains__(self, name: object) -> bool:
        Looked.looks += 1
        return super().__contains__(name)


def test_work_grows_with_what_is_folded() -> None:
    """A metric that only some messages have is not looked for in all of them."""
    Looked.looks = 0
    events = [
        Event("d", "r", NOON, RECEIVED, str(n), Looked({f"m{n}-{i}": n for i in range(20)}))
        for n in range(100)
    ]
    folded = fold(events)
    sent = {name: str(value) for each in events for name, value in each.metrics.items()}
    for delta in (*folded.devices, *folded.regions):
        assert {each.name: each.last for each in delta.metrics} == sent
    assert Looked.looks < 5 * len(sent)


def test_arrival_settles_equal_times() -> None:
    """Of two messages at one device time the one that came later is newer: 10 after 9."""
    nine = event(key="9", state="ON", received_at="2026-11-23T12:00:05.000001Z")
    ten = event(key="10", state="OFF", received_at="2026-11-23T12:00:05.000002Z")
    for events in ([nine, ten], [ten, nine]):
        (delta,) = fold(events).devices
        assert metric(delta, "state").last == "OFF"


def test_clock_ahead_wins_for_five_minutes() -> None:
    """A device time far beyond its arrival counts as five minutes after it, and the delta says how far."""
    wrong = event("2026-11-24T08:00:00.000000Z", x=1)
    soon = event("2026-11-23T12:04:00.000000Z", received_at="2026-11-23T12:04:00.500000Z", x=2)
    later = event("2026-11-23T12:05:05.000001Z", received_at="2026-11-23T12:05:06.000000Z", x=3)
    (delta,) = fold([wrong, soon]).devices
    assert (metric(delta).last, delta.last_seen) == ("1", "2026-11-23T12:05:05.000000Z")
    assert delta.ahead_ms == (20 * 3600 - 5) * 1000
    (delta,) = fold([later, wrong, soon]).devices
    assert (metric(delta).last, delta.last_seen, delta.ahead_ms) == ("3", later.ts, 0)


def test_tags_are_those_of_the_newest_message_with_any() -> None:
    """All tags of one message go together; a message without tags takes none away."""
    first = event(NOON, tags={"line": "3", "hall": "a"}, x=1)
    second = event(LATER, tags={"line": "4"}, x=2)
    bare = event("2026-11-23T12:00:00.000002Z", x=3)
    (delta,) = fold([second, bare, first]).devices
    assert (delta.tags, delta.tags_us) == ('{"line":"4"}', microseconds(LATER))
    (delta,) = fold([first]).devices
    assert (delta.tags, delta.tags_us, delta.tags_tie) == ('{"hall":"a","line":"3"}', 0, "")


@pytest.mark.parametrize("wrong", ["", "z", "2026-13-23T12:00:00.000000Z"])
def test_times_that_are_none_are_refused(wrong: str) -> None:
    """A time that does not parse is an error to be caught, whichever it is."""
    with pytest.raises(ValueError, match=r"[Ii]nvalid|month"):
        fold([event(wrong, x=1)])


def test_key_settles_equal_arrivals() -> None:
    """Two gateways may receive in the same microsecond: the greater key is newer, compared byte by byte."""
    for events in ([event(key="Z", x=1), event(key="a", x=2)], [event(key="a", x=2), event(key="Z", x=1)]):
        (delta,) = fold(events).devices
        assert metric(delta).last == "2"


def test_each_metric_has_its_own_newest_message() -> None:
    """A newer message without a metric neither blocks that metric's last value nor takes it away."""
    (delta,) = fold([event(NOON, x=1, y=1), event(LATER, "b", y=2)]).devices
    x, y = metric(delta, "x"), metric(delta, "y")
    assert (x.last, x.us) == ("1", microseconds(NOON))
    assert x.tie == f"{RECEIVED}k"
    assert (y.last, y.us) == ("2", 0)
    assert delta.shape == '["y"]'


def test_regions_are_those_of_the_messages() -> None:
    """A region sums the messages that name it; a device's region is the newest that it named."""
    events = [
        event("2026-11-23T12:00:00.000001Z", "1", region="north", x=1),
        event("2026-11-23T12:00:00.000003Z", "3", region="south", x=3),
        event("2026-11-23T12:00:00.000002Z", "2", region="north", x=2),
        event("2026-11-23T12:00:00.000004Z", "4", x=4),
    ]
    folded = fold(events)
    (device,) = folded.devices
    assert (device.count, metric(device).total, device.region) == (4, 10.0, "south")
    assert device.region_us == microseconds(events[1].ts)
    sums = {delta.id: (delta.count, metric(delta).total, metric(delta).last) for delta in folded.regions}
    assert sums == {"north": (2, 3.0, "2"), "south": (1, 3.0, "3")}


def test_device_settles_a_regions_ties() -> None:
    """Two devices with equal time and key: the region's last value is that of the greater device id."""
    (region,) = fold([event(device="b", region="r", x=2), event(device="a", region="r", x=1)]).regions
    assert metric(region).last == "2"


def test_strings_have_a_last_value_only() -> None:
    """A string is a last value and is counted nowhere; numbers of the same metric are."""
    (delta,) = fold([event(NOON, state="on"), event(LATER, state=3), event(NOON, "a", state="off")]).devices
    state = metric(delta, "state")
    assert (state.last, state.count, state.total, state.low, state.high) == ("3", 1, 3.0, 3.0, 3.0)
    (delta,) = fold([event(state="on")]).devices
    assert (metric(delta, "state").last, metric(delta, "state").count) == ("on", 0)


def test_booleans_are_numbers() -> None:
    """True is 1 and false is 0."""
    (delta,) = fold([event(NOON, x=True), event(LATER, x=False)]).devices
    x = metric(delta)
    assert (x.last, x.count, x.total, x.low, x.high) == ("0", 2, 1.0, 0.0, 1.0)


def test_metric_named_seen_keeps_out_of_last_seen() -> None:
    """`last_seen` stays the time of the newest message, whatever a metric is called."""
    (delta,) = fold([event(seen=7, seen_ms=8)]).devices
    assert [(each.last, each.total) for each in delta.metrics] == [(None, 7.0), (None, 8.0)]


def test_sums_stay_finite() -> None:
    """A sum beyond the largest double is the largest double: there is no infinity in JSON."""
    (delta,) = fold([event(x=1.7e308, key=str(n)) for n in range(3)]).devices
    assert math.isfinite(metric(delta).total)
    assert metric(delta).total > 1.79e308


def test_nothing_folds_to_nothing() -> None:
    """A run without events has no deltas."""
    assert fold([]).devices == fold([]).regions == []


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


def test_microseconds() -> None:
    """Times become exact integers."""
    assert microseconds("1970-01-02T00:00:01.000007Z") == 86_401_000_007
