"""Conflicts: what is said of them, and devices whose key never changes."""

from __future__ import annotations

from gateway.conflicts import Constant, KeyWatch, conflict_error
from gateway.decode import Rejection
from tests.support.write_side import decode


def conflict(payload: bytes, key: str = "k", device: str = "a1") -> Rejection:
    return Rejection("", f"devices/{device}/telemetry", device, "conflict", "", payload, key)


def test_the_advice_fits_the_difference() -> None:
    """key+time is advised where the times differ, and nowhere else."""
    (timed, timeless), _ = decode(b'{"id":"k","ts":"2026-11-23T08:00:00Z","x":1}', b'{"id":"k","x":1}')
    assert "key+time" in conflict_error(timed, same_time=False)
    assert "key+time" not in conflict_error(timed, same_time=True)
    assert "key+time" not in conflict_error(timeless, same_time=False)
    for said in (conflict_error(timed, same_time=True), conflict_error(timeless, same_time=False)):
        assert 'key = ""' in said


def test_a_key_that_never_changes_is_noticed_once() -> None:
    """One stored content and two that conflict are three under one key: that is said, once a device."""
    watch = KeyWatch()
    assert watch.look([], [conflict(b"1")]) == []
    assert watch.look([], [conflict(b"1")]) == []
    assert watch.look([], [conflict(b"2")]) == [Constant("a1", "k", "devices/a1/telemetry")]
    assert watch.look([], [conflict(b"3")]) == []
    assert watch.look([], [conflict(b"1", device="b"), conflict(b"2", device="b")]) == [
        Constant("b", "k", "devices/b/telemetry")
    ]
    assert watch.devices == 2


def test_a_key_that_changes_is_none_of_them() -> None:
    """A counter that started again, or another key in between, is no constant."""
    watch = KeyWatch()
    for n in range(9):
        assert watch.look([], [conflict(b"%d" % n, key=str(n))]) == []
    (other,), _ = decode(b'{"id":"another","x":1}')
    watch = KeyWatch()
    assert watch.look([], [conflict(b"1")]) == []
    assert watch.look([other], [conflict(b"2")]) == []
    assert watch.devices == 0


def test_the_watch_is_bounded() -> None:
    """However many devices conflict, some thousand are watched."""
    watch = KeyWatch()
    for n in range(5_000):
        watch.look([], [conflict(b"1", device=f"d{n}"), conflict(b"2", device=f"d{n}")])
    assert watch.devices == 5_000
    assert len(watch._contents) <= 1_000
    assert len(watch._said) <= 1_000
