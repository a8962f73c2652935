"""Order of arrival: times that only grow, a microsecond a reading."""

from __future__ import annotations

from datetime import timedelta

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from contract.events import RawEvent, encode_events, format_time
from gateway.arrivals import FOLLOWED, arrivals_after
from gateway.decode import Received
from tests.support.write_side import NOW


def stored(*received_at: str) -> bytes:
    """An outbox row's payload with readings that were received then."""
    return encode_events([RawEvent("d", None, at, at, "k", msgspec.Raw(b"{}")) for at in received_at])


@given(st.lists(st.tuples(st.integers(-(10**7), 10**7), st.integers(0, 2500)), max_size=6))
def test_times_of_arrival_only_grow(chunks: list[tuple[int, int]]) -> None:
    """Whatever the clock does, each reading is later than the one before, and never behind the clock."""
    received, now, last = Received.of(NOW), NOW, ""
    for micros, readings in chunks:
        now += timedelta(microseconds=micros)
        ahead = received.reach(now)
        for _ in range(readings):
            at = received.next()
            assert at > last
            last = at
        if readings and not ahead:
            assert last >= format_time(now)


def test_the_second_ends() -> None:
    """A burst goes on over the second's end without a gap."""
    received = Received.of(NOW + timedelta(microseconds=999_998))
    assert [received.next()[-10:] for _ in range(4)] == [
        "00.999998Z",
        "00.999999Z",
        "01.000000Z",
        "01.000001Z",
    ]


def test_the_clock_goes_back() -> None:
    """Arrival goes on from where it was, and says by how much it is ahead."""
    received = Received.of(NOW)
    received.next()
    assert received.reach(NOW - timedelta(hours=1)) == timedelta(hours=1)
    assert received.next() == format_time(NOW + timedelta(microseconds=1))
    assert received.at == NOW - timedelta(hours=1)


def test_a_restart_goes_on_after_what_is_stored() -> None:
    """A clock that went back meanwhile does not make new readings older than stored ones."""
    newest = NOW + timedelta(seconds=30)
    received = arrivals_after(stored(format_time(NOW), format_time(newest)), NOW)
    assert received.reach(NOW + timedelta(seconds=1)) == timedelta(seconds=29)
    assert received.next() == format_time(newest + timedelta(microseconds=1))


def test_a_stored_time_far_ahead_is_not_followed() -> None:
    """A clock that was years ahead once does not stamp messages with those years for ever."""
    ahead = stored(format_time(NOW + FOLLOWED + timedelta(seconds=1)))
    assert arrivals_after(ahead, NOW).next() == format_time(NOW)


def test_nothing_is_stored() -> None:
    """A new stream, or a row that holds no events, begins with now."""
    for newest in (None, b"[]", b"rubbish", stored("never"), stored("2026-11-23T09:00:00")):
        received = arrivals_after(newest, NOW)
        received.reach(NOW)
        assert received.next() == format_time(NOW)
