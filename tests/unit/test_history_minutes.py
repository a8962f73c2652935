"""Events folded to minutes, in memory."""

from __future__ import annotations

import tracemalloc
from math import inf
from sys import intern
from typing import TYPE_CHECKING

import msgspec
import pytest

from contract.events import Event
from projector.history import minutes as minutes_module
from projector.history.minutes import PLACE_SIZE, ROW_SIZE, Minutes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contract.events import Scalar
    from projector.history.minutes import Columns

NINE = 29_923_740  # minutes from 1970 to 2026-11-23T09:00Z
MINUTE_US = 60_000_000


def event(second: float, *, device: str = "a", region: str | None = "north", **metrics: Scalar) -> Event:
    ts = f"2026-11-23T09:0{int(second // 60)}:{second % 60:09.6f}Z"
    return Event(device, region, ts, ts, "k", metrics)


def rows(pieces: Iterator[Columns]) -> set[tuple[object, ...]]:
    return {row for piece in pieces for row in zip(*piece, strict=True)}


@pytest.mark.parametrize("pieces", [1, 100])
def test_one_row_a_metric_and_minute(pieces: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever comes in whatever portions is one row per device, metric and minute, and one per region."""
    monkeypatch.setattr(minutes_module, "PIECE_CELLS", pieces)
    minutes = Minutes()
    minutes.add([event(1, t=2), event(3, t=-1.5, region="south"), event(2, t=True, s="text")])
    minutes.add([event(59, t=4, region=None), event(61, t=-0.0), event(3, t=1)])
    assert rows(minutes.devices()) == {
        ("a", "t", NINE, "south", NINE * MINUTE_US + 3_000_000, 5, 6.5, -1.5, 4.0),
        ("a", "t", NINE + 1, "north", (NINE + 1) * MINUTE_US + 1_000_000, 1, 0.0, 0.0, 0.0),
    }
    assert {row[:3] + row[5:] for row in rows(minutes.regions())} == {
        ("north", "t", NINE, 3, 4.0, 1.0, 2.0),
        ("south", "t", NINE, 1, -1.5, -1.5, -1.5),
        ("", "t", NINE, 1, 4.0, 4.0, 4.0),
        ("north", "t", NINE + 1, 1, 0.0, 0.0, 0.0),
    }
    assert minutes.size == 4 * (1 + ROW_SIZE + PLACE_SIZE)


def test_nothing_is_summed_up_before_it_is_asked_for() -> None:
    """Whoever asks does so beside the loop, of which large sums would hold up everything else."""
    minutes = Minutes()
    pieces = minutes.regions(), minutes.devices()
    minutes.add([event(1, t=2)])
    assert [len(rows(each)) for each in pieces] == [1, 1]


def test_what_there_is_of_a_device() -> None:
    """Each metric and minute of one device, for each region and each set of names that it came with."""
    minutes = Minutes()
    minutes.add([event(1, t=2), event(2, t=4, u=True, s="x"), event(61, t=-0.0), event(3, device="b", t=9)])
    minutes.add([event(4, t=1.7e308, region=None), event(5, t=1.7e308, region=None)])
    found = minutes.of_device("a", "2026-11-23T09:00", "2026-11-23T09:02")
    assert sorted((minute, names, row[1:]) for minute, names, row in found) == [
        ("2026-11-23T09:00", ("t",), [1, 2, 2, 2]),
        ("2026-11-23T09:00", ("t",), [2, inf, 1.7e308, 1.7e308]),
        ("2026-11-23T09:00", ("t", "u"), [1, 4, 4, 4, 1, 1, 1]),
        ("2026-11-23T09:01", ("t",), [1, 0, 0, 0]),
    ]
    assert len(minutes.of_device("a", "2026-11-23T09:01", "2026-11-23T09:02")) == 1
    assert len(minutes.of_device("a", "2026-11-23T09:00", "2026-11-23T09:01")) == 3
    assert minutes.of_device("c", "2026-11-23T09:00", "2026-11-23T09:02") == []


def test_sums_stay_finite() -> None:
    """Readings that add up to more than a double holds saturate, within a portion and across portions."""
    minutes = Minutes()
    for _ in range(2):
        minutes.add([event(1, t=1.7e308), event(2, t=1.7e308)])
    ((*_, count, total, _, high),) = rows(minutes.devices())
    assert (count, total, high) == (4, 1.79769313486231e308, 1.7e308)


def test_opposite_overflows_cancel_out() -> None:
    """What one portion has too much of and the other too little is worth as much as each can hold."""
    minutes, other = Minutes(), Minutes()
    minutes.add([event(1, t=1.7e308), event(2, t=1.7e308)])
    other.add([event(3, t=-1.7e308), event(4, t=-1.7e308)])
    minutes.absorb(other)
    ((*_, count, total, low, high),) = rows(minutes.devices())
    assert (count, total, low, high) == (4, 0.0, -1.7e308, 1.7e308)


def test_strings_alone_leave_nothing() -> None:
    """A metric that is only text is not in history, and takes no memory however many devices send it."""
    minutes, many = Minutes(), 10_000
    tracemalloc.start()
    minutes.add(event(1, device=str(i), s="on") for i in range(many))
    minutes.add([event(1)])
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (minutes.size, rows(minutes.devices()), rows(minutes.regions())) == (0, set(), set())
    assert held < many


def test_text_between_numbers_is_no_message_of_the_metric() -> None:
    """Where a metric is text for once, only the other metrics have that message, and its region."""
    minutes = Minutes()
    minutes.add([event(1, t=1, u=1), event(2, region="south", t="off", u=2), event(3, region=None, u=3)])
    assert {row[:2] + row[3:] for row in rows(minutes.devices())} == {
        ("a", "t", "north", NINE * MINUTE_US + 1_000_000, 1, 1.0, 1.0, 1.0),
        ("a", "u", "south", NINE * MINUTE_US + 2_000_000, 3, 6.0, 1.0, 3.0),
    }


def test_metrics_may_come_in_any_company() -> None:
    """Whatever metrics a message has, and in whichever order, each adds up with those of the same name."""
    minutes, other = Minutes(), Minutes()
    minutes.add([event(1, t=1, u=2), event(2, u=3, t=4), event(3, t=5), event(4, device="b", t=6)])
    other.add([event(5, t=7, u=8), event(6, device="b", u=9, t=10), event(61, t=11)])
    minutes.absorb(other)
    assert {row[:3] + row[5:] for row in rows(minutes.devices())} == {
        ("a", "t", NINE, 4, 17.0, 1.0, 7.0),
        ("a", "u", NINE, 3, 13.0, 2.0, 8.0),
        ("b", "t", NINE, 2, 16.0, 6.0, 10.0),
        ("b", "u", NINE, 1, 9.0, 9.0, 9.0),
        ("a", "t", NINE + 1, 1, 11.0, 11.0, 11.0),
    }


@pytest.mark.parametrize(("devices", "together"), [(20_000, 2), (20_000, 1), (1, 1)])
def test_size_is_what_memory_it_takes(devices: int, together: int) -> None:
    """Of a fleet with few metrics, or one device with another in each message: about what `size` says."""
    fleet = [
        Event(
            f"device-{i % devices}",
            "north",
            at,
            at,
            "k",
            {f"metric-{i // devices}-{j}": i / 7 for j in range(together)},
        )
        for i in range(20_000)
        for at in [f"2026-11-23T09:00:00.{i:06}Z"]
    ]
    messages = [msgspec.json.encode(each) for each in fleet]
    minutes = Minutes()
    kept = {intern(each.device_id) for each in fleet}  # as whoever watches devices keeps them
    tracemalloc.start()
    minutes.add(msgspec.json.decode(message, type=Event) for message in messages)  # texts of their own each
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 60 < held / minutes.size < 180
    assert len(kept) == devices
