"""One edge node and its devices: what of them is known, and what each message of theirs leads to. Pure.

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

Presence goes by our clock (§5.5): a will was written when the connection began. A device of a node that was
born again is offline when it is not, and has had the time.

Where not all of a node's messages come this way, by a shared subscription or because not all are subscribed,
`ordered` is false: the sequence says nothing then. What has only aliases waits for the reorder timeout, in
which whoever got a birth has stored it, and is named by the birth that was the last one when it was sent, by
the node's own clock.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gateway.sparkplug.asking import Asking
from gateway.sparkplug.births import Birth, Names, metrics_of
from gateway.sparkplug.doubt import Doubt, ends_after
from gateway.sparkplug.letters import lost
from gateway.sparkplug.messages import Lost, Read, Told
from gateway.sparkplug.naming import Unnamed, complete
from gateway.sparkplug.sequence import Sequence, Turn
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gateway.sparkplug.births import Metric
    from gateway.sparkplug.messages import Message, Step

HELD_S: Final = 30.0  # until what no birth names is a letter
REBORN_S: Final = 30.0  # until a device is offline that was not born again with its node
MOST_HELD: Final = 1000  # messages of one edge node


@dataclass(slots=True)
class Entity:
    """An edge node, or a device of it.

    Attributes:
        online: None when that was never said.
        ended_at: when its last session ended.
        size: how many names it has, as far as they are counted.
    """

    names: Names = field(default_factory=Names)
    online: bool | None = None
    ended_at: str = ""
    size: int = 0

    def is_older(self, message: Message) -> bool:
        """Whether a message was sent before the last birth."""
        last = self.names.births[-1].sent if self.names.births else None
        return last is not None and message.sent is not None and message.sent < last


class Node:
    """An edge node with its devices.

    Args:
        key: its name among all.
        since: from when on this gateway has listened.
        reorder_s: how long a message waits for those before it.
        ordered: whether all of its messages come this way.
        counts: what happens, by name.

    Attributes:
        entities: by device; empty for itself.
        bd_seq: of the session that is known.
        born: when its birth was sent, by its own clock.
        changed: the entities of which something is to be stored.
        asking: for a rebirth.
        moves: messages that are held from now on, or no more.
        unnamed: those that are held for want of a birth.
    """

    def __init__(
        self,
        key: str,
        since: str,
        *,
        reorder_s: float,
        ordered: bool = True,
        counts: Counter[str] | None = None,
    ) -> None:
        self.key = key
        self.ordered = ordered
        self.entities: dict[str, Entity] = {"": Entity()}
        self.bd_seq: int | None = None
        self.born: int | None = None
        self.changed: set[str] = set()
        self.asking = Asking()
        self.moves: list[tuple[Message, bool]] = []
        self.unnamed: deque[Message] = deque()
        self._counts = Counter() if counts is None else counts
        self._since = since
        self._reorder_s = reorder_s
        self._sequence = Sequence()
        self._next: int | None = None  # by what was heard, while the sequence does not know
        self._doubt = Doubt()
        self._dead: tuple[int | None, float] | None = None  # number of the session that ended, and when
        self._due: dict[str, float] = {}  # devices that are offline then, unless they are born again
        self._alone_at: float | None = None  # when the births may speak for themselves

    @property
    def online(self) -> bool:
        """Whether it is, as far as is known."""
        return self.entities[""].online is True

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
        waits = self._doubt.ends_at is not None or self.asking.waits
        return bool(waits or self.unnamed or self._sequence or self._due)

    def take(self, message: Message, now: float) -> list[Step]:  # noqa: PLR0911  # one for each kind
        """What the next message leads to, in order, at a time in seconds of the monotonic clock."""
        if message.kind == "NDEATH":
            return list(self._died(message, now))
        if message.kind == "NBIRTH":
            if self._is_overtaken(message, now):
                self._counts["out_of_order"] += 1
                return [Read(message, message.value)]
            return list(self._reborn(message, now))
        if not self.ordered:
            return list(self._apply(message, now, certain=True))
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
        if not self.ordered:
            steps += self._name_settled(now)
        while self.unnamed and self.unnamed[0].heard <= now - HELD_S:
            steps += self.give_up_oldest()
        for device in [device for device, due in self._due.items() if due <= now]:
            steps += self._tell(device, None, online=False)
        self.asking.tick(now)
        return steps

    def broke(self, at: str, *, believed_at: float | None = None) -> None:
        """Something may have been missed: our connection was lost, or this is the start.

        Args:
            at: from when on.
            believed_at: when births are believed again if no will has come that came meanwhile; None when
                the broker does not keep them for us.
        """
        self._break(at, believed_at)
        self._since = at

    def fail(self, at: str) -> None:
        """A message was not taken whole: what is stored of others stays stored, and nothing is certain."""
        self.moves = [(message, held) for message, held in self.moves if held]
        self.broke(at)

    def rouse(self, now: float) -> None:
        """Ask for a rebirth because something may have been missed."""
        if self.online:
            self.asking.want(now, "something may have been missed")

    def resume(self, message: Message) -> None:
        """Go on holding a message that was held when this gateway ended."""
        message.certain = False
        self.unnamed.append(message)

    def give_up_oldest(self) -> list[Step]:
        """The message that has waited longest for a birth is named by what there is, or is a letter."""
        if not self.unnamed:
            return []
        message = self.unnamed.popleft()
        self.moves.append((message, False))
        return [self._named(message, alone=True) or lost(message, self.entities.get(message.device))]

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
        self.moves += [(each, False) for each in waiting]
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
        yield from self._sift(lambda message: self._named(message, alone=False))

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
        self._alone_at = now + self._reorder_s if self.ordered else None
        if late:
            self.asking.want(now, "it died just before its birth came", after_s=self._reorder_s)
        else:
            self._dead = None
            self.asking.born(now)
            if self.ordered:
                self._sequence.passed(message)
        yield Read(message, message.value)
        yield from self._tell("", message, online=not late)
        yield from self._name("", alone=False)
        for each in waiting:
            if self.entities[""].is_older(each):
                yield from self._apply(each, now, certain=False)
            else:
                yield from self.take(each, now)  # it overtook the birth of its session

    def _died(self, message: Message, now: float) -> Iterator[Step]:
        number = message.bd_seq
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
        for device, entity in self.entities.items():
            if entity.online or not device:
                yield from self._tell(device, message, online=False)
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
            entity = self.entities.get(message.device) or Entity()
            if entity.is_older(message) or self._is_of_before(message):
                self._counts["late_wills"] += 1
                return
            self.entities[message.device] = entity
            entity.names.broke(message.at)
            self._doubt.devices.discard(message.device)
            entity.ended_at = message.at
            yield from self._tell(message.device, message, online=False)
        else:
            yield from self._data(message, now)

    def _device_born(self, message: Message, now: float) -> Iterator[Step]:
        device = message.device
        entity = self.entities.get(device) or Entity()
        yield Read(message, message.value)
        if not message.certain and (entity.is_older(message) or self._is_of_before(message)):
            return
        self.entities[device] = entity
        self._learn(device, message, until=None if message.certain else message.at)
        if self.online:
            yield from self._tell(device, message, online=True)
        else:
            self.asking.want(now, "a device of it was born, and it was not")
        if not message.certain and self._alone_at is None:
            self._alone_at = now + self._reorder_s
        yield from self._name(device, alone=self._alone_at is None)

    def _data(self, message: Message, now: float) -> Iterator[Step]:
        alone = self._alone_at is None
        found = (
            self._named(message, alone=alone, in_turn=message.certain) if self.ordered else _itself(message)
        )
        if found is not None:
            yield found
            return
        entity = self.entities.get(message.device)
        self._counts["unknown_aliases" if entity and entity.names.births else "not_born"] += 1
        self.moves.append((message, True))
        message.heard = now  # however long it has waited for others
        self.unnamed.append(message)
        if self.ordered:
            self.asking.want(now, "a metric of it has no name")
        yield from self._bounded(now)

    def _is_overtaken(self, message: Message, now: float) -> bool:
        """Whether a birth of the edge node is of an older session than the one that has just come."""
        just = self._alone_at is not None and now < self._alone_at
        return just and message.bd_seq != self.bd_seq and self._is_of_before(message)

    def _is_of_before(self, message: Message) -> bool:
        """Whether a message was sent before the edge node's birth in force, by its own clock."""
        return self.born is not None and message.sent is not None and message.sent < self.born

    def _learn(self, device: str, message: Message, *, until: str | None) -> None:
        entity = self.entities[device]
        since = max(self._since, entity.ended_at)
        entity.names.broke(min(message.at, self._sequence.first_at))  # some of those may be of this birth
        entity.names.born(Birth(message.at, since, metrics_of(message.value), message.sent, until))
        if until is not None and self._doubt.ends_at is not None:
            self._doubt.devices.add(device)
        self.changed.add(device)

    def _tell(self, device: str, message: Message | None, *, online: bool) -> Iterator[Step]:
        entity = self.entities[device]
        self._due.pop(device, None)
        if entity.online is online:
            return
        entity.online = online
        self.changed.add(device)
        yield Told(device, online, f"{self.bd_seq}:{self.born}", message)

    def _named(self, message: Message, *, alone: bool, in_turn: bool = False) -> Read | Lost | None:
        """A message with its names; None when no birth says them.

        Args:
            message: it.
            alone: whether a birth may name by itself what came before it.
            in_turn: whether it is the message's turn, so that the last birth is the one before it.
        """
        entity = self.entities.get(message.device)
        if entity is None:
            return _itself(message)
        sent = message.sent
        if sent is None and not message.certain:
            sent = 0  # before every birth, for all that is known

        def find(key: int | str) -> Metric | None:
            metric = entity.names.current(key, sent) if in_turn else None
            return metric or entity.names.find(key, message.at, sent, alone=alone)

        return _read(message, find)

    def _name(self, device: str, *, alone: bool) -> Iterator[Step]:
        """Read what is held of an entity and can be named now, in the order in which it came."""
        yield from self._sift(
            lambda message: self._named(message, alone=alone) if message.device == device else None
        )

    def _name_all(self) -> Iterator[Step]:
        """The same of all; what a birth leaves without a name that came after it will not get one."""

        def named(message: Message) -> Step | None:
            entity = self.entities.get(message.device)
            births = entity.names.births if entity else []
            over = self.ordered and bool(births) and message.at < births[-1].born_at
            return self._named(message, alone=True) or (lost(message, entity) if over else None)

        yield from self._sift(named)

    def _name_settled(self, now: float) -> Iterator[Step]:
        """The same of what has waited for births that others got."""

        def named(message: Message) -> Step | None:
            if message.heard > now - self._reorder_s:
                return None
            found = self._named(message, alone=True)
            if found is None:
                self.asking.want(now, "a metric of it has no name")
            return found

        yield from self._sift(named)

    def _sift(self, named: Callable[[Message], Step | None]) -> Iterator[Step]:
        waiting, self.unnamed = self.unnamed, deque()
        for message in waiting:
            step = named(message)
            if step is None:
                self.unnamed.append(message)
            else:
                self.moves.append((message, False))
                yield step

    def _bounded(self, now: float) -> Iterator[Step]:
        while self.held > MOST_HELD:
            if not self.unnamed:
                yield from self._give_up(now)
            yield from self.give_up_oldest()


def _read(message: Message, find: Callable[[int | str], Metric | None]) -> Read | Lost | None:
    try:
        return Read(message, complete(message.value, find))
    except Unnamed:
        return None
    except Reject as reject:
        return Lost(message, reject.reason, reject.detail)


def _itself(message: Message) -> Read | Lost | None:
    """A message that says all of itself; None of any other."""
    return _read(message, lambda _: None)
