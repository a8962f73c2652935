"""What of one stream is in memory, and how much of it."""

from __future__ import annotations

from datetime import UTC, datetime

from prometheus_client import CollectorRegistry

from contract.events import VERSION, Event, EventBatch, Scalar
from projector.history.memory import MOST_SIZE, StreamMemory
from projector.history.minutes import PLACE_SIZE, ROW_SIZE
from projector.history.store import Stand
from projector.meters import Meters

AT = "2026-11-23T09:00:00.000000Z"
NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)
A_ROW = (PLACE_SIZE + ROW_SIZE + 256) * 10


def wide(n: int) -> EventBatch:
    """A row of one device with 256 metrics and ten minutes of it, which are no other row's."""
    times = [f"20{n // 60:02}-11-23T{minute:02}:{n % 60:02}:00.000000Z" for minute in range(10)]
    metrics: dict[str, Scalar] = {f"m{i}": 1.0 for i in range(256)}
    return EventBatch(VERSION, 0, n, "e", AT, [Event("a", None, ts, AT, "k", metrics) for ts in times])


async def test_memory_is_bounded_by_the_row() -> None:
    """However many rows come at once, so many are taken as fit, and the outbox has the others."""
    stream = StreamMemory(0, Meters(CollectorRegistry()).of(0), NOW, at_once=False)
    stream.stands(Stand("e", 0, 0, None), 0, NOW)
    stream.take([wide(n) for n in range(1, 301)])
    assert stream.end == -(-MOST_SIZE // A_ROW)
    stream.take([wide(n) for n in range(stream.end + 1, 501)])
    span, minutes = stream.hand_over(everything=True)
    assert (span.last, minutes.size) == (stream.end, stream.end * A_ROW)
    stream.written(span.last)
    stream.take([wide(n) for n in range(span.last + 1, 501)])
    assert stream.end == 2 * span.last
