"""The sessions of an edge node all of whose messages come this way, and what each leads to. Pure.

What comes before its turn waits (`sequence`; `tck-id-operational-behavior-host-reordering-start`). After the
reorder timeout what is missing is given up, and from then on nothing is certain until the edge node is born
again: a rebirth is asked for (`…-host-reordering-rebirth`). So it is after our connection was lost, at the
start, and where a message comes of a node or device that was not born. Messages that say all of themselves
are read meanwhile. The others are held until a birth names them (`births`), or until it is plain that no
session has ended (`doubt`), and are letters when neither comes.

A session of an edge node is one of its connections: its births say its number, `bdSeq`, and so does the will
that ends it. As MQTT keeps the order of one topic only, a will may come late, or too early:

- One that has another number than the birth in force, and is older, is of an older session: it ends nothing
  now (`tck-id-topics-nbirth-bdseq-matching`). One that is newer is of a later session, whose birth was lost
  or is to come; the node is dead in any case.
- A birth with the number of a will that has just come may have been on its way when the node died. It names
  what came, and the node stays offline; a rebirth is asked for, which only one that lives answers.
- A birth names what came before it by itself only when the reorder timeout has passed and no late will has
  told that the session was another one. So does that of a device, unless it is its turn.
- A will that a broker delivers again, as it does until it is acknowledged, ends no session after its own.

Presence goes by our clock (§5.5): a will was written when the connection began. A device of a node that was
born again is offline when it is not, and has had the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gateway.sparkplug.letters import lost
from gateway.sparkplug.messages import Read
from gateway.sparkplug.nodes.births import Birth, metrics_of
from gateway.sparkplug.nodes.doubt import ends_after
from gateway.sparkplug.nodes.entity import Entity
from gateway.sparkplug.nodes.held import itself, read_by
from gateway.sparkplug.nodes.node import HELD_S, MOST_HELD, Node
from gateway.sparkplug.nodes.sequence import Sequence, Turn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.sparkplug.messages import Lost, Message, Step
    from gateway.sparkplug.nodes.tables import Metric

REBORN_S: Final = 30.0  # until a device is offline that was not born again with its node


class Ordered(Node):
    """An edge node of which this gateway gets everything."""

    ordered = True

    def __init__(self, key: str, since: str, **others: Any) -> None:  # noqa: ANN401  # those of `Node`
        super().__init__(key, since, **others)
        self._sequence = Sequence()
        self._next: int | None = None  # by what was heard, while the sequence does not know
        self._dead: tuple[int | None, float] | None = None  # number of the session that ended, and when
        self._will: tuple[int | None, int | None] | None = None  # which ended it: its number, and its time
        self._due: dict[str, float] = {}  # devices that are offline then, unless they are born again
        self._alone_at: float | None = None  # when the births may speak for themselves

    @property
    def held(self) -> int:
        """How many messages wait for others or for a birth."""
        return len(self.unnamed) + len(self._sequence)

    @property
    def waiting(self) -> list[Message]:
        """The messages that wait for others."""
        return self._sequence.all

    @property
    def busy(self) -> bool:
        """Whether something happens when time passes."""
        return super().busy or bool(self._due)

    def take(self, message: Message, now: float) -> list[Step]:  # noqa: PLR0911  # one for each kind
        """What the next message leads to, in order, at a time in seconds of the monotonic clock."""
        if message.kind == "NDEATH":
            return list(self._died(message, now))
        if message.kind == "NBIRTH":
            if self._is_overtaken(message, now):
                self._counts["out_of_order"] += 1
                return [Read(message, message.value)]
            return list(self._reborn(message, now))
        if self._sequence.next is not None and self._is_of_before(message):
            self._counts["out_of_order"] += 1
            return list(self._apply(message, now, certain=False))
        turn = self._sequence.turn(message)
        if turn is Turn.NOW:
            return list(self._in_turn(message, now))
        if turn is Turn.UNKNOWN:
            self._next = message.following
            self.asking.want(now, "its births are not known for certain")
            return list(self._apply(message, now, certain=False))
        self._counts["out_of_order"] += 1
        self.moves.append((message, True))
        return list(self._bounded(now))

    def tick(self, now: float) -> list[Step]:
        """What the time that has passed leads to."""
        steps: list[Step] = []
        first = self._sequence.first
        if first is not None and first <= now - self._reorder_s:
            steps += self._give_up(now)
        if self._alone_at is not None and now >= self._alone_at:
            self._alone_at = None
            steps += self._name_all()
        steps += self._believe(now)
        while self.unnamed and self.unnamed[0].heard <= now - HELD_S:
            steps += self.give_up_oldest()
        for device in [device for device, due in self._due.items() if due <= now]:
            steps += self._turn(device, None, online=False)
        self.asking.tick(now)
        return steps

    def broke(self, at: str, *, believed_at: float | None = None) -> None:
        """Something may have been missed; see `Node.broke`."""
        self._break(at, believed_at)
        self._since = at

    def give_up_all(self, now: float) -> list[Step]:
        """There is no more room: nothing waits any longer."""
        steps: list[Step] = []
        if self._sequence:
            steps += self._give_up(now)
        while self.unnamed:
            steps += self.give_up_oldest()
        return steps

    def _in_turn(self, message: Message, now: float) -> Iterator[Step]:
        yield from self._apply(message, now, certain=True)
        for each in self._sequence.ready():
            self.moves.append((each, False))
            yield from self._apply(each, now, certain=True)

    def _give_up(self, now: float) -> Iterator[Step]:
        """What is missing of the sequence does not come any more."""
        self._counts["gaps"] += 1
        self._break(self._sequence.first_at, now + ends_after(self._sequence.missing))
        waiting = self._flush()
        self._next = waiting[-1].following
        self.asking.want(now, "a number of its sequence is missing")
        for message in waiting:
            yield from self._apply(message, now, certain=False)

    def _flush(self) -> list[Message]:
        waiting = self._sequence.flush()
        self.moves.extend((each, False) for each in waiting)
        return waiting

    def _break(self, at: str, believed_at: float | None = None) -> None:
        at = min(at, self._sequence.first_at)  # some of those that wait may be of the next session
        self._sequence.next = None
        broken = {device for device, entity in self.entities.items() if entity.names.broke(at)}
        self.changed |= broken
        self._doubt.begin(broken, believed_at)

    def _believe(self, now: float) -> Iterator[Step]:
        """Nothing has told of another session: what is held is named by the births that there were."""
        devices = self._doubt.end(now)
        if not devices:
            return
        self._sequence.next = self._next
        for device in devices:
            self.entities[device].names.believe()
        self.changed |= devices
        yield from self._held.release(lambda message: self._named(message, alone=False))

    def _reborn(self, message: Message, now: float) -> Iterator[Step]:
        dead = self._dead
        late = dead is not None and dead[0] == message.bd_seq and now < dead[1] + self._reorder_s
        self._break(message.at)
        waiting = self._flush()
        self.bd_seq, self.born = message.bd_seq, message.sent
        self._counts["births"] += 1
        self._learn("", message, until=self.entities[""].ended_at if late else None)
        if late:  # what has come since may be of the session after it
            self._doubt_the_past()
        for device, entity in self.entities.items():
            if device and entity.online:
                self._due[device] = now + REBORN_S
        self._alone_at = now + self._reorder_s
        if late:
            self.asking.want(now, "it died just before its birth came", after_s=self._reorder_s)
        else:
            self._dead = None
            self.asking.born(now)
            self._sequence.passed(message)
        yield Read(message, message.value)
        yield from self._turn("", message, online=not late)
        yield from self._name("", alone=False)
        for each in waiting:
            if self.entities[""].is_older(each):
                yield from self._apply(each, now, certain=False)
            else:
                yield from self.take(each, now)  # it overtook the birth of its session

    def _died(self, message: Message, now: float) -> Iterator[Step]:
        number = message.bd_seq
        if message.duplicate and self._will == (number, message.sent):
            return
        if self._alone_at is not None:
            self._doubt_the_past()
        if self.bd_seq is not None and number != self.bd_seq:
            if self.born is None or message.sent is None or message.sent <= self.born:
                self._counts["late_wills"] += 1
                self._since = message.at  # of births that are still to come
                if self.born is None or message.sent is None:
                    self._doubt.begin((), None)  # it may be of one whose birth was lost
                self._doubt_the_past()
                return
        elif self._dead is not None and self._dead[0] == number and not self.online:
            self._since = message.at  # of a session that had the same number, for all that is known
            return  # the will beside the word of a node that went by itself (§5.5)
        self._counts["deaths"] += 1
        self._break(message.at)
        self._since = message.at
        waiting = self._flush()
        self._dead = number, now
        self._will = number, message.sent
        for device, entity in self.entities.items():
            if entity.online or not device:
                yield from self._turn(device, message, online=False)
            entity.ended_at = message.at
            self.changed.add(device)
        for each in waiting:
            yield from self._apply(each, now, certain=False)
        self.asking.died()

    def _doubt_the_past(self) -> None:
        """A will may be of the session before the last births."""
        for device, entity in self.entities.items():
            entity.names.doubt_the_past()
            self.changed.add(device)

    def _apply(self, message: Message, now: float, *, certain: bool) -> Iterator[Step]:
        """What a message leads to whose turn it is: any but a birth or a death of the edge node.

        Args:
            message: it.
            now: as ever.
            certain: whether nothing before it is missing.
        """
        message.certain = certain
        if message.kind == "DBIRTH":
            yield from self._device_born(message, now)
        elif message.kind == "DDEATH":
            yield from self._device_died(message)
        else:
            yield from self._data(message, now)

    def _device_died(self, message: Message) -> Iterator[Step]:
        entity = self.entities.get(message.device) or Entity()
        if entity.is_older(message) or self._is_of_before(message):
            self._counts["late_wills"] += 1
            return
        self.entities[message.device] = entity
        entity.names.broke(message.at)
        self._doubt.devices.discard(message.device)
        entity.ended_at = message.at
        yield from self._turn(message.device, message, online=False)

    def _device_born(self, message: Message, now: float) -> Iterator[Step]:
        device = message.device
        entity = self.entities.get(device) or Entity()
        yield Read(message, message.value)
        if not message.certain and (entity.is_older(message) or self._is_of_before(message)):
            return
        self.entities[device] = entity
        self._learn(device, message, until=None if message.certain else message.at)
        if self.online:
            yield from self._turn(device, message, online=True)
        else:
            self.asking.want(now, "a device of it was born, and it was not")
        if not message.certain and self._alone_at is None:
            self._alone_at = now + self._reorder_s
        yield from self._name(device, alone=self._alone_at is None)

    def _data(self, message: Message, now: float) -> Iterator[Step]:
        found = self._named(message, alone=self._alone_at is None, in_turn=message.certain)
        if found is not None:
            yield found
            return
        self._hold_unnamed(message, now)
        self.asking.want(now, "a metric of it has no name")
        yield from self._bounded(now)

    def _is_overtaken(self, message: Message, now: float) -> bool:
        """Whether a birth of the edge node is of an older session than the one that has just come."""
        just = self._alone_at is not None and now < self._alone_at
        return just and message.bd_seq != self.bd_seq and self._is_of_before(message)

    def _learn(self, device: str, message: Message, *, until: str | None) -> None:
        entity = self.entities[device]
        since = max(self._since, entity.ended_at)
        entity.names.broke(min(message.at, self._sequence.first_at))  # some of those may be of this birth
        said = metrics_of(message.plain)
        entity.names.born(Birth(message.at, since, said, message.sent, until, self._tables))
        if until is not None and self._doubt.ends_at is not None:
            self._doubt.devices.add(device)
        self.changed.add(device)

    def _turn(self, device: str, message: Message | None, *, online: bool) -> Iterator[Step]:
        """It is online from now on, or offline; nothing where that is known."""
        self._due.pop(device, None)
        if self.entities[device].online is not online:
            yield from self._tell(device, message, online=online)

    def _named(self, message: Message, *, alone: bool, in_turn: bool = False) -> Read | Lost | None:
        """A message with its names; None when no birth says them.

        Args:
            message: it.
            alone: whether a birth may name by itself what came before it.
            in_turn: whether it is the message's turn, so that the last birth is the one before it.
        """
        entity = self.entities.get(message.device)
        if entity is None:
            return itself(message)
        sent = message.sent
        if sent is None and not message.certain:
            sent = 0  # before every birth, for all that is known

        def find(key: int | str) -> Metric | None:
            metric = entity.names.current(key, sent) if in_turn else None
            return metric or entity.names.find(key, message.at, sent, alone=alone)

        return read_by(message, find)

    def _last_word(self, message: Message) -> Step | None:
        """A message that waits no longer, with its names; None when no birth says them."""
        return self._named(message, alone=True)

    def _name(self, device: str, *, alone: bool) -> Iterator[Step]:
        """Read what is held of an entity and can be named now, in the order in which it came."""
        yield from self._held.release(
            lambda message: self._named(message, alone=alone) if message.device == device else None
        )

    def _name_all(self) -> Iterator[Step]:
        """The same of all; what a birth leaves without a name that came after it will not get one."""

        def named(message: Message) -> Step | None:
            entity = self.entities.get(message.device)
            births = entity.names.births if entity else []
            over = bool(births) and message.at < births[-1].born_at
            return self._named(message, alone=True) or (lost(message, entity) if over else None)

        yield from self._held.release(named)

    def _bounded(self, now: float) -> Iterator[Step]:
        while self.held > MOST_HELD:
            if not self.unnamed:
                yield from self._give_up(now)
            yield from self.give_up_oldest()
