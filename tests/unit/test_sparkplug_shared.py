"""Gateways that have a part of an edge node's messages each, and what they tell each other by PostgreSQL."""

from __future__ import annotations

from gateway.sparkplug.changes import Row
from gateway.sparkplug.nodes.node import HELD_S, MOST_HELD, Node
from gateway.sparkplug.topics import Address
from tests.unit.test_sparkplug_node import EPOCH, Site, alias, bd_seq, metric

PLACE = Address("spBv1.0/", "g", "NDATA", "n", "")
SETTLED_S = 2.1


class Table:
    """What both have stored: births of others stay, and of all else the last word counts."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    def store(self, node: Node) -> None:
        """Write what has changed."""
        for device in node.changed:
            row = Row.of(node, device, PLACE)
            self.rows[device] = row.beside(self.rows[device]) if device in self.rows else row
        node.changed.clear()

    def read(self, node: Node) -> None:
        """Read all that there is."""
        for row in self.rows.values():
            node.know(row)


class Two:
    """Two of them, with one clock, and a table for what they store."""

    def __init__(self) -> None:
        self.one, self.other = Site(ordered=False), Site(ordered=False)
        self.other.stamp = self.one.stamp  # type: ignore[method-assign]  # one clock
        self.table = Table()

    def wait(self, seconds: float) -> list[list[str]]:
        """Let time pass; both write, and read what the other has stored, before it does."""
        for site in (self.one, self.other):
            self.table.store(site.node)
        for site in (self.one, self.other):
            self.table.read(site.node)
        told = [self.one.wait(seconds), self.other.wait(seconds)]
        for site in (self.one, self.other):
            self.table.store(site.node)
        return told


def sent(seconds: float) -> int:
    return EPOCH + int(seconds * 1000)


def test_the_birth_that_the_other_got_names_it() -> None:
    """By the clock of the edge node: whatever came after it there, here came before."""
    both = Two()
    both.one.born("old")
    both.wait(60)
    assert both.one.send("NDATA", 9, alias(0, 9.0)) == []
    assert both.one.send("NDATA", 9, alias(0, 3.0), sent=sent(140)) == []
    both.other.born("new", number=1)
    assert both.wait(SETTLED_S) == [["new=9.0", "old=3.0"], []]


def test_births_that_take_turns() -> None:
    """One that says the same as the last that was heard here is another one: there was one between them."""
    both = Two()
    both.one.born("a")
    both.wait(10)
    both.other.born("b", number=1)
    both.one.now = both.other.now = 120.0
    both.one.born("a", number=2)
    assert both.one.send("NDATA", 1, alias(0, 1.0)) == []
    assert both.one.send("NDATA", 1, alias(0, 2.0), sent=sent(115)) == []
    assert both.wait(SETTLED_S) == [["a=1.0", "b=2.0"], []]


def test_a_clock_that_was_set_back() -> None:
    """Of two births that differ, and of which the later says it is older, none names what comes after."""
    both = Two()
    both.one.born("a")
    both.one.send("NBIRTH", 0, bd_seq(1), metric("b", 0, 1.0, 10), sent=sent(50))
    both.one.now += 1
    assert both.one.send("NDATA", 1, alias(0)) == []
    both.wait(SETTLED_S)
    assert both.one.asks() is False
    assert both.one.send("NDATA", 1, alias(0), sent=sent(60)) == []
    both.wait(SETTLED_S)
    assert both.one.asks() is True


def test_a_will_of_a_session_after_which_the_other_heard_a_birth() -> None:
    """It ends nothing: the next session lives."""
    both = Two()
    both.one.born("a", number=1)
    both.wait(1)
    will = sent(both.one.now - 5)
    both.other.born("a", number=2)
    assert both.one.send("NDEATH", None, bd_seq(1), sent=will) == []
    assert both.wait(SETTLED_S) == [[], []]
    assert both.one.node.online


def test_a_will_takes_devices_along_that_the_other_has_heard() -> None:
    """Also those that were online again since they were offline here."""
    both = Two()
    both.one.born("a", number=1)
    both.other.born("Speed", device="d", seq=1)
    both.one.send("DBIRTH", 2, device="e")
    both.one.send("DDEATH", 3, device="e")
    assert both.wait(SETTLED_S) == [["e offline"], []]
    both.wait(1)
    assert both.other.send("DBIRTH", 4, device="e") == ["e online"]
    assert both.one.send("NDEATH", None, bd_seq(1)) == []
    told, nothing = both.wait(SETTLED_S)
    assert (sorted(told), nothing) == (["d offline", "e offline", "node offline"], [])


def test_what_is_so_is_told_again() -> None:
    """The other one may have told the contrary since: PostgreSQL knows what is news."""
    both = Two()
    assert both.one.born("a", number=1) == ["node online"]
    both.other.send("NDEATH", None, bd_seq(1))
    assert both.wait(SETTLED_S) == [[], ["node offline"]]
    assert both.one.born("a", number=2) == ["node online"]


def test_devices_that_are_born_elsewhere() -> None:
    """That one was not born again here says nothing, and one whose node was born elsewhere is online."""
    both = Two()
    both.one.born("a")
    both.one.born("Speed", device="d", seq=1)
    assert both.other.born("Speed", device="e", seq=2) == ["e online"]
    both.one.now += 1
    both.one.born("a")
    both.other.now = both.one.now
    assert both.other.born("Speed", device="d", seq=1) == ["d online"]
    assert both.wait(60) == [[], []]
    assert not both.other.asks()


def test_after_a_death_the_next_birth_names() -> None:
    """What comes after a death, or after our connection was lost, is not named by the birth before it."""
    both = Two()
    both.one.born("a", number=1)
    both.one.send("NDEATH", None, bd_seq(1))
    both.wait(SETTLED_S)
    assert both.one.send("NDATA", 3, alias(0)) == []
    assert both.wait(SETTLED_S) == [[], []]
    assert both.one.asks()
    assert both.wait(HELD_S) == [["lost unknown_alias"], []]


def test_deaths_wait_over_a_restart() -> None:
    """What was held when a gateway ended is looked at by the next one."""
    before, after = Site(ordered=False), Site(ordered=False)
    before.born("a", number=1)
    before.send("NDEATH", None, bd_seq(1))
    after.node.know(Row.of(before.node, "", PLACE))
    (held,) = before.node.waiting
    after.node.resume(held)
    assert (after.node.held, after.wait(SETTLED_S)) == (1, ["node offline"])


def test_what_waits_is_bounded() -> None:
    """The oldest make room."""
    site = Site(ordered=False)
    words: list[str] = []
    for _ in range(MOST_HELD + 5):
        words += site.send("DDEATH", 1, device="d")
    assert (site.node.held, words) == (MOST_HELD, ["d offline"] * 5)
