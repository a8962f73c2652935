"""An edge node of whose messages others get a part, or of which not all are subscribed. Pure.

The numbers of its messages say nothing here, and each gateway has heard some of its births and deaths. What
these have heard is in PostgreSQL (`Node.know`); while something waits it is asked for twice a second. So

- what has aliases alone waits for the reorder timeout, in which whoever got a birth has stored it, and is
  named by the birth that was the last one when it was sent, by the edge node's own clock;
- a death waits as long: it may be of a session after which another gateway has heard the next birth, and it
  is the end of devices that others have heard of;
- a birth that is older than one that is known teaches nothing;
- what is told of presence is told again, since another gateway may have told the contrary: PostgreSQL knows
  what is news. That a device was not born again with its node is nothing that one of several can say.

A birth that is lost is noticed by nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gateway.sparkplug.messages import Read
from gateway.sparkplug.nodes.births import Birth, metrics_of
from gateway.sparkplug.nodes.entity import Entity
from gateway.sparkplug.nodes.held import itself, read_by
from gateway.sparkplug.nodes.node import HELD_S, MOST_HELD, Node

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.sparkplug.changes import Row
    from gateway.sparkplug.messages import Lost, Message, Step

READ_S: Final = 1.5  # in which what others have stored is read, whatever the reorder timeout is


class Shared(Node):
    """An edge node of which this gateway gets a part."""

    ordered = False

    def __init__(self, key: str, since: str, **others: Any) -> None:  # noqa: ANN401  # those of `Node`
        super().__init__(key, since, **others)
        self._deaths: list[Message] = []

    @property
    def held(self) -> int:
        """How many messages wait for births that others have heard."""
        return len(self.unnamed) + len(self._deaths)

    @property
    def waiting(self) -> list[Message]:
        """The deaths among them."""
        return list(self._deaths)

    @property
    def curious(self) -> bool:
        """Whether what other gateways have heard of it is asked for."""
        return self.held > 0

    def take(self, message: Message, now: float) -> list[Step]:
        """What the next message leads to; see `Node.take`."""
        if message.kind in {"NDEATH", "DDEATH"}:
            self.moves.append((message, True))
            self._deaths.append(message)
            return list(self._bounded())
        if message.kind in {"NBIRTH", "DBIRTH"}:
            return list(self._born(message, now))
        return list(self._data(message, now))

    def tick(self, now: float) -> list[Step]:
        """What the time that has passed leads to."""
        settled = now - max(self._reorder_s, READ_S)
        steps: list[Step] = []
        while self._deaths and self._deaths[0].heard <= settled:
            steps += self._end_oldest()
        for device in self._doubt.end(now):
            self.entities[device].names.believe()
            self.changed.add(device)

        def named(message: Message) -> Step | None:
            found = self._named(message) if message.heard <= settled else None
            if found is None and message.heard <= settled:
                self.asking.want(now, "a metric of it has no name")
            return found

        steps += self._held.release(named)
        while self.unnamed and self.unnamed[0].heard <= now - HELD_S:
            steps += self.give_up_oldest()
        self.asking.tick(now)
        return steps

    def broke(self, at: str, *, believed_at: float | None = None) -> None:
        """Something may have been missed, by all; see `Node.broke`."""
        broken = {device for device, entity in self.entities.items() if entity.names.broke(at)}
        self.changed |= broken
        self._doubt.begin(broken, believed_at)

    def know(self, row: Row) -> None:
        """Take over what is stored of it, or of a device: whoever has stored it last has heard most."""
        entity = self.entities.setdefault(row.device, Entity())
        entity.names.replace(row.names_in(self._tables))
        entity.online = row.online
        entity.ended_at = max(entity.ended_at, row.ended_at)
        if row.born is not None and (self.born is None or row.born > self.born):
            self.bd_seq, self.born = row.bd_seq, row.born

    def resume(self, message: Message) -> None:
        """Go on holding a message that was held when this gateway ended."""
        if message.kind in {"NDEATH", "DDEATH"}:
            self._deaths.append(message)
        else:
            super().resume(message)

    def give_up_all(self, now: float) -> list[Step]:  # noqa: ARG002  # of a node
        """There is no more room: nothing waits any longer."""
        steps: list[Step] = []
        while self._deaths:
            steps += self._end_oldest()
        while self.unnamed:
            steps += self.give_up_oldest()
        return steps

    def _born(self, message: Message, now: float) -> Iterator[Step]:
        device = message.device
        entity = self.entities.get(device) or Entity()
        yield Read(message, message.value)
        if entity.is_older(message) or self._is_of_before(message):
            self._counts["out_of_order"] += 1
            return
        self.entities[device] = entity
        if not device:
            self._counts["births"] += 1
            self.bd_seq, self.born = message.bd_seq, message.sent
            self.asking.born(now)
        birth = Birth(message.at, message.at, metrics_of(message.plain), message.sent, tables=self._tables)
        entity.names.heard(birth)
        yield from self._tell(device, message, online=True)

    def _end_oldest(self) -> list[Step]:
        message = self._deaths.pop(0)
        self.moves.append((message, False))
        return list(self._device_died(message) if message.device else self._died(message))

    def _died(self, message: Message) -> Iterator[Step]:
        is_another = self.bd_seq is not None and message.bd_seq != self.bd_seq
        if is_another and (self.born is None or message.sent is None or message.sent <= self.born):
            self._counts["late_wills"] += 1
            return
        self._counts["deaths"] += 1
        for device, entity in self.entities.items():
            entity.names.broke(message.at)
            entity.ended_at = message.at
            self.changed.add(device)
            if entity.online is not False or not device:
                yield from self._tell(device, message, online=False)
        self._doubt.begin((), None)
        self.asking.died()

    def _device_died(self, message: Message) -> Iterator[Step]:
        entity = self.entities.setdefault(message.device, Entity())
        if entity.is_older(message) or self._is_of_before(message):
            self._counts["late_wills"] += 1
            return
        entity.names.broke(message.at)
        entity.ended_at = message.at
        self._doubt.devices.discard(message.device)
        yield from self._tell(message.device, message, online=False)

    def _data(self, message: Message, now: float) -> Iterator[Step]:
        found = itself(message)
        if found is not None:
            yield found
            return
        self._hold_unnamed(message, now)
        yield from self._bounded()

    def _named(self, message: Message) -> Read | Lost | None:
        """A message with its names; None when no birth says them."""
        entity = self.entities.get(message.device)
        if entity is None:
            return itself(message)
        return read_by(message, lambda key: entity.names.by_clock(key, message.at, message.sent))

    def _last_word(self, message: Message) -> Step | None:
        """A message that waits no longer, with its names; None when no birth says them."""
        return self._named(message)

    def _bounded(self) -> Iterator[Step]:
        while self.held > MOST_HELD:
            yield from self.give_up_oldest() if self.unnamed else self._end_oldest()
