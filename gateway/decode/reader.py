"""The messages of one route, from what its format makes of them to readings: those that are plain objects.

One payload can be a great many readings. What is refused of it is kept element by element at first; what
follows becomes one letter that holds the rest (`refusals`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gateway.decode.fields import Refused
from gateway.decode.limits import MAX_LETTERS, check_count, lines_allowed, readings_allowed, too_much_work
from gateway.decode.refusals import MANY, Refusals, rejection
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.decode.assemble import Assembler
    from gateway.decode.drops import Drops
    from gateway.decode.fields import Unfit
    from gateway.decode.formats import Format
    from gateway.decode.known import Room
    from gateway.decode.mapping import Mapper
    from gateway.decode.reading import Reading, Received, Rejection
    from gateway.decode.routes import CompiledRoute, Matched

READ: Final = 3  # microseconds, as all of these: of a reading that is assembled
REFUSED: Final = 8
SLOW_TIME: Final = 12  # of one that is not written as most are


class Reader:
    """What the readers of plain messages and of others have in common.

    Args:
        compiled: the route.
        form: its format.
        unfit: takes fields that cannot be stored.
        assembler: makes readings.
        drops: counts fields that are left out.
        room: bounds what one payload costs.

    Attributes:
        form, unfit: the same.
        empty: how many messages and readings were left out because there is nothing in them.
    """

    def __init__(  # noqa: PLR0917  # of two places
        self,
        compiled: CompiledRoute,
        form: Format,
        unfit: Unfit,
        assembler: Assembler,
        drops: Drops,
        room: Room,
    ) -> None:
        self.form, self.unfit = form, unfit
        self.empty = 0
        route = compiled.route
        self._topic, self._ignores_empty = route.topic, route.empty == "ignore"
        self._times, self._room = compiled.plan.reader, room
        self._assemble = assembler.assemble
        self._drops = drops

    def read(
        self, payload: bytes, unpacked: bytes, matched: Matched, received: Received
    ) -> list[Reading | Rejection]:
        """The readings of a payload, and the letters of what is none.

        Args:
            payload: as it came.
            unpacked: uncompressed.
            matched: what its topic says.
            received: gives readings their times of arrival.

        Raises:
            Reject: it is refused as a whole.
        """
        raise NotImplementedError

    def read_value(
        self,
        value: Any,  # noqa: ANN401  # a format's value is any value
        payload: bytes,
        matched: Matched,
        received: Received,
    ) -> list[Reading | Rejection]:
        """The same of one message whose value is known; its bytes are those of the payload."""
        raise NotImplementedError

    def prepare(
        self,
        value: Any,  # noqa: ANN401, ARG002  # a format's value is any value; most readers have no steps
        matched: Matched,  # noqa: ARG002  # likewise
        size: int,  # noqa: ARG002  # likewise
    ) -> Iterator[None]:
        """Do in steps what `read_value` of this very value will take of a payload of so many bytes."""
        return iter(())

    def leaves_out(self, reject: Reject) -> bool:
        """Whether a message or reading is left out, as there is nothing in it, and not refused."""
        return self._ignores_empty and reject.reason == "empty_message" and not isinstance(reject, NoReading)

    def forget(self) -> None:
        """Leave nothing of a message that failed to the next one."""
        self.unfit.fields.clear()


class PlainReader(Reader):
    """Reads the messages of a route that says no more of them than which names mean what.

    Args:
        compiled, form, assembler, drops, room: see `Reader`.
        mapper: reads objects.
    """

    def __init__(  # noqa: PLR0917  # of one place
        self,
        compiled: CompiledRoute,
        form: Format,
        mapper: Mapper,
        assembler: Assembler,
        drops: Drops,
        room: Room,
    ) -> None:
        super().__init__(compiled, form, mapper.unfit, assembler, drops, room)
        self._map = mapper.read

    def read(  # noqa: D102  # see Reader
        self, payload: bytes, unpacked: bytes, matched: Matched, received: Received
    ) -> list[Reading | Rejection]:
        value = self.form.parse(unpacked)
        if type(value) is list:
            return self._elements(value, unpacked, matched, received)
        return [self._reading(value, payload, matched, received)]

    def read_value(  # noqa: D102  # see Reader
        self,
        value: Any,  # noqa: ANN401  # a format's value is any value
        payload: bytes,
        matched: Matched,
        received: Received,
    ) -> list[Reading | Rejection]:
        return [self._reading(value, payload, matched, received)]

    def _reading(self, item: Any, raw: bytes, matched: Matched, received: Received) -> Reading:  # noqa: ANN401  # likewise
        """The reading that a value is.

        Raises:
            Reject: it is none.
        """
        unfit = self.unfit
        try:
            reading = self._assemble(self._map(item, matched.metric), matched, received, raw, unfit)
        except Reject as reject:
            if self.leaves_out(reject):
                self._drops.add(self._topic, unfit.fields)
            unfit.fields.clear()
            raise
        except Exception as error:  # a bug of ours, and of one element only
            unfit.fields.clear()
            raise failed(error) from error
        if unfit.fields:
            self._drops.add(self._topic, unfit.fields)
            unfit.fields.clear()
        return reading

    def _elements(
        self, values: list[Any], payload: bytes, matched: Matched, received: Received
    ) -> list[Reading | Rejection]:
        if not values:
            raise Reject("empty_message", "the array has no readings")
        readings = len(values) if matched.metric else list(map(type, values)).count(dict)
        if not readings and len(values) > MAX_LETTERS:
            detail = f"none of {len(values)} elements is an object"
            if isinstance(values[0], Refused):
                detail = f"{detail}; the first, {values[0].detail}"
            return [rejection(matched, received, payload, MANY, detail)]
        most = readings_allowed(len(payload), plain=True) if self.form.quick else lines_allowed(len(payload))
        check_count(len(values), self._room.patience * most, "readings", fixed=False)
        raws = self.form.elements(payload)
        found: list[Reading | Rejection] = []
        refusals = Refusals(matched, received, lambda places: self.form.join([raws[at] for at in places]))
        room, times = self._room, self._times
        for place, (value, raw) in enumerate(zip(values, raws, strict=True)):
            slow = times.slow
            try:
                found.append(self._reading(value, bytes(raw), matched, received))
            except Reject as reject:
                if self.leaves_out(reject):
                    self.empty += 1
                elif letter := refusals.letter(place, reject, raw):
                    found.append(letter)
                room.spend(REFUSED)
            room.left -= READ if times.slow == slow else READ + SLOW_TIME
            if room.left < 0:
                raise too_much_work()
        if rest := refusals.last():
            found.append(rest)
        return found


class NoReading(Reject):
    """There is no reading in a message that says something: it is refused whatever its route says."""


def failed(error: Exception) -> Reject:
    """What a message is refused with by which our code fails."""
    return Reject("undecodable", f"the decoder failed: {error!r}")
