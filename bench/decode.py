"""The decoder alone: what a shape of message costs, without broker and servers.

`python -m bench.decode` prints the CPU a message for each shape, and its ratio to the plain one: the median
of rounds in which the shapes take turns. Every message is new in its key and its time, as those of a fleet
are. It is where a change to the decoder is tried first.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from bench.options import count
from bench.scenario import check, reported
from bench.tables import table
from gateway.decode import Decoder, Limits, Reading, Received
from gateway.decode.examples import Message
from gateway.decode.routes import compile_routes
from runtime.settings import Route

if TYPE_CHECKING:
    from collections.abc import Callable

_NOW: Final = datetime(2026, 11, 23, 9, tzinfo=UTC)
_PLAIN: Final = "plain"


def _values(i: int) -> dict[str, Any]:
    return {"temperature": i % 400 / 10, "humidity": 40.5}


def _named(i: int) -> dict[str, Any]:
    ts = (_NOW - timedelta(microseconds=i)).isoformat().replace("+00:00", "Z")
    return {"id": f"r0-00-00000-{i:05d}", "ts": ts, "region": f"r{i % 4}"}


def _telemetry(i: int, fields: dict[str, Any]) -> Message:
    return Message(f"devices/d{i % 1000}/telemetry", json.dumps(fields).encode())


def _many(i: int) -> dict[str, Any]:
    return {f"m{n}": i + n / 2 for n in range(10)}


_ROUTE: Final = Route()
SHAPES: Final[dict[str, tuple[Route, Callable[[int], Message]]]] = {
    _PLAIN: (_ROUTE, lambda i: _telemetry(i, _named(i) | _values(i))),
    "nested once": (_ROUTE, lambda i: _telemetry(i, _named(i) | {"values": _values(i)})),
    "nested three times": (
        _ROUTE,
        lambda i: _telemetry(i, _named(i) | {"params": {"em:0": {"a": _values(i)}}}),
    ),
    "values in an array": (_ROUTE, lambda i: _telemetry(i, _named(i) | {"data": [i % 400 / 10, 40.5]})),
    "ten metrics": (_ROUTE, lambda i: _telemetry(i, _named(i) | _many(i))),
    "ten metrics, nested once": (_ROUTE, lambda i: _telemetry(i, _named(i) | {"values": _many(i)})),
    "neither key nor time": (_ROUTE, lambda i: _telemetry(i, {"temperature": i / 10})),
    "time as a number in text": (
        _ROUTE,
        lambda i: _telemetry(i, _named(i) | {"ts": f"{_NOW.timestamp() - i / 1e6:.6f}"} | _values(i)),
    ),
    "a scalar; its metric and a tag in the topic": (
        Route(topic="site/{building}/{device_id}/{metric}"),
        lambda i: Message(f"site/b{i % 4}/d{i % 1000}/temperature", str(i / 10).encode()),
    ),
}
"""A shape's route, and its i-th message."""


def measure(route: Route, messages: list[Message]) -> float:
    """Seconds of CPU that decoding takes, all of them to readings."""
    decoder, received = Decoder(compile_routes([route]), Limits()), Received.of(_NOW)
    refused = 0
    begun = time.process_time()
    for message in messages:
        refused += type(decoder.decode(message, received)[0]) is not Reading
    spent = time.process_time() - begun
    check("messages refused", refused, 0)
    return spent


def run(rounds: int, messages: int) -> list[list[str]]:
    """A row a shape: µs a message, and times the plain one of the same round."""
    sent = {shape: [make(i) for i in range(messages)] for shape, (_, make) in SHAPES.items()}
    spent: dict[str, list[float]] = {shape: [] for shape in SHAPES}
    for _ in range(rounds):
        for shape, (route, _make) in SHAPES.items():
            spent[shape].append(measure(route, sent[shape]) / messages * 1e6)
    return [
        [
            shape,
            f"{statistics.median(taken):.1f}",
            f"{statistics.median(a / b for a, b in zip(taken, spent[_PLAIN], strict=True)):.2f}",
        ]
        for shape, taken in spent.items()
    ]


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.decode", description=__doc__)
    parser.add_argument("--rounds", type=count, default=7)
    parser.add_argument("--messages", type=count, default=50_000)
    arguments = parser.parse_args()
    with reported():
        rows = run(arguments.rounds, arguments.messages)
    print(table(["shape", "µs a message", "times plain"], rows, numbers=True))


if __name__ == "__main__":
    main()
