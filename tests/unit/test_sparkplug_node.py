"""The state of one edge node, told as sequences of messages: what is read, who is online, what is asked."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from gateway.sparkplug.messages import Lost, Message, Read, Told
from gateway.sparkplug.nodes.doubt import PLAIN_S, WILL_S
from gateway.sparkplug.nodes.node import HELD_S, MOST_HELD, Node
from gateway.sparkplug.nodes.ordered import REBORN_S, Ordered
from gateway.sparkplug.nodes.shared import Shared
from gateway.sparkplug.topics import Kind, address_of

EPOCH = 1_795_424_400_000  # by the clock of the edge node
INT8, INT32, DOUBLE = 1, 3, 10


class Site:
    """An edge node and who listens to it, with a clock that goes when it is told to."""

    def __init__(self, *, ordered: bool = True, reorder_s: float = 2.0) -> None:
        self.now = 100.0
        self.came = 0
        kind: type[Node] = Ordered if ordered else Shared
        self.node = kind("spBv1.0/g/n", self.stamp(), reorder_s=reorder_s)

    def stamp(self) -> str:
        self.came += 1
        return f"2026-11-23T09:00:00.{self.came:06d}Z"

    def send(
        self,
        kind: Kind,
        seq: int | None,
        *metrics: dict[str, Any],
        device: str = "",
        sent: int | None = -1,
        name: str = "",
        again: bool = False,
    ) -> list[str]:
        """Let a message come; what comes of it, in words."""
        value: dict[str, Any] = {"metrics": list(metrics)}
        if seq is not None:
            value["seq"] = seq
        if sent is not None:
            value["timestamp"] = EPOCH + int(self.now * 1000) if sent == -1 else sent
        topic = f"spBv1.0/g/{kind}/n/{device}".rstrip("/")
        message = Message(topic, name.encode(), kind, device, value, self.stamp(), self.now, duplicate=again)
        return told(self.node.take(message, self.now))

    def wait(self, seconds: float) -> list[str]:
        """Let time pass."""
        self.now += seconds
        return told(self.node.tick(self.now))

    def asks(self) -> bool:
        """Whether a rebirth is asked for now."""
        due, self.node.asking.due = self.node.asking.due, False
        return due

    def born(self, *names: str, number: int = 0, device: str = "", seq: int = 0) -> list[str]:
        """Let a birth come, of metrics whose aliases are their places."""
        metrics = [metric(name, alias, 1.0, DOUBLE) for alias, name in enumerate(names)]
        if device:
            return self.send("DBIRTH", seq, *metrics, device=device)
        return self.send("NBIRTH", seq, bd_seq(number), *metrics)


def metric(name: str | None, alias: int | None, value: object, datatype: int | None = None) -> dict[str, Any]:
    """A metric as the format makes it."""
    found: dict[str, Any] = {"name": name, "alias": alias, "datatype": datatype}
    return {key: each for key, each in found.items() if each is not None} | {"value": value}


def alias(number: int, value: object = 1.5) -> dict[str, Any]:
    """A metric that has an alias alone."""
    return metric(None, number, value)


def bd_seq(number: int) -> dict[str, Any]:
    """The number of a session."""
    return metric("bdSeq", None, number, 4)


def told(steps: list[Any]) -> list[str]:
    """Steps in words: what is read of data, who is online, what is lost."""
    words = []
    for step in steps:
        if isinstance(step, Read) and step.message.kind in {"NDATA", "DDATA"}:
            assert isinstance(step.value, dict)
            words += [f"{each['name']}={each['value']}" for each in step.value["metrics"]]
        elif isinstance(step, Told):
            words.append(f"{step.device or 'node'} {'online' if step.online else 'offline'}")
        elif isinstance(step, Lost):
            words.append(f"lost {step.reason}")
    return words


def test_aliases_are_the_names_of_the_birth() -> None:
    """A message that names its metrics by aliases alone is read by the birth before it, and its datatypes."""
    site = Site()
    birth = [metric("Temp", 1, 20.0, DOUBLE), metric("Offset", 2, -1, INT8)]
    assert site.send("NBIRTH", 0, bd_seq(0), *birth) == ["node online"]
    assert site.send("NDATA", 1, alias(1, 21.5), alias(2, 0xFE)) == ["Temp=21.5", "Offset=-2"]
    assert not site.asks()


def test_a_name_alone_gets_the_datatype_of_the_birth() -> None:
    """An integer without a datatype has the sign that the birth says."""
    site = Site()
    site.send("NBIRTH", 0, bd_seq(0), metric("Offset", None, -1, INT32))
    assert site.send("NDATA", 1, metric("Offset", None, 2**32 - 12)) == ["Offset=-12"]


def test_the_same_alias_at_two_devices() -> None:
    """Each device has the names of its own birth."""
    site = Site()
    site.born()
    site.born("Speed", device="a", seq=1)
    site.born("Level", device="b", seq=2)
    assert site.send("DDATA", 3, alias(0), device="b") == ["Level=1.5"]
    assert site.send("DDATA", 4, alias(0), device="a") == ["Speed=1.5"]


@pytest.mark.parametrize("first", [0, 5, 250, 254])
def test_numbers_begin_anew_after_255(first: int) -> None:
    """The sequence goes on over the end of its numbers, as often as it comes there."""
    site = Site()
    site.born("a")
    for seq in range(1, 256 + first):
        assert site.send("NDATA", seq % 256, alias(0)) == ["a=1.5"]
    assert not site.asks()


def test_out_of_order_is_put_in_order() -> None:
    """What comes before its turn waits, and is read in the order in which it was sent."""
    site = Site()
    site.born("a")
    assert site.send("NDATA", 3, alias(0, 3.0)) == []
    assert site.send("NDATA", 2, alias(0, 2.0)) == []
    assert site.node.held == 2
    assert site.send("NDATA", 1, alias(0, 1.0)) == ["a=1.0", "a=2.0", "a=3.0"]
    assert site.node.held == 0
    assert site.wait(10) == []
    assert not site.asks()


def test_a_device_born_after_its_data() -> None:
    """A birth that was overtaken by what it names is in time."""
    site = Site()
    site.born()
    assert site.send("DDATA", 2, alias(0), device="d") == []
    assert site.born("Speed", device="d", seq=1) == ["d online", "Speed=1.5"]
    assert not site.asks()


def test_a_lost_birth_is_noticed_whatever_the_number_is() -> None:
    """A number that is behind is of a session whose birth was lost: the birth before does not name it."""
    site = Site()
    site.born("a")
    for seq in range(1, 200):
        site.send("NDATA", seq, alias(0))
    assert site.send("NDATA", 5, alias(0, 5.0)) == []
    assert site.wait(2.1) == []
    assert site.asks()
    assert site.born("b", number=1) == []
    assert site.wait(2.1) == ["lost unknown_alias"]


def test_a_birth_overtaken_by_its_data() -> None:
    """So is that of the edge node itself, whose numbers begin with it."""
    site = Site()
    site.born("old")
    site.now += 1
    late = EPOCH + int(site.now * 1000) + 500
    assert site.send("NDATA", 2, alias(0, 2.0), sent=late) == []
    assert site.born("new", number=1) == []
    assert site.send("NDATA", 1, alias(0, 1.0), sent=late - 1) == ["new=1.0", "new=2.0"]


def test_a_missing_message_is_waited_for_and_then_a_rebirth_is_asked_for() -> None:
    """After the reorder timeout what follows has no name for certain; the rebirth gives it one."""
    site = Site()
    site.born("a")
    assert site.send("NDATA", 2, alias(0, 2.0)) == []
    assert site.wait(1.9) == []
    assert not site.asks()
    assert site.wait(0.2) == []
    assert site.asks()
    assert site.send("NDATA", 3, alias(0, 3.0)) == []
    assert not site.asks()
    assert site.born("a") == ["a=2.0", "a=3.0"]
    assert site.send("NDATA", 1, alias(0, 4.0)) == ["a=4.0"]
    assert not site.asks()


def test_what_says_all_of_itself_needs_no_birth() -> None:
    """A name with a datatype, or a value that is the same in every datatype, is read at once."""
    site = Site()
    assert site.send("NDATA", 7, metric("a", None, 5, INT32), metric("b", None, 2.5)) == ["a=5", "b=2.5"]
    assert site.asks()
    assert site.send("NDATA", 8, metric("c", None, 300)) == []


def test_held_until_a_birth_comes() -> None:
    """What came before the birth is named by it, once no late will can tell that the session was another."""
    site = Site()
    assert site.send("NDATA", 7, alias(0, 7.0)) == []
    assert site.asks()
    assert site.born("a") == ["node online"]
    assert site.wait(1.9) == []
    assert site.wait(0.2) == ["a=7.0"]


def test_a_late_will_tells_that_the_session_was_another_one() -> None:
    """What came before the birth has no name then, and is a dead letter; the session that is lives on."""
    site = Site()
    site.send("NDATA", 7, alias(0, 7.0))
    will = EPOCH + int(site.now * 1000) - 5000
    site.now += 1
    assert site.born("a", number=4) == ["node online"]
    assert site.send("NDEATH", None, bd_seq(3), sent=will) == []
    assert site.wait(2.1) == ["lost unknown_alias"]
    assert site.send("NDATA", 1, alias(0)) == ["a=1.5"]


def test_a_late_will_after_the_birth_of_a_device() -> None:
    """Nor does the birth of a device name what came before it, where that of its node is not known."""
    site = Site()
    site.send("DDATA", 2, alias(0), device="d")
    assert site.born("Speed", device="d", seq=1) == []
    assert site.send("NDEATH", None, bd_seq(0)) == ["node offline"]
    assert site.wait(2.1) == ["lost unknown_alias"]


def test_never_named_by_another_birth() -> None:
    """An alias that two births explain in two ways names nothing that came between them."""
    site = Site()
    site.born("a", "b")
    site.send("NDATA", 2, alias(0, 2.0))
    site.send("NDATA", 3, alias(1, 3.0))
    assert site.wait(2.1) == []
    assert site.born("b", "b") == ["b=3.0"]
    assert site.wait(2.1) == ["lost unknown_alias"]


def test_a_death_between_ends_the_session() -> None:
    """What an edge node sent before it died is not named by the birth of its next session."""
    site = Site()
    site.send("NDATA", 7, alias(0))
    assert site.send("NDEATH", None, bd_seq(0)) == ["node offline"]
    site.now += 1
    assert site.born("a", number=1) == ["node online"]
    assert site.wait(2.1) == ["lost unknown_alias"]


def test_nothing_is_held_for_ever() -> None:
    """Without a birth a message is a dead letter after half a minute, with what to do about it."""
    site = Site()
    site.send("NDATA", 7, alias(0))
    assert site.wait(HELD_S - 1) == []
    (lost,) = site.node.tick(site.now + 1)
    assert isinstance(lost, Lost)
    assert (lost.reason, "Node Control/Rebirth" in lost.error) == ("not_born", True)


def test_what_is_held_is_bounded() -> None:
    """The oldest make room for the newest, as dead letters."""
    site = Site()
    words: list[str] = []
    for seq in range(MOST_HELD + 10):
        words += site.send("NDATA", seq % 256, alias(0))
    assert (site.node.held, words) == (MOST_HELD, ["lost not_born"] * 10)


def test_deaths_take_all_devices_with_them() -> None:
    """The will of an edge node says that it and each of its devices is offline, once."""
    site = Site()
    site.born()
    site.born("Speed", device="a", seq=1)
    site.born("Speed", device="b", seq=2)
    assert site.send("DDEATH", 3, device="a") == ["a offline"]
    assert site.send("NDEATH", None, bd_seq(0)) == ["node offline", "b offline"]
    assert site.send("NDEATH", None, bd_seq(0)) == []


def test_a_will_of_an_older_session_kills_nobody() -> None:
    """It has another number, and was made before the birth in force."""
    site = Site()
    will = EPOCH + int(site.now * 1000)
    site.now += 5
    site.born("a", number=1)
    assert site.send("NDEATH", None, bd_seq(0), sent=will) == []
    assert site.send("NDEATH", None, bd_seq(0), sent=None) == []
    assert site.node.online
    assert site.send("NDATA", 1, alias(0)) == ["a=1.5"]


def test_a_will_of_a_later_session_does() -> None:
    """One that was made after the birth in force is of a connection whose birth was not heard."""
    site = Site()
    site.born("a", number=1)
    site.now += 5
    assert site.send("NDEATH", None, bd_seq(2)) == ["node offline"]


def test_a_will_that_overtakes_a_birth() -> None:
    """The birth names what there is, and the edge node stays dead; whoever lives answers a rebirth."""
    site = Site()
    site.born("a", number=1)
    assert site.send("NDEATH", None, bd_seq(1)) == ["node offline"]
    site.now += 0.5
    assert site.born("a", number=1) == []
    assert not site.node.online
    assert site.wait(1) == []
    assert not site.asks()
    site.wait(1.1)
    assert site.asks()
    assert site.born("a", number=1) == ["node online"]


def test_a_birth_after_its_will_names_nothing_that_came_between() -> None:
    """That may be of the next session, of which nothing else was heard."""
    site = Site()
    site.born("a", number=1)
    site.send("NDEATH", None, bd_seq(1))
    assert site.send("NDATA", 2, alias(0)) == []
    assert site.born("a", number=1) == []
    assert site.wait(HELD_S) == ["lost unknown_alias"]


def test_the_same_number_again() -> None:
    """An edge node that always has the same number dies and comes back like any other."""
    site = Site()
    for _ in range(3):
        assert site.born("a", number=0) == ["node online"]
        site.now += 5
        assert site.send("NDEATH", None, bd_seq(0)) == ["node offline"]
        site.now += 5


@pytest.mark.parametrize(("again", "told"), [(True, []), (False, ["node offline"])])
def test_a_will_that_is_delivered_again(again: bool, told: list[str]) -> None:  # noqa: FBT001  # a case
    """It is of the session that it has ended, though the next one has the same number."""
    site = Site()
    site.born("a", number=0)
    will = EPOCH + int(site.now * 1000) - 5
    assert site.send("NDEATH", None, bd_seq(0), sent=will) == ["node offline"]
    site.now += 5
    assert site.born("a", number=0) == ["node online"]
    assert site.send("NDEATH", None, bd_seq(0), sent=will, again=again) == told


def test_who_sends_is_not_dead() -> None:
    """After a will that was wrong the edge node is asked for a rebirth when it is heard."""
    site = Site()
    site.born("a")
    site.send("NDEATH", None, bd_seq(0))
    assert not site.asks()
    site.now += 20
    assert site.send("NDATA", 1, alias(0)) == []
    assert site.asks()
    assert site.born("a") == ["node online", "a=1.5"]


def test_a_device_that_is_not_born_again() -> None:
    """A device of a node that was born again is offline when it has not been, in the time it had."""
    site = Site()
    site.born()
    site.born("Speed", device="a", seq=1)
    site.born("Speed", device="b", seq=2)
    site.born()
    assert site.born("Speed", device="a", seq=1) == []
    assert site.wait(REBORN_S - 1) == []
    assert site.wait(2) == ["b offline"]


def test_asked_once_and_then_less_and_less_often() -> None:
    """A rebirth that does not come is asked for after longer and longer pauses, while the node is heard."""
    site = Site()
    asked = []
    for second in range(600):
        site.send("NDATA", second % 256, metric("a", None, 1.0))
        site.wait(1)
        if site.asks():
            asked.append(second)
    unanswered = [site.node.asking.unanswered]
    site.born("a")
    unanswered.append(site.node.asking.unanswered)
    assert unanswered == [True, False]
    assert asked[0] == 0
    assert len(asked) == 6
    assert all(later - earlier >= 9 for earlier, later in pairwise(asked))


def test_who_is_silent_is_asked_a_few_times() -> None:
    """An edge node of which nothing comes any more is not asked for ever."""
    site = Site()
    site.send("NDATA", 1, metric("a", None, 1.0))
    asked = 0
    for _ in range(3000):
        site.wait(10)
        asked += site.asks()
    assert asked <= 5
    assert not site.node.busy


def test_a_lost_connection_makes_all_uncertain() -> None:
    """What was missed may have been a birth: names are believed when the next one says the same."""
    site = Site()
    site.born("a", "b")
    site.node.broke(site.stamp())
    assert site.send("NDATA", 1, alias(0), alias(1)) == []
    assert site.asks()
    assert site.born("a", "b") == ["a=1.5", "b=1.5"]


def test_one_that_never_answers_goes_on_after_a_lost_message() -> None:
    """The number that is missing is no birth's, and no will comes: the birth before it names what came."""
    site = Site()
    site.born("a")
    site.born("Speed", device="d", seq=1)
    assert site.send("NDATA", 3, alias(0, 3.0)) == []
    site.wait(2.1)
    assert site.send("DDATA", 4, alias(0, 4.0), device="d") == []
    assert site.wait(PLAIN_S - 1) == []
    assert site.wait(1) == ["a=3.0", "Speed=4.0"]
    assert site.asks()
    assert site.send("NDATA", 5, alias(0, 5.0)) == ["a=5.0"]
    assert site.send("NDATA", 7, alias(0, 7.0)) == []
    site.wait(2.1)
    assert site.wait(PLAIN_S) == ["a=7.0"]
    assert site.node.held == 0


@pytest.mark.parametrize(
    ("expected", "came", "seconds"),
    [
        (5, [6], PLAIN_S),
        (5, [37, 38, 40], WILL_S),
        (5, [36, 37, 38], PLAIN_S),
        (5, [4], WILL_S),
        (200, [202, 1, 2], WILL_S),
        (255, [1], WILL_S),
        (255, [0], PLAIN_S),
        (254, [255, 1], WILL_S),
    ],
)
def test_how_long_it_is_doubted_that_the_session_is_the_same(
    expected: int, came: list[int], seconds: float
) -> None:
    """By the numbers that are missing: 0 is that of a birth, and of many nobody knows."""
    site = Site()
    site.born("a")
    for seq in range(1, expected):
        site.send("NDATA", seq, alias(0))
    for seq in came:
        site.send("NDATA", seq, alias(0))
    site.wait(2.1)
    site.wait(seconds - 1)
    last = (came[-1] + 1) % 256
    assert site.send("NDATA", last, alias(0, 7.0)) == []
    assert site.wait(1)[-1] == "a=7.0"
    assert site.send("NDATA", (last + 1) % 256, alias(0)) == ["a=1.5"]


def test_a_will_ends_the_doubt() -> None:
    """A session that has ended, before or after what is held, is not believed to go on."""
    site = Site()
    site.born("a")
    site.send("NDATA", 2, alias(0))
    site.wait(2.1)
    assert site.send("NDEATH", None, bd_seq(0)) == ["node offline"]
    assert site.wait(PLAIN_S) == []
    assert site.wait(HELD_S) == ["lost unknown_alias"]
    assert site.send("NDATA", 3, alias(0)) == []


def test_what_waits_when_an_edge_node_dies() -> None:
    """It may be of the next session, whose births were overtaken: the birth before does not name it."""
    site = Site()
    site.born("a", number=0)
    assert site.send("NDATA", 3, alias(0)) == []
    assert site.send("NDEATH", None, bd_seq(0)) == ["node offline"]
    assert site.wait(HELD_S) == ["lost unknown_alias"]


def test_a_device_that_died_in_doubt() -> None:
    """Its birth is not believed again: the next one may name otherwise."""
    site = Site()
    site.born("a")
    site.born("Speed", device="d", seq=1)
    site.send("NDATA", 3, alias(0, 3.0))
    site.wait(2.1)
    site.send("DDEATH", 4, device="d")
    assert site.wait(PLAIN_S) == ["a=3.0"]
    assert site.send("DDATA", 5, alias(0), device="d") == []


def test_a_device_that_was_born_in_doubt() -> None:
    """Its birth is believed with the others."""
    site = Site()
    site.born("a")
    site.send("NDATA", 2, alias(0, 3.0))
    site.wait(2.1)
    assert site.born("Speed", device="d", seq=3) == ["d online"]
    assert site.wait(PLAIN_S) == ["a=3.0"]
    assert site.send("DDATA", 4, alias(0), device="d") == ["Speed=1.5"]


@pytest.mark.parametrize(("kept", "expected"), [(True, ["a=2.0"]), (False, [])])
def test_a_lost_connection_of_ours(kept: bool, expected: list[str]) -> None:  # noqa: FBT001  # a case
    """Whoever never answers is believed when no will comes that the broker would have kept for us."""
    site = Site()
    site.born("a")
    site.node.broke(site.stamp(), believed_at=site.now + WILL_S if kept else None)
    assert site.send("NDATA", 7, alias(0)) == []
    assert site.wait(HELD_S) == ["lost unknown_alias"]
    site.wait(WILL_S - HELD_S - 1)
    site.send("NDATA", 8, alias(0, 2.0))
    assert site.wait(1) == expected


def test_what_has_waited_long_for_its_turn_is_held_as_long_as_any_other() -> None:
    """A reorder timeout of a minute takes nothing of the time that a birth has."""
    site = Site(reorder_s=60.0)
    site.born("a")
    assert site.send("NDATA", 2, alias(0, 2.0)) == []
    assert site.wait(60.1) == []
    assert site.wait(1) == []
    assert site.born("a") == ["a=2.0"]


def test_a_clock_that_was_set_back() -> None:
    """A message that says it is older than the birth is not believed to be of it, until the next birth."""
    site = Site()
    site.born("a")
    assert site.send("NDATA", 1, alias(0), sent=EPOCH + 5) == []
    assert site.asks()
    birth = [bd_seq(0), metric("a", 0, 1.0, DOUBLE)]
    assert site.send("NBIRTH", 0, *birth, sent=EPOCH + 4) == ["a=1.5"]
    assert site.send("NDATA", 1, alias(0), sent=EPOCH + 6) == ["a=1.5"]


def test_the_order_is_not_known() -> None:
    """Where not all comes this way aliases wait for a birth that others may have got, by the node's clock."""
    site = Site(ordered=False)
    site.born("old")
    site.now += 60
    assert site.send("NDATA", 9, alias(0, 9.0)) == []
    assert site.wait(1.9) == []
    assert site.wait(0.2) == ["old=9.0"]
    assert site.send("NDATA", 77, metric("a", None, 1.0)) == ["a=1.0"]
    assert not site.asks()


@pytest.mark.parametrize(
    ("topic", "key", "device"),
    [
        ("spBv1.0/g/NBIRTH/n", "spBv1.0/g/n", ""),
        ("site/1/spBv1.0/g/DDATA/n/d", "site/1/spBv1.0/g/n", "d"),
        ("spBv1.0/g/NDATA/n/d", None, ""),
        ("spBv1.0/g/DDATA/n", None, ""),
        ("spBv1.0/g/NCMD/n", None, ""),
        ("spBv1.0/STATE/host", None, ""),
        ("spBv1.0/g/NDATA/n\x00", None, ""),
        ("devices/a1/telemetry", None, ""),
    ],
)
def test_topics(topic: str, key: str | None, device: str) -> None:
    """Topics of edge nodes and of their devices, and no others."""
    address = address_of(topic)
    assert (address and address.key, address.device if address else "") == (key, device)
