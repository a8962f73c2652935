"""What devices of the field send (`tests/field`), and what must come of it."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.decode import Decoder, Limits, Reading, Received, Rejection
from gateway.decode.routes import compile_routes
from runtime.settings import Route
from tests.support.write_side import NOW, Delivered

FIELD = Path(__file__).parents[1] / "field"
ARRIVED = NOW + timedelta(days=5)


def decode(name: str, *routes: Route) -> tuple[list[Reading], list[Rejection], Decoder]:
    """Decode a file's messages, one after the other."""
    decoder = Decoder(compile_routes(routes or (Route(),)), Limits())
    received = Received.of(ARRIVED)
    items = [
        item
        for each in json.loads((FIELD / f"{name}.json").read_bytes())
        for item in decoder.decode(Delivered(each["topic"], each["payload"].encode()), received)
    ]
    readings = [item for item in items if isinstance(item, Reading)]
    return readings, [item for item in items if isinstance(item, Rejection)], decoder


def metrics(reading: Reading) -> dict[str, Any]:
    """What a reading says."""
    found: dict[str, Any] = json.loads(bytes(reading.event.metrics))
    return found


def distinct(readings: list[Reading]) -> int:
    """How many of them are stored."""
    return len({reading.identity for reading in readings})


def test_nested_values_are_metrics() -> None:
    """Two messages of one time that differ in a nested value are two readings, with those values."""
    readings, _, _ = decode("values-object")
    assert [metrics(reading)["values.temperature"] for reading in readings] == [51.5, 88.75]
    assert distinct(readings) == 2


def test_another_nested_value_under_the_same_key_is_a_conflict() -> None:
    """The key is the same and the content is not."""
    (first, second), _, _ = decode("same-key-nested")
    assert first.identity == second.identity
    assert first.content != second.content


def test_a_constant_id_is_no_key() -> None:
    """Where the route says that there is no key, `id` is a field like any other."""
    readings, _, _ = decode("constant-id", Route(key=""))
    assert distinct(readings) == 4
    assert metrics(readings[0]) == {"id": "C4:7C:8D:00:00:09", "moist": 31}
    assert not readings[0].keyed


def test_one_topic_a_metric() -> None:
    """Equal values at one time under three topics are three readings, each of its topic's metric."""
    readings, _, _ = decode("topic-per-metric", Route(topic="s/{device_id}/{metric}"))
    assert distinct(readings) == 3
    assert [metrics(reading) for reading in readings] == [{"temp": 17}, {"hum": 17}, {"co2": 17}]


@pytest.mark.parametrize("template", ["s/{device_id}/{metric}", "s/{device_id}/+", "s/{device_id}/{channel}"])
def test_a_counter_a_topic(template: str) -> None:
    """Two topics that count for themselves do not collide, whatever the template calls the difference."""
    readings, _, _ = decode("counter-per-topic", Route(topic=template))
    assert distinct(readings) == 2


@pytest.mark.parametrize("name", ["ties", "array-order"])
def test_order_of_arrival(name: str) -> None:
    """What came later is later, within an array by place, also where device time says nothing."""
    readings, _, _ = decode(name)
    arrived = [reading.event.received_at for reading in readings]
    assert arrived == sorted(set(arrived))
    if name == "array-order":
        assert [metrics(reading)["v"] for reading in readings] == [5, 6, 7]
        assert [reading.event.ts for reading in readings] == arrived


def test_the_hour_that_comes_twice() -> None:
    """The same local time once more is an hour later, when summer time ends in between."""
    readings, _, _ = decode("local-time", Route(timezone="Europe/Berlin"))
    assert [reading.event.ts for reading in readings] == [
        "2026-10-25T00:58:00.000000Z",
        "2026-10-25T00:59:00.000000Z",
        "2026-10-25T01:58:00.000000Z",
    ]
    assert distinct(readings) == 3


def test_one_bad_field() -> None:
    """A message goes without what cannot be stored, where its route says so, and that is counted by name."""
    readings, refused, _ = decode("one-bad-field")
    assert [rejection.reason for rejection in refused] == ["malformed_json"]
    assert "field 'h' is NaN" in refused[0].error
    assert 'on_bad_field = "drop"' in refused[0].error
    readings, refused, decoder = decode("one-bad-field", Route(on_bad_field="drop"))
    assert refused == []
    assert [metrics(reading) for reading in readings] == [
        {"t": 19.5},
        {"iccid": "89314400000000000019", "t": 19.75},
    ]
    assert readings[1].event.region is None
    assert decoder.drops.counts == {("devices/{device_id}/telemetry", "h", "malformed_json"): 1}


def test_times() -> None:
    """Seven ways to write one moment."""
    readings, _, _ = decode("times")
    assert [reading.event.ts for reading in readings] == ["2026-11-26T12:00:00.000000Z"] * 7
