"""The pure steps between decode and store: batch policy, device sightings, the books."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from contract.events import RawEvent, encode_events
from gateway.batcher import Batch, BatchPolicy
from gateway.decode import Rejection
from gateway.devices import DeviceSighting, DeviceTracker
from gateway.ledger import Ledger
from gateway.transaction import Appended, DeadLetter, Outcome
from tests.support.write_side import decode

NOW = datetime(2026, 11, 23, 9, 0, 0, tzinfo=UTC)
REJECTION = Rejection("", "t", None, "malformed_json", "e", b"")


class Received:
    """A chunk that notes when it was acknowledged."""

    deliveries = ()
    size_bytes = 0

    def __init__(self, name: str, order: list[str]) -> None:
        self._name = name
        self._order = order

    def ack(self) -> None:
        self._order.append(self._name)


def test_policy_by_count_bytes_and_linger() -> None:
    """A batch is due when it is full by count or bytes, or has lingered, and never while it is empty."""
    policy = BatchPolicy(max_messages=2, max_bytes=100, linger_s=0.25)
    batch = Batch()
    assert policy.due_in(batch, 1.0) is None
    batch.chunks.append(Received("a", []))
    batch.opened_at = 1.0
    batch.rejections.append(REJECTION)
    assert policy.due_in(batch, 1.0) == 0.25
    assert policy.due_in(batch, 1.5) == 0.0
    batch.rejections.append(REJECTION)
    assert policy.due_in(batch, 1.0) == 0.0
    batch.rejections.clear()
    batch.size_bytes = 100
    assert policy.is_full(batch)


def test_policy_by_what_has_gathered() -> None:
    """A batch whose messages gather is due when they are read, and a moment after its linger if none came."""
    policy = BatchPolicy(max_messages=200, max_bytes=1000, linger_s=0.25)
    batch = Batch(due_after=2, opened_at=1.0)
    batch.chunks.append(Received("a", []))
    assert policy.due_in(batch, 1.0) == pytest.approx(0.252)
    batch.chunks.append(Received("b", []))
    assert policy.due_in(batch, 1.0) == 0.0


def test_policy_of_a_batch_that_lingers_longer() -> None:
    """It is due after so many times as long."""
    policy = BatchPolicy(max_messages=5000, max_bytes=10**6, linger_s=0.25)
    batch = Batch(lingers=2.5, opened_at=1.0, chunks=[Received("a", [])], rejections=[REJECTION])
    assert policy.due_in(batch, 1.0) == 0.625


def test_a_large_batch_is_cut_into_rows_that_a_broker_takes() -> None:
    """An array of very many readings becomes several transactions; nothing is left out or repeated."""
    readings, _ = decode(b"[" + b",".join(b'{"id":%d,"x":1}' % n for n in range(8_000)) + b"]")
    batch = Batch(readings=readings)
    parts = list(BatchPolicy(max_messages=1000, max_bytes=100, linger_s=0).parts(batch))
    assert len(parts) > 1
    assert [reading for part in parts for reading in part] == readings
    assert max(len(encode_events([reading.event for reading in part])) for part in parts) < 2_000_000
    assert list(BatchPolicy(1, 1, 0).parts(Batch())) == [[]]


def at(second: int) -> str:
    return f"2026-11-23T09:00:{second:02d}.000000Z"


def event(device_id: str, second: int, region: str | None = None) -> RawEvent:
    return RawEvent(device_id, region, at(second), at(second), "k", msgspec.Raw(b"{}"))


def test_new_devices_are_written_at_once_and_then_at_intervals() -> None:
    """A new device is due at once; later sightings are merged until the interval is over."""
    tracker = DeviceTracker(10.0)
    tracker.note([event("a", 2, "n")])
    assert tracker.take_due(0.0) == [DeviceSighting("a", "n", at(2), at(2), at(2))]
    tracker.note([event("a", 5), event("a", 1), event("a", 4, "s"), event("a", 3, "w")])
    assert tracker.take_due(9.9) == []
    assert tracker.take_due(10.0) == [DeviceSighting("a", "s", at(4), at(1), at(5))]
    tracker.note([event("a", 6)])
    (seen,) = tracker.take_all()
    assert (seen.region, seen.first_seen, seen.last_seen) == (None, at(1), at(6))
    assert tracker.take_all() == []


def test_a_region_of_which_another_gateway_may_know_a_newer_one_is_written_once() -> None:
    """What names a region, and is older than what named the one that was written, is no news of it."""
    tracker = DeviceTracker(0.0)
    tracker.note([event("a", 3, "n")])
    assert tracker.take_due(0.0)[0].region == "n"
    tracker.note([event("a", 2, "s"), event("a", 4)])
    assert tracker.take_due(0.0)[0].region is None


def test_of_many_devices_some_are_written_again_in_a_turn() -> None:
    """New devices are due all at once; of those that come again so many a turn, in order."""
    tracker = DeviceTracker(10.0, again=2)
    tracker.note([event(device, 1) for device in ("a", "b", "quiet", "c")])
    assert len(tracker.take_due(0.0)) == 4
    tracker.note([event(device, 3) for device in ("c", "b", "a")])
    assert [seen.device_id for seen in tracker.take_due(10.0)] == ["a", "b"]
    tracker.note([event("new", 4), event("a", 4), event("c", 5)])
    assert [(seen.device_id, seen.last_seen) for seen in tracker.take_due(11.0)] == [
        ("new", at(4)),
        ("c", at(5)),
    ]
    tracker.note([event("quiet", 6)])
    assert [seen.device_id for seen in tracker.take_due(12.0)] == ["quiet"], "forgotten, so it is new"
    assert [seen.device_id for seen in tracker.take_due(20.0)] == ["a"]


@pytest.mark.parametrize("known", [True, False])
def test_sightings_that_could_not_be_written_come_again(known: bool) -> None:  # noqa: FBT001  # a parameter of the test
    """What was given back is due at once, merged with what came meanwhile."""
    tracker = DeviceTracker(10.0)
    tracker.note([event("a", 2, "n")])
    lost = tracker.take_due(0.0) if known else tracker.take_all()
    tracker.note([event("a", 1, "s")])
    tracker.give_back(lost)
    assert tracker.take_due(0.0) == [DeviceSighting("a", "n", at(2), at(1), at(2))]


def outcome(n: int, events: int) -> Outcome:
    return Outcome(Appended(n, events, b"", NOW), events, 1, 0, [DeadLetter(1, REJECTION)])


def test_the_books_balance() -> None:
    """Received is the sum of what became of it, and projected follows the slowest projection's cursor."""
    ledger = Ledger(CollectorRegistry(), now=lambda: NOW)
    ledger.receive(9)
    ledger.settle(outcome(1, 2), 0.1)
    ledger.settle(outcome(2, 3), 0.1)
    ledger.project(1)
    assert list(ledger.line().values()) == [9, 5, 2, 2, 0, 0, 2]
    ledger.project(2)
    assert ledger.projected == 5


def test_a_projector_away_for_days_costs_no_memory() -> None:
    """What waits to be projected is merged, and still counted in full once it is projected."""
    ledger = Ledger(CollectorRegistry(), now=lambda: NOW)
    rows = 25_001
    for n in range(1, rows + 1):
        ledger.settle(outcome(n, 1), 0.0)
    assert len(ledger._unprojected) <= 10_001
    ledger.project(rows)
    assert ledger.projected == rows
