from __future__ import annotations

import msgspec
import pytest

from projector.live.rows import make_row, number


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
    row = make_row("d", reply, "ok", None, [])
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
    assert make_row("d", reply, "ok", None, []).values == {
        "firmware": "1.10",
        "lat": 52.520008,
        "serial": "007",
    }
