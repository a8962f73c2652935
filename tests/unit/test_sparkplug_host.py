"""The host in front of a decoder: what it passes on, keeps, tells and bounds."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Self

import msgspec
import pytest

from gateway.decode import Decoder, Limits, Reading, Received, Rejection
from gateway.decode.dialects import complete_routes
from gateway.decode.routes import compile_routes
from gateway.door import Door
from gateway.sparkplug import fleet as module
from gateway.sparkplug.host import TICK, Host
from gateway.sparkplug.nodes.ordered import Ordered
from gateway.subscriptions import plan
from runtime.errors import ConfigurationError
from runtime.settings import load
from tests.support.sparkplug import BOOLEAN, DOUBLE, STRING, bd_seq, metric, payload
from tests.support.write_side import NOW, Delivered

if TYPE_CHECKING:
    from collections.abc import Iterable

SENT = 1_795_424_400_000
LIMITS = Limits()
LARGE = Limits(max_metrics=10_000, max_payload_bytes=1_000_000)
SPARKPLUG = '{"dialect": "sparkplug"}'


class Site:
    """A host with a clock that goes when it is told to."""

    def __init__(self, routes: str = SPARKPLUG, *, door: Door | None = None, limits: Limits = LIMITS) -> None:
        self.now = 100.0
        compiled = compile_routes(load(None, {"EDGE_ROUTE": f"[{routes}]"}, complete_routes).route)
        self.host = Host(Decoder(compiled, limits), reorder_s=2.0, monotonic=lambda: self.now, door=door)
        self.received = Received.of(NOW)

    def send(self, topic: str, message: bytes, *, retain: bool = False) -> list[str]:
        """Let a message come; what comes of it, in words."""
        return words(self.host.decode(Delivered(topic, message, retain=retain), self.received))

    def born(self, names: Iterable[str] = ("T",), *, node: str = "n") -> list[str]:
        metrics = [metric(name, 1.0, alias=i, datatype=DOUBLE) for i, name in enumerate(names)]
        return self.send(f"spBv1.0/g/NBIRTH/{node}", payload([bd_seq(0), *metrics], ts=SENT, seq=0))

    def data(self, seq: int, value: float = 1.5, *, node: str = "n", ts: int | None = SENT) -> list[str]:
        message = payload([metric(None, value, alias=0)], ts=ts, seq=seq)
        return self.send(f"spBv1.0/g/NDATA/{node}", message)

    def wait(self, seconds: float) -> list[str]:
        self.now += seconds
        return words(self.host.decode(TICK, self.received)) if self.host.tick() else []


def words(items: list[Reading | Rejection]) -> list[str]:
    found = []
    for item in items:
        if isinstance(item, Rejection):
            found.append(f"{item.device_id} {item.reason}")
        else:
            metrics = msgspec.json.decode(item.event.metrics)
            found += [f"{item.event.device_id} {name}={value}" for name, value in metrics.items()]
    return found


class Calls:
    """Counts calls of functions, as what is done between two looks."""

    def __init__(self) -> None:
        self._count = 0

    def __enter__(self) -> Self:
        sys.setprofile(self._called)
        return self

    def __exit__(self, *exc: object) -> None:
        sys.setprofile(None)

    def _called(self, _frame: object, event: str, _arg: object) -> None:
        self._count += event == "call"

    def take(self) -> int:
        """How many there were since the last time."""
        count, self._count = self._count, 0
        return count


def test_a_large_birth_is_read_in_steps() -> None:
    """Four thousand new tags: many small steps first, and then little is left; it comes to the same."""
    names = [f"Line {i % 7}/Press {i}/Tag" for i in range(4000)]
    tags = [metric(name, 1.0, alias=i, datatype=DOUBLE, ts=SENT) for i, name in enumerate(names)]
    topic, message = "spBv1.0/g/NBIRTH/n", payload([bd_seq(0), *tags], ts=SENT, seq=0)
    at_once, prepared = Site(limits=LARGE), Site(limits=LARGE)
    delivery = Delivered(topic, message)
    steps: list[int] = []
    with Calls() as calls:
        steps.extend(calls.take() for _ in prepared.host.prepare(delivery))
        steps.append(calls.take())
        found = prepared.host.decode(delivery, prepared.received)
        rest = calls.take()
        expected = at_once.host.decode(Delivered(topic, message), at_once.received)
        whole = calls.take()
    assert [msgspec.json.encode(each.event) for each in found if isinstance(each, Reading)] == [
        msgspec.json.encode(each.event) for each in expected if isinstance(each, Reading)
    ]
    assert len(words(found)) == 4001
    assert len(steps) > 50
    assert max(steps) < whole / 20
    assert rest < whole / 5


@pytest.mark.parametrize(
    ("message", "limits", "reason"),
    [
        (payload([metric("T", 1.0, ts=SENT)], ts=SENT, seq=0) + b"\x08", LIMITS, "malformed_sparkplug"),
        (payload([metric(f"T{i}", 1.0) for i in range(300)], ts=SENT, seq=0), LIMITS, "invalid_metric"),
        (payload([metric("T", 1.0)] * 5001, ts=SENT, seq=0), LIMITS, "too_many_readings"),
        (
            payload([metric("T", 1.0)], ts=SENT, seq=0),
            LIMITS._replace(max_payload_bytes=9),
            "payload_too_large",
        ),
    ],
)
def test_a_birth_that_is_refused_in_steps(message: bytes, limits: Limits, reason: str) -> None:
    """What is wrong with it is said when its turn has come, as of any other, and the next one is read."""
    topic = "spBv1.0/g/NBIRTH/n"
    prepared, at_once = Site(limits=limits), Site(limits=limits)
    delivery = Delivered(topic, message)
    for _ in prepared.host.prepare(delivery):
        pass
    found = words(prepared.host.decode(delivery, prepared.received))
    assert found[0] == f"n {reason}"
    assert found == at_once.send(topic, message)
    if limits is LIMITS:
        assert prepared.born() == at_once.born()


def test_others_pass() -> None:
    """What is no Sparkplug is the decoder's, and so is what cannot be read."""
    site = Site('{"topic": "devices/{device_id}/telemetry"}, ' + SPARKPLUG)
    assert site.send("devices/a1/telemetry", b'{"id": "1", "x": 2}') == ["a1 x=2"]
    assert site.send("spBv1.0/g/NDATA/n", b"\xff\xff") == ["n malformed_sparkplug"]
    assert site.send("spBv1.0/g/NCMD/n", b"x") == []
    assert site.send("elsewhere", b"x") == ["None no_route"]
    assert (site.host.ignored, site.host.take_changes()) == (1, None)


def test_a_birth_tells_that_it_is_online_and_is_kept() -> None:
    """Its values, a reading that says online at its arrival, and a row for the batch."""
    site = Site()
    assert site.born() == ["n T=1.0", "n online=True"]
    changes = site.host.take_changes()
    assert changes is not None
    (row,) = changes.rows.values()
    assert (row.node, row.device, row.online, row.bd_seq, row.born) == ("spBv1.0/g/n", "", True, 0, SENT)
    assert json.loads(row.births)[0]["metrics"] == [["bdSeq", None, 4], ["T", 0, 10]]
    assert site.data(1) == ["n T=1.5"]
    assert site.host.take_changes() is None


def test_a_repeat_is_known_by_its_key() -> None:
    """A birth that is delivered again to another gateway is told by the same reading."""
    site, again = Site(), Site()
    found = []
    for each in (site, again):
        message = Delivered("spBv1.0/g/NBIRTH/n", payload([bd_seq(0)], ts=SENT, seq=0))
        (*_, told) = each.host.decode(message, each.received)
        assert isinstance(told, Reading)
        found.append((told.identity, told.content, told.event.online))
    assert found[0] == found[1]
    assert found[0][2] is True
    assert site.born() == ["n T=1.0"]


def test_what_is_held_is_stored_and_freed() -> None:
    """A message that waits is kept with the batch that acknowledges it, and no longer than it waits."""
    site = Site()
    site.born()
    site.host.take_changes()
    assert site.data(2) == []
    changes = site.host.take_changes()
    assert changes is not None
    ((id_, held),) = changes.held.items()
    assert held is not None
    assert (held.topic, site.host.held) == ("spBv1.0/g/NDATA/n", 1)
    assert site.data(1, 0.5) == ["n T=0.5", "n T=1.5"]
    changes = site.host.take_changes()
    assert changes is not None
    assert (changes.held, site.host.held, site.host.fleet.held_bytes) == ({id_: None}, 0, 0)


def test_held_over_a_restart() -> None:
    """Another gateway goes on with what is stored, and the births that are."""
    site = Site()
    site.born()
    birth = site.host.take_changes()
    site.data(2)
    held = site.host.take_changes()
    assert birth is not None
    assert held is not None
    after = Site()
    after.host.learn(birth.rows.values())
    after.host.resume(
        [(m.id, m.topic, m.payload, m.at) for m in held.held.values() if m is not None], after.received
    )
    assert (after.host.held, after.host.online) == (1, 1)
    after.host.rouse()
    assert [each.topic("NCMD") for each in after.host.take_asks(10)] == ["spBv1.0/g/NCMD/n"]
    assert after.born() == ["n T=1.0", "n T=1.5"]


def test_a_message_without_a_time_is_as_old_as_its_arrival() -> None:
    """Not as its release."""
    site = Site()
    site.data(7, ts=None)
    came = site.received.last
    site.born()
    site.now += 2.1
    assert site.host.tick()
    (reading,) = site.host.decode(TICK, site.received)
    assert isinstance(reading, Reading)
    assert (reading.event.ts, reading.event.received_at > came) == (came, True)


def test_what_a_broker_retained_teaches_nothing() -> None:
    """It is read by what is known, and is of no sequence."""
    site = Site()
    retained = payload([bd_seq(9), metric("X", 2.0, alias=0, datatype=DOUBLE)], ts=SENT, seq=0)
    assert site.send("spBv1.0/g/NBIRTH/n", retained, retain=True) == ["n X=2.0"]
    data = payload([metric(None, 3.0, alias=0)], ts=SENT + 1, seq=1)
    assert site.send("spBv1.0/g/NDATA/n", data, retain=True) == ["n not_born"]
    assert site.send("spBv1.0/g/NDEATH/n", payload([bd_seq(9)], ts=SENT), retain=True) == []
    site.born()
    assert site.send("spBv1.0/g/NDATA/n", data, retain=True) == ["n T=3.0"]
    assert site.data(1) == ["n T=1.5"]


def test_kinds_of_values() -> None:
    """Texts and booleans by alias, and what is null is no value."""
    site = Site()
    metrics = [
        metric("on", False, alias=1, datatype=BOOLEAN),  # noqa: FBT003  # a value
        metric("mode", "a", alias=2, datatype=STRING),
        metric("gone", 1.0, alias=3, datatype=DOUBLE),
    ]
    site.send("spBv1.0/g/NBIRTH/n", payload([bd_seq(0), *metrics], ts=SENT, seq=0))
    values = [metric(None, True, alias=1), metric(None, "b", alias=2), metric(None, None, alias=3)]  # noqa: FBT003  # a value
    message = payload(values, ts=SENT + 1, seq=1)
    assert site.send("spBv1.0/g/NDATA/n", message) == ["n mode=b", "n on=True"]


def test_who_is_not_let_in() -> None:
    """What was held is refused as any other message is, with its own bytes."""
    door = Door()
    site = Site(door=door)
    site.data(7)
    door.take("n", "blocked")
    site.born()
    site.now += 2.1
    assert site.host.tick()
    (letter,) = site.host.decode(TICK, site.received)
    assert isinstance(letter, Rejection)
    assert (letter.reason, letter.topic) == ("device_blocked", "spBv1.0/g/NDATA/n")
    assert letter.payload == payload([metric(None, 1.5, alias=0)], ts=SENT, seq=7)


@pytest.mark.parametrize("bound", ["_MOST_HELD", "_MOST_HELD_BYTES"])
def test_what_is_held_in_all_is_bounded(monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    """Beyond that an edge node's messages are dead letters at once."""
    monkeypatch.setattr(module, bound, 3 if bound == "_MOST_HELD" else 90)
    site = Site()
    found = [site.data(7, node=f"n{i}") for i in range(6)]
    assert found[0] == []
    assert found[-1] == ["n5 not_born"]
    assert site.host.held < 6


def test_edge_nodes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was not heard for longest is forgotten, and asked for a rebirth when it is back."""
    monkeypatch.setattr(module, "_MOST_NODES", 3)
    site = Site()
    for i in range(10):
        site.born(node=f"n{i}")
    assert list(site.host.nodes) == [f"spBv1.0/g/n{i}" for i in (7, 8, 9)]
    assert site.data(1, node="n0") == []
    assert [each.node for each in site.host.take_asks(10)] == ["n0"]


def test_edge_nodes_of_one_make() -> None:
    """What all of them say of their metrics is kept once, and goes with the last of them."""
    site = Site()
    for i in range(20):
        site.born(["T", "H"], node=f"n{i}")
    assert site.host.fleet._tables.names == 3  # and bdSeq
    site.born(["P"], node="n0")
    assert site.host.fleet._tables.names == 3 + 2
    site.host.nodes["spBv1.0/g/n0"].entities[""].names.births.pop()
    assert site.host.fleet._tables.names == 3


def test_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of edge nodes that all have names of their own as many are kept as there is room for; it is counted."""
    monkeypatch.setattr(module, "_MOST_NAMES", 100)
    site = Site()
    for i in range(30):
        site.born([f"{i}-{k}" for k in range(8)], node=f"n{i}")
        assert site.host.fleet._names <= 100
    assert len(site.host.nodes) == 10
    assert site.host.counts["forgotten"] == 20


def test_devices_are_bounded_with_their_edge_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that makes up devices without end is forgotten with all of them, and no others go for long."""
    monkeypatch.setattr(module, "_MOST_NAMES", 50)
    site = Site()
    for i in range(70):
        site.send(f"spBv1.0/g/DDEATH/n/d{i}", payload([], ts=SENT + i, seq=i))
        site.send(f"spBv1.0/g/DBIRTH/n/d{i}", payload([metric("x", 1.0, alias=1)], ts=SENT + i, seq=i))
        assert sum(len(node.entities) for node in site.host.nodes.values()) <= 52


def test_made_up_edge_nodes_leave_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither they nor their topics are kept, however long these are, and few are asked for a rebirth."""
    monkeypatch.setattr(module, "_MOST_NODES", 20)
    monkeypatch.setattr(module, "_MOST_HELD", 10)
    site = Site()
    for i in range(60):
        site.data(7, node=f"n{i}")
        site.data(7, node=f"{i}{'x' * 60_000}")
    assert len(site.host.nodes) <= 20
    assert len(site.host.take_asks(1000)) <= 20
    assert max(map(len, site.host._addresses.known)) < 1000


def test_all_are_looked_at_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many wait for something, a tick takes no longer than a part of them does."""
    monkeypatch.setattr(module, "_MOST_TICKS", 3)
    site = Site()
    for i in range(7):
        site.data(7, node=f"n{i}")
    found = [site.wait(31 if i == 0 else 0) for i in range(3)]
    assert [len(each) for each in found] == [3, 3, 1]


def test_who_is_forgotten_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """What time has led to is told before its edge node is forgotten, whoever comes in between."""
    monkeypatch.setattr(module, "_MOST_NODES", 2)
    site = Site()
    site.born()
    site.send("spBv1.0/g/DBIRTH/n/d", payload([metric("x", 1.0, alias=1)], ts=SENT, seq=1))
    site.send("spBv1.0/g/NBIRTH/n", payload([bd_seq(1)], ts=SENT + 1, seq=0))
    site.now += 31
    assert site.host.tick()
    for i in range(3):
        site.born(node=f"n{i}")
    assert words(site.host.decode(TICK, site.received)) == ["n/d online=False"]
    site.wait(0)
    for i in range(3):
        site.born(node=f"n{i}")
    assert "spBv1.0/g/n" not in site.host.nodes


def test_a_death_after_a_message_that_was_too_much() -> None:
    """What one message has cost is no matter of what is told after it."""
    site = Site('{"topic": "devices/{device_id}/telemetry"}, ' + SPARKPLUG)
    much = json.dumps({"id": "1", "data": [0] * 80_000}).encode()
    assert [word.split()[1] for word in site.send("devices/a1/telemetry", much)] == ["too_many_readings"]
    assert site.send("spBv1.0/g/NDEATH/n", payload([bd_seq(0)])) == ["n online=False"]


def test_another_connection_makes_all_uncertain() -> None:
    """Messages may have been missed; the birth of before is believed when the next says the same."""
    site = Site()
    site.born()
    site.host.broke()
    assert site.data(1) == []
    assert len(site.host.take_asks(10)) == 1
    assert site.born() == ["n T=1.0", "n T=1.5"]


@pytest.mark.parametrize(
    ("kept", "expected"),
    [([True], ["n T=1.5"]), ([False], []), ([False, True], []), ([True, False], [])],
)
def test_one_that_never_answers_after_another_connection(kept: list[bool], expected: list[str]) -> None:
    """Its birth is believed when no will comes, if the broker has kept our session since it was heard."""
    site = Site()
    site.host.broke()
    site.born()
    for each in kept:
        site.host.broke(kept=each)
    assert site.data(1) == []
    assert site.wait(40) == ["n unknown_alias"]
    site.now += 259
    assert site.data(2) == []
    assert site.wait(1.5) == expected


def test_births_that_another_gateway_got() -> None:
    """Of a shared subscription each gateway has a part: it waits, and takes the births that others stored."""
    topic = "$share/g/spBv1.0/{region}/NDATA/{device_id}"
    topics = json.dumps({"topic": topic, "format": "sparkplug", "device": "", "key": ""})
    other, site = Site(), Site(topics)
    other.born()
    stored = other.host.take_changes()
    assert stored is not None
    assert site.data(1) == []
    assert site.host.take_curious() == ["spBv1.0/g/n"]
    site.host.learn(stored.rows.values())
    assert site.wait(1.9) == []
    assert site.wait(0.2) == ["n T=1.5"]
    assert site.host.take_asks(10) == []


def test_a_fault_of_ours_costs_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a dead letter, and the gateway goes on."""
    site = Site()
    site.born()

    def fails(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(Ordered, "_data", fails)
        assert site.data(1) == ["n undecodable"]
    assert site.data(2) == []
    assert site.born() == ["n T=1.0", "n T=1.5"]


def test_a_host_without_edge_nodes() -> None:
    """A name for a primary host application is a mistake where nothing is Sparkplug."""
    settings = load(None, {"EDGE_SPARKPLUG_HOST_ID": "edge"}, complete_routes)
    with pytest.raises(ConfigurationError, match=r"sparkplug\.host_id: no \[\[route\]\]"):
        plan(settings)
    both = {"EDGE_SPARKPLUG_HOST_ID": "edge", "EDGE_ROUTE": f"[{SPARKPLUG}]"}
    subscribed = [each.topic_filter for each in plan(load(None, both, complete_routes)).subscriptions]
    assert "spBv1.0/STATE/edge" in subscribed
