"""What the worst payloads cost, counted in calls: bounds on time would be bounds on the machine."""

from __future__ import annotations

import sys

import pytest

from bench.dialects import decoder_of
from bench.hostile import SIZE, Hostile, hostile
from gateway.decode import Received
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
