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


def test_a_bridge_with_sensors_is_noticed() -> None:
    """Keys that are the addresses of a few sensors never change either, whatever their order."""
    watch = KeyWatch()
    readings, _ = decode(*(b'{"id":"s%d","x":1}' % sensor for sensor in range(5)))
    assert watch.look(readings, []) == []
    for content in range(2):
        found = watch.look([], [conflict(b"%d" % content, key=f"s{sensor}") for sensor in range(5)])
        assert [constant.device_id for constant in found] == ["a1"] * content
    assert watch.devices == 1


def test_a_counter_that_starts_again_and_again_is_none() -> None:
    """Its keys conflict once each time, and are many."""
    watch = KeyWatch()
    for start in range(3):
        for n in range(100):
            assert watch.look([], [conflict(b"%d %d" % (start, n), key=str(n))]) == []


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
    assert len(watch._keys) <= 1_000
    assert len(watch._said) <= 1_000
