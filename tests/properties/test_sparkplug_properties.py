"""An edge node, a network and a host: whatever is lost, late or repeated, no metric gets a wrong name.

The edge node dies and comes back, with its aliases as they were or others, with numbers of its sessions that
count or are always the same; it answers rebirths, or does not hear of them. The network loses messages, and
puts topics of less than the reorder timeout in any order, wills among them; the host loses its connection.
Within a session an alias keeps its metric, and those that it had once in another one do not come back. Nobody
can tell a session whose birth was lost, and whose first message has the number that the one before would have
had next, as long as its will is late.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.sparkplug.messages import Lost, Message, Read, Told
from gateway.sparkplug.nodes.doubt import PLAIN_S
from gateway.sparkplug.nodes.node import HELD_S, MOST_HELD
from gateway.sparkplug.nodes.ordered import Ordered
from tests.support.effort import examples

if TYPE_CHECKING:
    from gateway.sparkplug.topics import Kind

REORDER_S = 2.0
NETWORK_S = 1.5
ALIASES = 3
DEVICES = ("", "d")
KEYS = st.sampled_from([(device, alias) for device in DEVICES for alias in range(ALIASES)])


class Edges(RuleBasedStateMachine):
    """All of it."""

    @initialize(counts=st.booleans(), starts=st.integers(0, 255))
    def begin(self, counts: bool, starts: int) -> None:  # noqa: FBT001  # given by name
        self.now = 1000.0
        self.sent = 1_795_424_400_000
        self.came = 0
        self.counts = counts
        self.session = starts
        self.seq = 0
        self.names = {(device, alias): f"{alias}.0" for device in DEVICES for alias in range(ALIASES)}
        self.version = 0
        self.alive = False
        self.asked = False
        self.flying: list[tuple[float, Message]] = []
        self.truth: dict[bytes, list[str]] = {}
        self.sessions: dict[bytes, int] = {}
        self.heard = -1
        self.delivered: set[bytes] = set()
        self.outcomes: dict[bytes, str] = {}
        self.broken = True
        self.node = Ordered("n", self.stamp(), reorder_s=REORDER_S)

    def stamp(self) -> str:
        self.came += 1
        return f"2026-11-23T09:00:00.{self.came:06d}Z"

    def publish(
        self, kind: Kind, device: str, metrics: list[dict[str, Any]], *, numbered: bool = True
    ) -> Message:
        self.sent += 10
        value: dict[str, Any] = {"timestamp": self.sent, "metrics": metrics}
        if numbered:
            value["seq"] = self.seq
            self.seq = (self.seq + 1) % 256
        payload = f"{len(self.truth)}:{self.sent}".encode()
        self.sessions[payload] = self.session
        message = Message("t", payload, kind, device, value, "", 0.0)
        self.flying.append((self.now + NETWORK_S, message))
        return message

    def birth(self) -> None:
        self.seq = 0
        number = self.session % 256 if self.counts else 7
        for device in DEVICES:
            metrics = [
                {"name": name, "alias": alias, "datatype": 10, "value": 0.0}
                for (of, alias), name in self.names.items()
                if of == device
            ]
            if device:
                self.publish("DBIRTH", device, metrics)
            else:
                self.publish("NBIRTH", "", [{"name": "bdSeq", "datatype": 8, "value": number}, *metrics])

    @precondition(lambda self: not self.alive)
    @rule(changed=st.sets(KEYS))
    def connect(self, changed: set[tuple[str, int]]) -> None:
        """The edge node connects, and some of its aliases are other metrics'."""
        self.session += 1
        self.version += 1
        self.names |= {key: f"{key[1]}.{self.version}" for key in changed}
        self.will_sent = self.sent + 5
        self.alive = True
        self.birth()

    @precondition(lambda self: self.alive)
    @rule()
    def die(self) -> None:
        """Its connection is lost, and the broker publishes its will."""
        number = self.session % 256 if self.counts else 7
        will = self.publish("NDEATH", "", [{"name": "bdSeq", "datatype": 8, "value": number}], numbered=False)
        assert isinstance(will.value, dict)
        will.value["timestamp"] = self.will_sent
        self.alive = False

    @precondition(lambda self: self.alive)
    @rule(changed=st.sets(KEYS), lost=st.booleans())
    def restart(self, changed: set[tuple[str, int]], lost: bool) -> None:  # noqa: FBT001  # likewise
        """It is back at once, before its will is delivered, and perhaps its births are lost."""
        self.die()
        before = len(self.flying)
        self.connect(changed)
        if lost:
            del self.flying[before:]

    @precondition(lambda self: self.alive)
    @rule(device=st.sampled_from(DEVICES), aliases=st.sets(st.integers(0, ALIASES - 1), min_size=1))
    def data(self, device: str, aliases: set[int]) -> None:
        """It sends values by alias."""
        message = self.publish(
            "DDATA" if device else "NDATA", device, [{"alias": a, "value": 1.0} for a in sorted(aliases)]
        )
        self.truth[message.payload] = [self.names[device, a] for a in sorted(aliases)]

    @precondition(lambda self: self.alive)
    @rule(hears=st.booleans())
    def rebirth(self, hears: bool) -> None:  # noqa: FBT001  # likewise
        """It answers a rebirth that was asked for, or somebody else's."""
        if hears:
            self.birth()

    @precondition(lambda self: self.flying)
    @rule(at=st.integers(0, 5))
    def deliver(self, at: int) -> None:
        """One of the messages arrives; those of one topic keep their order."""
        chosen = self.flying[min(at, len(self.flying) - 1)][1]
        topic = chosen.kind, chosen.device
        first = next(each for each in self.flying if (each[1].kind, each[1].device) == topic)
        self.flying.remove(first)
        self.arrive(first[1])

    @precondition(lambda self: any(m.kind != "NDEATH" for _, m in self.flying))
    @rule(at=st.integers(0, 5))
    def lose(self, at: int) -> None:
        """One of them does not."""
        lossy = [each for each in self.flying if each[1].kind != "NDEATH"]
        self.flying.remove(lossy[min(at, len(lossy) - 1)])

    @rule()
    def disconnect(self) -> None:
        """The host's connection is lost: what is on its way is not delivered, but for wills."""
        self.flying = [each for each in self.flying if each[1].kind == "NDEATH"]
        self.broken = True

    @rule(seconds=st.sampled_from([0.1, 1.0, 2.5, 40.0]))
    def wait(self, seconds: float) -> None:
        """Time passes, and nothing is on its way for longer than the reorder timeout."""
        end = self.now + seconds
        while self.flying and (first := min(self.flying, key=lambda each: each[0]))[0] <= end:
            self.flying.remove(first)
            self.now = max(self.now, first[0])
            self.arrive(first[1])
        self.now = end
        self.look(self.node.tick(self.now))

    def arrive(self, message: Message) -> None:
        message.at, message.heard = self.stamp(), self.now
        if self.broken:
            self.node.broke(message.at, believed_at=self.now + PLAIN_S)
            self.broken = False
        if message.kind == "NBIRTH":
            self.heard = self.sessions[message.payload]
        if message.payload in self.truth:
            self.delivered.add(message.payload)
        self.look(self.node.tick(self.now))
        self.look(self.node.take(message, self.now))

    def look(self, steps: list[Any]) -> None:
        for step in steps:
            if isinstance(step, Told) or step.message.kind not in {"NDATA", "DDATA"}:
                continue
            payload = step.message.payload
            assert payload not in self.outcomes, "a message comes out twice"
            if isinstance(step, Lost):
                self.outcomes[payload] = step.reason
            else:
                assert isinstance(step, Read)
                assert isinstance(step.value, dict)
                self.outcomes[payload] = "read"
                as_sent = [each["name"] for each in step.value["metrics"]] == self.truth[payload]
                assert as_sent or self.nobody_can_tell(step.message)

    def nobody_can_tell(self, message: Message) -> bool:
        """Whether it is of a session whose birth was lost, and has just the number that was expected."""
        return message.certain and self.sessions[message.payload] != self.heard

    @invariant()
    def nothing_is_lost(self) -> None:
        """Every message that arrived was read, is held or is a letter."""
        if hasattr(self, "node"):
            assert len(self.delivered) - len(self.outcomes) == self.held()
            assert self.node.held <= MOST_HELD

    def held(self) -> int:
        waiting = [*self.node.unnamed, *self.node.waiting]
        return len([each for each in waiting if each.payload in self.truth])

    def teardown(self) -> None:
        """In the end nothing is held any more."""
        if hasattr(self, "node"):
            self.wait(5.0)
            self.wait(HELD_S + 5)
            self.wait(HELD_S + 5)
            assert self.outcomes.keys() == self.delivered


TestEdges = Edges.TestCase
TestEdges.settings = settings(max_examples=examples(100), stateful_step_count=40, deadline=None)
