from __future__ import annotations

from projector.live.roster import Roster


def known(*ids: str) -> Roster:
    """A roster of devices."""
    roster = Roster()
    for id_ in ids:
        roster.note(id_)
    return roster


def names(roster: Roster) -> list[str]:
    """All by name."""
    assert len(list(roster.sort())) <= 2
    return roster.names


def test_order_of_attention() -> None:
    """Who was rejected and is not silent, about as often by name; all by name."""
    roster = known("quick", "slow", "b", "a", "bad", "worse")
    rejected = {"bad": 8, "worse": 9, "b": 1, "slow": 3, "never heard": 2}
    assert roster.refused(rejected, {"slow"}) == ["bad", "worse", "b"]
    assert names(roster) == ["a", "b", "bad", "quick", "slow", "worse"]
    roster.note("aa")
    roster.drop("b")
    assert names(roster) == ["a", "aa", "bad", "quick", "slow", "worse"]


def test_who_comes_back_is_there_once() -> None:
    """A device that goes and comes back between one order and the next has one place."""
    roster = known("a", "b")
    assert names(roster) == ["a", "b"]
    for _ in range(3):
        roster.drop("a")
        roster.note("a")
    assert names(roster) == ["a", "b"]
    roster.drop("b")
    roster.note("b")
    roster.drop("b")
    assert names(roster) == ["a"]
    steps = roster.sort()
    for _ in range(2):
        roster.drop("a")
        roster.note("a")
        next(steps)
    roster.note("c")
    assert list(steps)
    assert names(roster) == ["a", "c"]
