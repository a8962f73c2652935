"""Two gateways that a broker deals one edge node's messages out to: no metric gets a wrong name.

The edge node dies and comes back, with its aliases as they were or others, with wills that come late; what
each gateway stores the other reads, sooner or later but within the time that messages wait. Births are not
lost: who loses one, where the order is not known, loses it unnoticed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from gateway.sparkplug.messages import Lost, Message, Read, Told
from gateway.sparkplug.nodes.node import HELD_S
from gateway.sparkplug.nodes.shared import Shared
from tests.support.effort import examples
from tests.unit.test_sparkplug_shared import PLACE, Table

if TYPE_CHECKING:
    from gateway.sparkplug.topics import Kind

REORDER_S = 2.0
NETWORK_S = 1.0
ALIASES = 2
WHICH = st.integers(0, 1)


class Both(RuleBasedStateMachine):
    """All of it."""

    @initialize()
    def begin(self) -> None:
        self.now = 1000.0
        self.came = 0
        self.session = 0
        self.alive = False
        self.names = {alias: f"{alias}.0" for alias in range(ALIASES)}
        self.flying: list[tuple[float, int, Message]] = []
        self.truth: dict[bytes, list[str]] = {}
        self.outcomes: dict[bytes, str] = {}
        self.delivered: set[bytes] = set()
        self.table = Table()
        self.nodes = [Shared(PLACE.key, self.stamp(), reorder_s=REORDER_S) for _ in range(2)]

    def stamp(self) -> str:
        self.came += 1
        return f"2026-11-23T09:00:00.{self.came:06d}Z"

    def publish(
        self, kind: Kind, metrics: list[dict[str, Any]], which: int, sent: float | None = None
    ) -> Message:
        self.now += 0.01
        value = {"timestamp": int(1000 * (self.now if sent is None else sent)), "metrics": metrics}
        message = Message("t", f"{self.came}:{self.now}".encode(), kind, "", value, "", 0.0)
        self.flying.append((self.now + NETWORK_S, which, message))
        return message

    @precondition(lambda self: not self.alive)
    @rule(others=st.sets(st.integers(0, ALIASES - 1)), which=WHICH)
    def connect(self, others: set[int], which: int) -> None:
        """The edge node connects, and some of its aliases are other metrics', or again what they were."""
        self.session += 1
        self.names = {alias: f"{alias}.{int(alias in others)}" for alias in range(ALIASES)}
        self.will_sent = self.now
        self.alive = True
        self.birth(which)

    def birth(self, which: int) -> None:
        metrics = [
            {"name": name, "alias": alias, "datatype": 10, "value": 0.0} for alias, name in self.names.items()
        ]
        number = {"name": "bdSeq", "datatype": 8, "value": self.session}
        self.publish("NBIRTH", [number, *metrics], which)

    @precondition(lambda self: self.alive)
    @rule(which=WHICH)
    def rebirth(self, which: int) -> None:
        """It is asked for its births, and says them again."""
        self.birth(which)

    @precondition(lambda self: self.alive)
    @rule(which=WHICH)
    def die(self, which: int) -> None:
        """Its connection is lost, and the broker publishes its will."""
        self.publish(
            "NDEATH", [{"name": "bdSeq", "datatype": 8, "value": self.session}], which, self.will_sent
        )
        self.alive = False

    @precondition(lambda self: self.alive)
    @rule(alias=st.integers(0, ALIASES - 1), which=WHICH)
    def data(self, alias: int, which: int) -> None:
        """It sends a value by alias."""
        message = self.publish("NDATA", [{"alias": alias, "value": 1.0}], which)
        self.truth[message.payload] = [self.names[alias]]

    @precondition(lambda self: self.flying)
    @rule(at=st.integers(0, 4))
    def deliver(self, at: int) -> None:
        """One of the messages arrives, at the gateway that it was dealt out to; of a kind in their order."""
        _, which, chosen = self.flying[min(at, len(self.flying) - 1)]
        first = next(each for each in self.flying if each[1] == which and each[2].kind == chosen.kind)
        self.flying.remove(first)
        self.arrive(which, first[2])

    @rule(which=WHICH)
    def read(self, which: int) -> None:
        """A gateway reads what the other one has stored."""
        self.table.read(self.nodes[which])

    @rule(seconds=st.sampled_from([0.1, 0.6, 2.5]))
    def wait(self, seconds: float) -> None:
        """Time passes; nothing is on its way for longer than a second, and both read what is stored."""
        end = self.now + seconds
        while self.flying and (first := min(self.flying, key=lambda each: each[0]))[0] <= end:
            self.flying.remove(first)
            self.now = max(self.now, first[0])
            self.arrive(*first[1:])
        self.now = end
        for node in self.nodes:
            self.table.read(node)
            self.look(node, node.tick(self.now))

    def arrive(self, which: int, message: Message) -> None:
        message.at, message.heard = self.stamp(), self.now
        if message.payload in self.truth:
            self.delivered.add(message.payload)
        self.look(self.nodes[which], self.nodes[which].take(message, self.now))

    def look(self, node: Shared, steps: list[Any]) -> None:
        self.table.store(node)
        for step in steps:
            if isinstance(step, Told) or step.message.kind != "NDATA":
                continue
            payload = step.message.payload
            assert payload not in self.outcomes, "a message comes out twice"
            if isinstance(step, Lost):
                self.outcomes[payload] = step.reason
            else:
                assert isinstance(step, Read)
                assert isinstance(step.value, dict)
                self.outcomes[payload] = "read"
                assert [each["name"] for each in step.value["metrics"]] == self.truth[payload]

    def teardown(self) -> None:
        """In the end nothing is held any more, and who lives is online."""
        if hasattr(self, "nodes"):
            for _ in range(3):
                self.wait(2.5)
            self.wait(HELD_S)
            assert self.outcomes.keys() == self.delivered
            if self.session:
                assert self.table.rows[""].online is self.alive


TestBoth = Both.TestCase
TestBoth.settings = settings(max_examples=examples(60), stateful_step_count=40, deadline=None)
