"""Fields that a route ignores are no metrics, however many they are."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.decode import Decoder, Limits, Reading, Received, Rejection
from gateway.decode.dialects import complete_routes
from gateway.decode.routes import compile_routes
from runtime.settings import Route

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)


def decode(route: Route, message: object) -> Reading | Rejection:
    """What the only reading of a message becomes."""
    delivery: Any = SimpleNamespace(topic="s/a", payload=json.dumps(message).encode())
    (found,) = Decoder(compile_routes([route]), Limits()).decode(delivery, Received.of(NOW))
    return found


@pytest.mark.parametrize("gateways", [1, 40])
def test_ignored_fields_do_not_count_as_metrics(gateways: int) -> None:
    """A sensor that forty gateways heard is read: what is ignored of each is beyond no limit."""
    heard = [{"id": f"g{i}", "token": [0] * 30} for i in range(gateways)]
    found = decode(Route(topic="s/{device_id}", ignore=("heard.*.token.*",)), {"t": 1, "heard": heard})
    assert isinstance(found, Reading)
    assert len(json.loads(bytes(found.event.metrics))) == 1 + gateways


@pytest.mark.parametrize("fields", [257, 3000])
def test_what_is_left_counts(fields: int) -> None:
    """More metrics than are allowed are refused as ever, and so is what no message of a sensor has."""
    message = {f"m{i}": i for i in range(fields)}
    found = decode(Route(topic="s/{device_id}", ignore=("nothing",)), message)
    assert isinstance(found, Rejection)
    assert (found.reason, "gateway.max_metrics" in found.error) == ("invalid_metric", True)


def test_a_sensor_heard_by_all_of_a_town() -> None:
    """An uplink of The Things Stack with what it says of forty gateways is no dead letter."""
    broker = {f"field_{i}": "x" for i in range(9)}
    heard = [
        {
            "gateway_ids": {"gateway_id": f"g{i}"},
            "packet_broker": broker,
            "rssi": -90 - i,
            "snr": 1.5,
            "uplink_token": "a",
        }
        for i in range(40)
    ]
    uplink = {"f_port": 1, "decoded_payload": {"t": 21.5}, "rx_metadata": heard}
    raw: dict[str, Any] = {"route": [{"dialect": "ttn/up", "topic": "s/{device_id}"}]}
    complete_routes(raw)
    words = {**raw["route"][0], "tags": (), "ignore": tuple(raw["route"][0]["ignore"])}
    found = decode(Route(**words), {"uplink_message": uplink})
    assert isinstance(found, Reading)
    metrics = json.loads(bytes(found.event.metrics))
    assert metrics["t"] == 21.5
    assert metrics["lorawan.rx_metadata.39.rssi"] == -129


@pytest.mark.parametrize(
    ("payload", "words", "metrics"),
    [
        ('{"x":NaN,"t":1}', {"ignore": ("x",)}, {"t": 1}),
        ('{"x":{"y":[1,NaN]},"t":1}', {"ignore": ("x.*",)}, {"t": 1}),
        ('{"x":{"y":1},"x.y":2,"t":1}', {"ignore": ("x.y",)}, {"t": 1}),
        (f'{{"x{"y" * 300}":{{"a":1}},"t":1}}', {"ignore": ("x*",)}, {"t": 1}),
        (f'{{"x":{{"{"y" * 300}":{{"a":1}}}},"t":1}}', {"ignore": ("x.*",)}, {"t": 1}),
        (f'{{"x{"y" * 300}":1,"t":1}}', {"ignore": ("x*",)}, {"t": 1}),
        (f'{{"{"y" * 300}":{{"a":1}},"t":1}}', {"ignore": (f"{'y' * 300}.*",)}, {"t": 1}),
        ('{"d":[{"n":"v","u":1,"q":NaN}]}',
         {"each": "d", "name": "n", "value": "u", "ignore": ("v.q",)}, {"v": 1}),
        ('{"d":[{"n":"v","u":NaN},{"n":"w","u":1}]}',
         {"each": "d", "name": "n", "value": "u", "ignore": ("v",)}, {"w": 1}),
    ],
)  # fmt: skip
def test_what_is_ignored_refuses_no_message(payload: str, words: Any, metrics: object) -> None:  # noqa: ANN401  # of a table
    """A field that could not be stored refuses no message whose route ignores it."""
    delivery: Any = SimpleNamespace(topic="s/a", payload=payload.encode())
    route = Route(topic="s/{device_id}", key="", time="", **words)
    (found,) = Decoder(compile_routes([route]), Limits()).decode(delivery, Received.of(NOW))
    assert isinstance(found, Reading), found
    assert json.loads(bytes(found.event.metrics)) == metrics


def test_what_is_not_ignored_still_does() -> None:
    """A neighbour of what is ignored refuses the message as ever."""
    for name in ("y", "x.y"):
        delivery: Any = SimpleNamespace(topic="s/a", payload=f'{{"{name}":NaN,"t":1}}'.encode())
        route = Route(topic="s/{device_id}", key="", ignore=("x",))
        (found,) = Decoder(compile_routes([route]), Limits()).decode(delivery, Received.of(NOW))
        assert isinstance(found, Rejection)
