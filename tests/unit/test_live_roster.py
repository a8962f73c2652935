from __future__ import annotations

from projector.live.attention import FLOOR_MS
from projector.live.roster import Roster

NOW = 1_795_000_000_000
MINUTE = 60_000


def known(**seen: int) -> Roster:
    """A roster of devices that were last heard so long ago."""
    roster = Roster()
    for id_, age_ms in seen.items():
        roster.note(id_, NOW - age_ms)
    return roster


def names(roster: Roster) -> list[str]:
    """All by name."""
    assert len(list(roster.sort())) <= 2
    return roster.names


def test_who_may_be_silent_is_named_once() -> None:
    """A device is due when it may be silent, who fell silent last before others; then not again unjudged."""
    roster = known(old=9 * MINUTE, fresh=FLOOR_MS, late=2 * MINUTE, ahead=-MINUTE)
    assert roster.due(NOW, 1) == ["late"]
    assert roster.due(NOW, 9) == ["old"]
    assert roster.due(NOW, 9) == []
    assert roster.due(NOW + 1000, 9) == ["fresh"]
    roster.put_back(["old"], NOW)
    assert roster.due(NOW + 1000, 9) == ["old"]


def test_who_is_judged_is_silent_or_due_again() -> None:
    """Exactly one of both, however often it changes; who has gone is neither."""
    roster = known(a=5 * MINUTE)
    roster.due(NOW, 9)
    roster.judge("a", 5 * MINUTE, NOW, again_ms=NOW + MINUTE)
    assert roster.silent == {}
    roster.judge("a", 5 * MINUTE - 1, NOW, again_ms=NOW + MINUTE)
    assert roster.silent == {"a": 5 * MINUTE - 1}
    assert roster.due(NOW + MINUTE, 9) == []
    roster.note("a", NOW)
    roster.judge("a", 5 * MINUTE, NOW, again_ms=NOW + MINUTE)
    roster.judge("a", 5 * MINUTE, NOW, again_ms=NOW + 2 * MINUTE)
    assert (roster.silent, roster.due(NOW + 9 * MINUTE, 9)) == ({}, ["a"])
    roster.judge("a", 5 * MINUTE, NOW, again_ms=NOW + MINUTE)
    roster.drop("a")
    assert (names(roster), roster.due(NOW + 9 * MINUTE, 9)) == ([], [])


def test_order_of_attention() -> None:
    """The silent by their own measure, then who was rejected, about as often by name; then all by name."""
    roster = known(quick=10 * MINUTE, slow=100 * MINUTE, b=0, a=0, bad=0, worse=0)
    roster.judge("slow", 80 * MINUTE, NOW, again_ms=NOW)
    roster.judge("quick", MINUTE, NOW, again_ms=NOW)
    assert sorted(roster.silent, key=lambda id_: roster.urgency(id_, NOW)) == ["quick", "slow"]
    assert roster.refused({"bad": 8, "worse": 9, "b": 1, "slow": 3, "never heard": 2}) == [
        "bad",
        "worse",
        "b",
    ]
    assert names(roster) == ["a", "b", "bad", "quick", "slow", "worse"]
    roster.note("aa", NOW)
    roster.drop("b")
    assert names(roster) == ["a", "aa", "bad", "quick", "slow", "worse"]


def test_who_comes_back_is_there_once() -> None:
    """A device that goes and comes back between one order and the next has one place."""
    roster = known(a=0, b=0)
    assert names(roster) == ["a", "b"]
    for _ in range(3):
        roster.drop("a")
        roster.note("a", NOW)
    assert names(roster) == ["a", "b"]
    roster.drop("b")
    roster.note("b", NOW)
    roster.drop("b")
    assert names(roster) == ["a"]
    steps = roster.sort()
    for _ in range(2):
        roster.drop("a")
        roster.note("a", NOW)
        next(steps)
    roster.note("c", NOW)
    assert list(steps)
    assert names(roster) == ["a", "c"]
