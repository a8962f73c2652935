"""What the worst payloads cost, counted in calls: bounds on time would be bounds on the machine.

And that what is sent in earnest is not among them.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from bench.dialects import decoder_of
from bench.hostile import SIZE, Hostile, hostile
from gateway.decode import Limits, Reading, Received, Rejection
from tests.support.write_side import NOW, Delivered

MOST = 330_000  # calls, of which ten and more go into a microsecond of ours


def calls(of: Hostile) -> int:
    """How many functions are called, ours and those of libraries, while a payload is decoded."""
    decoder, message, received = decoder_of(of.route), Delivered(of.topic, of.payload), Received.of(NOW)
    made = 0

    def note(_frame: object, event: str, _of: object) -> None:
        nonlocal made
        made += event in {"call", "c_call"}

    sys.setprofile(note)
    try:
        found = decoder.decode(message, received)
    finally:
        sys.setprofile(None)
    assert found or of.name.startswith("ignore")
    return made


@pytest.mark.parametrize("of", [pytest.param(each, id=each.name) for each in hostile()])
def test_no_payload_costs_more(of: Hostile) -> None:
    """However many of whatever a payload has, it is refused, or stored, with so many calls at most."""
    assert len(of.payload) <= SIZE
    assert calls(of) <= MOST


T = 1_795_424_400
TELEGRAF = {
    "metrics": [
        {
            "fields": {f"field_{k}": i + k / 4 for k in range(8)},
            "name": ("cpu", "disk", "mem", "net", "kernel")[i % 5],
            "tags": {"host": "press-1", "part": f"p{i % 50}"},
            "timestamp": T + i // 50 * 10,
        }
        for i in range(1_000)
    ]
}
KEPWARE = {
    "timestamp": T * 1000,
    "values": [{"id": f"Hall.PLC1.Tag{i}", "v": i, "q": True, "t": T * 1000 + i % 50} for i in range(1_000)],
}
LOGGER = {"rows": [{"t": T + i, "v": {f"f{k}": k for k in range(200)}} for i in range(100)]}
STATES = {"key": "id", "time": "ts", "states": {"ON": 1}}
HISTORY = [{"id": f"k{i}", "ts": (T + i) * 1000, "t": i / 10, "state": "ON"} for i in range(3_900)]


@pytest.mark.parametrize(
    ("route", "topic", "message", "readings"),
    [
        pytest.param({"dialect": "telegraf-json"}, "telegraf/press-1/cpu", TELEGRAF, 1_000, id="telegraf"),
        pytest.param({"dialect": "kepware"}, "iotgateway", KEPWARE, 50, id="kepware"),
        pytest.param({"each": "rows", "time": "t"}, "devices/d/telemetry", LOGGER, 100, id="logger"),
    ],
)  # fmt: skip
def test_as_much_as_is_sent_at_once(
    route: dict[str, Any], topic: str, message: object, readings: int
) -> None:
    """What is a message of a full size where it comes from is stored, of names that are new as well."""
    payload = json.dumps(message, separators=(",", ":")).encode()
    found = decoder_of(route).decode(Delivered(topic, payload), Received.of(NOW))
    assert [type(each) for each in found] == [Reading] * readings


def test_more_where_nobody_waits() -> None:
    """A message that costs too much where others wait is its readings when it is replayed."""
    message = Delivered("devices/d1/telemetry", json.dumps(HISTORY, separators=(",", ":")).encode())
    (letter,) = decoder_of(STATES).decode(message, Received.of(NOW))
    assert isinstance(letter, Rejection)
    assert letter.reason == "too_many_readings"
    assert "dead-letters replay" in letter.error
    replayed = decoder_of(STATES, Limits().unhurried).decode(message, Received.of(NOW))
    assert [type(each) for each in replayed] == [Reading] * len(HISTORY)
