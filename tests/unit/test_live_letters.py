from __future__ import annotations

from gateway.conflicts import conflict_error
from projector.live.state import ConstantKey, Letter
from projector.live.truth import CONSTANT_KEYS, constant_keys
from tests.support.write_side import decode


def conflict(device: str | None, key: str, *, reason: str = "conflict", replayed: bool = False) -> Letter:
    """A dead letter in the write side's words."""
    (reading,), _ = decode(b'{"id":"%s","x":1}' % key.encode())
    error = conflict_error(reading, same_time=False)
    return Letter(1, 0, reason, device, f"d/{device}", error, replayed)


def test_a_key_that_never_changes() -> None:
    """Two conflicts or more under one key, and none under another, name the device, key and topic."""
    letters = [conflict("ble", "it's"), conflict("counter", "2"), conflict("ble", "it's")]
    letters += [conflict("counter", "1"), conflict("once", "1"), conflict(None, "1"), conflict(None, "1")]
    assert constant_keys(letters) == [ConstantKey("ble", '"it\'s"', "d/ble", 2)]


def test_what_is_mended_is_not_told() -> None:
    """Letters that were replayed, and those of other reasons, say nothing of keys."""
    assert constant_keys([conflict("a", "k", replayed=True), conflict("a", "k")]) == []
    assert constant_keys([conflict("a", "k", reason="malformed_json")] * 2) == []


def test_few_are_named() -> None:
    """Those with most letters come first, and a fleet of them is not a page of notices."""
    letters = [conflict(f"d{n}", "k") for n in range(9) for _ in range(2 + n)]
    assert [each.device for each in constant_keys(letters)] == ["d8", "d7", "d6"][:CONSTANT_KEYS]
