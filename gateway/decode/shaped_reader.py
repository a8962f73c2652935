"""The messages of one route that have several readings, or say what they are in their own way.

A message that cannot be cut into its readings is refused as a whole when one of them is: each has all of its
bytes, and what was stored of it could not be told from what was not.
"""

from __future__ import annotations

from sys import getsizeof
from typing import TYPE_CHECKING, Any, Final, cast

from gateway.decode.fields import Refused
from gateway.decode.known import Worked
from gateway.decode.limits import check_count, readings_allowed
from gateway.decode.mapping.each import says_something
from gateway.decode.pieces import Pieces
from gateway.decode.reader import READ, REFUSED, SLOW_TIME, NoReading, Reader, failed
from gateway.decode.reading import digest_of
from gateway.decode.refusals import OfLines, Refusals
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gateway.decode.assemble import Assembler
    from gateway.decode.drops import Drops
    from gateway.decode.formats import Format
    from gateway.decode.glance import Glance
    from gateway.decode.known import Room
    from gateway.decode.mapping import Part, Shaper
    from gateway.decode.mapping.learned import Known, Tagged
    from gateway.decode.mapping.shaped import Parts
    from gateway.decode.reading import Reading, Received, Rejection
    from gateway.decode.routes import CompiledRoute, Matched

_LINE: Final = 28  # microseconds
Left = list[tuple[str, str]]
"""Fields that are left out of a message, each with a reason."""


class ShapedReader(Reader):
    """Reads the messages of a route that says more of them than which names mean what.

    Args:
        compiled, form, assembler, drops, room: see `Reader`.
        shaper: finds the readings in messages.

    Attributes:
        shaper: the same.
    """

    def __init__(  # noqa: PLR0917  # of one place
        self,
        compiled: CompiledRoute,
        form: Format,
        shaper: Shaper,
        assembler: Assembler,
        drops: Drops,
        room: Room,
    ) -> None:
        super().__init__(compiled, form, shaper.unfit, assembler, drops, room)
        self.shaper = shaper
        self._tagged: Worked[Matched] = Worked(room)
        self._ready: tuple[Any, Parts | Exception, int] | None = None

    def read(  # noqa: D102  # see Reader
        self, payload: bytes, unpacked: bytes, matched: Matched, received: Received
    ) -> list[Reading | Rejection]:
        raw, look = self.form.raw, self.form.look
        if look is not None and (glance := look(unpacked)) is not None:
            return self._glanced(glance, payload, unpacked, matched, received)
        if raw is None:
            value = self.form.parse(unpacked)
            known = self.shaper.known(value, matched.metric)
        else:
            value = raw.read(unpacked)
            known = self.shaper.known(value, matched.metric) if raw.is_plain(value) else None
        if known is not None:
            return [self._whole(known, payload, matched, received)]
        if raw is not None:
            value = raw.resolve(value, unpacked)
        if self.form.lines and type(value) is list and self.shaper.each.path:
            return self._lines(value, unpacked, matched, received)
        return self._shaped(value, payload, unpacked, matched, received)

    def read_value(  # noqa: D102  # see Reader
        self,
        value: Any,  # noqa: ANN401  # a format's value is any value
        payload: bytes,
        matched: Matched,
        received: Received,
    ) -> list[Reading | Rejection]:
        if isinstance(value, tuple):  # a glance: no value of a format is one
            return self._glanced(cast("Glance", value), payload, payload, matched, received)
        known = self.shaper.known(value, matched.metric)
        if known is not None:
            return [self._whole(known, payload, matched, received)]
        return self._shaped(value, payload, payload, matched, received)

    def prepare(  # noqa: D102  # see Reader
        self,
        value: Any,  # noqa: ANN401  # likewise
        matched: Matched,
        size: int,
    ) -> Iterator[None]:
        outcome: Parts | Exception
        try:
            outcome = yield from self.shaper.in_steps(value, matched.metric, size)
        except Exception as error:  # noqa: BLE001  # it is said when the value is read
            outcome = error.with_traceback(None)
        self._ready = value, outcome, self._room.left

    def _parts(self, value: Any, matched: Matched, size: int) -> Parts:  # noqa: ANN401  # likewise
        """The parts of a message, which may be there already."""
        ready, self._ready = self._ready, None
        if ready is None or ready[0] is not value:
            return self.shaper.parts(value, matched.metric, size)
        _, outcome, self._room.left = ready
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _glanced(
        self, glance: Glance, payload: bytes, unpacked: bytes, matched: Matched, received: Received
    ) -> list[Reading | Rejection]:
        """The readings of a message that was only glanced at."""
        known = self.shaper.seen(glance, matched.metric)
        if known is not None:
            return [self._whole(known, payload, matched, received)]
        value = glance.value
        known = self.shaper.known(value, matched.metric)
        if known is not None:
            return [self._whole(known, payload, matched, received)]
        return self._shaped(value, payload, unpacked, matched, received)

    def _whole(self, known: Known, payload: bytes, matched: Matched, received: Received) -> Reading:
        """The reading of a message of a known shape.

        Raises:
            Reject: it is none.
        """
        mapped, tagged, alike, left_out = known
        about, unfit = matched, self.unfit
        try:
            if tagged is not None:
                about = tagged.of.get(matched.topic) or self._tag(matched, tagged)
            reading = self._assemble(mapped, about, received, payload, unfit)
        except Exception as error:  # noqa: BLE001  # likewise of a bug of ours
            left: Left = []
            reject = self._unread(error, [*(alike.fields if alike else ()), *left_out], left)
            self._drops.add(self._topic, left)
            raise reject from None
        if alike is not None:
            self._drops.again(self._topic, alike)
        if unfit.fields or (tagged and matched.tags):
            left_out = [*left_out, *unfit.fields, *_hidden(tagged.tags if tagged else {}, matched)]
            unfit.fields.clear()
        if left_out:
            self._drops.add(self._topic, left_out)
        return reading

    def _lines(
        self, values: list[Any], payload: bytes, matched: Matched, received: Received
    ) -> list[Reading | Rejection]:
        """The readings of lines that have several of them each."""
        raws = self.form.elements(payload)
        found: list[Reading | Rejection] = []
        empty, most = self.empty, self._room.patience * readings_allowed(len(payload))
        refusals = OfLines(matched, received, self.form, raws)
        for place, (value, raw) in enumerate(zip(values, raws, strict=True)):
            refusals.begin(place)
            self._room.spend(_LINE)
            try:
                if isinstance(value, Refused):
                    raise value.reject()  # noqa: TRY301  # caught here, with all others
                found += self._shaped(value, bytes(raw), bytes(raw), matched, received, refusals)
            except Exception as error:  # noqa: BLE001  # likewise
                reject = error if isinstance(error, Reject) else failed(error)
                if self.leaves_out(reject):
                    self.empty += 1
                elif letter := refusals.of_line(reject):
                    found.append(letter)
            if len(found) + refusals.count + self.empty - empty > most:
                self.empty = empty
                check_count(most + 1, most, "readings", fixed=False)
        if rest := refusals.last():
            found.append(rest)
        return found

    def _shaped(  # noqa: PLR0917  # of two places
        self,
        value: Any,  # noqa: ANN401  # a format's value is any value
        payload: bytes,
        unpacked: bytes,
        matched: Matched,
        received: Received,
        of_lines: OfLines | None = None,
    ) -> list[Reading | Rejection]:
        """The readings of a message that is no known one.

        Raises:
            Reject: it is refused as a whole.
        """
        try:
            parts, left = self._parts(value, matched, len(unpacked))
        except Reject as reject:
            if self.leaves_out(reject) and says_something(value, self._room):
                raise NoReading(reject.reason, reject.detail) from None
            raise
        if len(parts) == 1:
            try:
                found: list[Reading | Rejection] = [self._part(parts[0], payload, matched, received, left)]
            except Reject as reject:
                if self.leaves_out(reject):
                    self._drops.add(self._topic, left)
                raise
        else:
            pieces = Pieces(parts, value, (payload, unpacked), self.form, self.shaper, self._room)
            if pieces.raws is None:  # it cannot be cut: all of it or nothing
                found = self._uncut(parts, payload, matched, received, left)
            else:
                found = self._pieces(parts, pieces, matched, received, left, of_lines)
        if left:
            self._drops.add(self._topic, left)
        return found

    def _uncut(
        self, parts: list[Part], payload: bytes, matched: Matched, received: Received, left: Left
    ) -> list[Reading | Rejection]:
        """The readings of a message that cannot be cut, each with all of its bytes.

        Raises:
            Reject: one of them is none, or two could not be told apart.
        """
        found: list[Reading | Rejection] = []
        empty, digest = 0, digest_of(payload)
        seen: dict[str, tuple[int, Reading]] = {}
        for number, part in enumerate(parts):
            try:
                reading = self._part(part, payload, matched, received, left, digest)
            except Reject as reject:
                if not self.leaves_out(reject):
                    raise
                empty += 1
                continue
            first, other = seen.setdefault(reading.identity, (number, reading))
            if other is not reading and _content(other) != _content(reading):
                raise _taken_for_one(reading, first, number)
            found.append(reading)
        self.empty += empty
        return found

    def _pieces(  # noqa: PLR0917  # of one place
        self,
        parts: list[Part],
        pieces: Pieces,
        matched: Matched,
        received: Received,
        left: Left,
        of_lines: OfLines | None,
    ) -> list[Reading | Rejection]:
        """The readings of a message that can be cut, and letters of those that are none."""
        found: list[Reading | Rejection] = []
        refusals = of_lines or Refusals(matched, received, pieces.join)
        for at, (part, raw) in enumerate(zip(parts, pieces.raws or (), strict=True)):
            try:
                found.append(self._part(part, raw, matched, received, left))
            except Reject as reject:
                self._room.spend(REFUSED)
                if self.leaves_out(reject):
                    self.empty += 1
                    continue
                if of_lines is None:
                    letter = refusals.letter(at, reject, raw, part.number)
                else:
                    letter = of_lines.of_piece(pieces, at, reject, part.number)
                if letter:
                    found.append(letter)
        if of_lines is None and (rest := refusals.last()):
            found.append(rest)
        return found

    def _part(  # noqa: PLR0917  # of each reading of each message
        self, part: Part, raw: bytes, matched: Matched, received: Received, left: Left, digest: str = ""
    ) -> Reading:
        """The reading that a part is; what is left out of it is added.

        Args:
            part: it.
            raw: its bytes.
            matched: what its topic says.
            received: gives it its time of arrival.
            left: takes what is left out.
            digest: of the bytes, where other parts have the same.

        Raises:
            Reject: it is none.
        """
        mapped, tags, unfit, slow = part.mapped, part.tags, self.unfit, self._times.slow
        self._room.spend(READ)
        if mapped is None:
            raise part.reject or Reject("undecodable", "nothing was made of it")
        try:
            about = matched
            if tags:
                parts = (matched.topic, *tags, *tags.values())
                about = self._tagged.get(parts) or self._tag_part(matched, tags, parts)
            number = str(part.number) if digest else ""
            reading = self._assemble(
                mapped, about, received, raw, unfit, number=number, digest=digest, online=part.online
            )
        except Exception as error:  # noqa: BLE001  # likewise
            raise self._unread(error, part.left_out, left) from None
        if self._times.slow != slow:
            self._room.spend(SLOW_TIME)
        left += part.left_out
        if unfit.fields or (tags and matched.tags):
            left += unfit.fields
            left += _hidden(tags, matched)
            unfit.fields.clear()
        return reading

    def _unread(self, error: Exception, left_out: Sequence[tuple[str, str]], left: Left) -> Reject:
        """What a reading is refused with; one that is left out says what is left out of it."""
        reject = error if isinstance(error, Reject) else failed(error)
        if self.leaves_out(reject):
            left += left_out
            left += self.unfit.fields
        self.unfit.fields.clear()
        return reject

    def _tag_part(self, matched: Matched, tags: dict[str, str], parts: tuple[str, ...]) -> Matched:
        """What a topic says, with tags of a payload; remembered, as a device sends the same each time."""
        about = matched.with_tags(tags)
        return self._tagged.keep(parts, about, about.size_bytes + 3 * sum(map(getsizeof, parts)))

    def _tag(self, matched: Matched, tagged: Tagged) -> Matched:
        """The same with tags that are known already."""
        about = matched.with_tags(tagged.tags)
        if self._room.take(about.size_bytes + 3 * getsizeof(matched.topic)):
            tagged.of[matched.topic] = about
        return about


def _hidden(tags: dict[str, str], matched: Matched) -> Left:
    """Tags of a payload that its topic says otherwise."""
    of_topic = matched.tags or {}
    return [(name, "left_out") for name, tag in tags.items() if of_topic.get(name, tag) != tag]


def _content(reading: Reading) -> tuple[Any, ...]:
    """All that a message says of a reading beside its identity."""
    event = reading.event
    stated = None if event.ts == event.received_at else event.ts
    return stated, event.region, bytes(event.metrics), event.tags


def _taken_for_one(reading: Reading, first: int, second: int) -> Reject:
    event = reading.event
    return Reject(
        "duplicate_key",
        f"elements {first} and {second} are both {event.key[:40]!r} of device {event.device_id!r} and say "
        f"different things; a message that each of its route cannot cut has one content, so the second would "
        f'pass for a repeat: name another key on its route, or key = ""',
    )
