from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from projector.live.columns import arranged, most_common
from projector.live.orders import Order
from projector.live.rows import make_row, number
from projector.live.state import Letter
from projector.watch.said import Said

if TYPE_CHECKING:
    from projector.watch.book import State

OK = Said("ok", None, None)


@pytest.mark.parametrize(
    ("digits", "found"),
    [
        (b"12", 12),
        (None, 0),
        (b"", 0),
        (b"1e9", 0),
        (b"\xff", 0),
        (b"9" * 30, 0),
        (b"-9223372036854775807", -(2**63) + 1),
    ],
)
def test_a_number_that_somebody_may_have_overwritten(digits: bytes | None, found: int) -> None:
    """What is no number, or too large for JSON, is 0."""
    assert number(digits) == found


def test_a_row_of_anything() -> None:
    """Whatever a device's hash holds, its row goes over the wire."""
    reply = {
        b"last_seen_ms": b"9" * 30,
        b"region": b"\xff",
        b"last_a": b"1e999",
        b"last_b": b"nan",
        b"last_\xff": b"\x00",
    }
    row = make_row("d", reply, OK, [])
    assert msgspec.json.decode(msgspec.json.encode(row))["values"] == {
        "a": "1e999",
        "b": "nan",
        "\\xff": "\x00",
    }


def test_values_are_what_was_sent() -> None:
    """A version, a serial number and a missing value are texts; a number is one, to its last digit."""
    reply = {
        b"last_firmware": b"1.10",
        b"last_lat": b"52.520008",
        b"count_lat": b"7",
        b"last_serial": b"007",
    }
    assert make_row("d", reply, OK, []).values == {
        "firmware": "1.10",
        "lat": 52.520008,
        "serial": "007",
    }


def test_the_metrics_that_are_wanted() -> None:
    """A row has the metrics asked for, in that order; one that has none of them shows what it has."""
    reply = {b"last_humidity": b"40", b"last_level": b"1", b"last_temperature": b"21"}
    wanted = ("temperature", "humidity", "power")
    assert list(make_row("d", reply, OK, [], wanted=wanted).values) == ["temperature", "humidity"]
    assert list(make_row("d", reply, OK, [], wanted=("power",)).values) == [
        "humidity",
        "level",
        "temperature",
    ]


def test_the_most_common_metrics_come_first() -> None:
    """What most devices have; of equally common ones numbers, then the order in which it is sent."""
    devices = [
        ["last_seen", "last_firmware", "last_temperature", "count_temperature", "last_level", "count_level"],
        ["last_temperature", "count_temperature", "last_level", "count_level", "last_firmware"],
        ["last_power", "count_power", "last_temperature", "count_temperature", "last_firmware"],
        ["last_level", "count_level", "tag_last_line", "last_temperature", "last_firmware"],
    ]
    assert most_common(devices) == ["temperature", "firmware", "level", "power"]
    assert most_common([]) == []
    fields = [
        f"{kind}_{metric}" for metric in ("battery_pct", "humidity", "status") for kind in ("last", "count")
    ]
    assert most_common([fields]) == ["humidity", "status", "battery_pct"]


@pytest.mark.parametrize(
    ("asked", "order"),
    [
        ("device", ("device", "", False)),
        ("-seen", ("seen", "", True)),
        ("-metric:-a:b", ("metric", "-a:b", True)),
    ],
)
def test_an_order_as_it_is_asked_for(asked: str, order: tuple[str, str, bool]) -> None:
    """A column, or any metric, and which way."""
    assert Order.parse(asked) == order


@pytest.mark.parametrize("asked", ["", "-", "metric:", "name", "--seen"])
def test_no_order(asked: str) -> None:
    """What is no column is refused."""
    with pytest.raises(ValueError, match="expected device, region, seen or metric:<name>"):
        Order.parse(asked)


async def test_devices_by_a_value() -> None:
    """Numbers by size, then texts; equal ones as they stand; without a value they are last whichever way."""
    values = {"a": "9", "b": "10", "c": None, "d": "on", "e": "9", "f": "nan", "g": -1.5}
    assert await arranged("abcdefgh", values, numbers=True, descending=False) == list("gaebfdch")
    assert await arranged("hgfedcba", values, numbers=True, descending=True) == list("dfbeaghc")


async def test_names_that_are_numbers() -> None:
    """A region or a device called 10 or 9 is sorted as the text that it is."""
    values = {"a": "9", "b": "10", "c": "x"}
    assert await arranged("abc", values, numbers=False, descending=False) == list("bac")


@pytest.mark.parametrize(
    ("state", "standing", "rejected"),
    [("silent", "silent", "silent"), ("ok", "ok", "rejected"), ("unknown", "unknown", "rejected")],
)
def test_a_row_stands_as_the_watch_says(state: State, standing: str, rejected: str) -> None:
    """Whatever its clock says; rejections come before all but silence."""
    letter = Letter(1, 0, "malformed_json", "d", "t", "e", replayed=False)
    row = make_row("d", {b"last_seen_ms": b"5"}, Said(state, 60, 120), [])
    assert (row.standing, row.last_seen_ms, row.heard_ms, row.usual_ms) == (standing, 5, 60_000, 120_000)
    assert make_row("d", {}, Said(state, None, None), [letter]).standing == rejected
