"""The steps of decoding, one after the other: route, format, mapping, assembly.

One payload can be a great many readings. What is refused of it is kept element by element at first; what
follows becomes one letter that holds the rest (`refusals`). A message that cannot be cut into its readings is
refused as a whole when one of them is.
"""

from __future__ import annotations

from sys import getsizeof
from typing import TYPE_CHECKING, Any, Final

from gateway.decode.assemble import Assembler
from gateway.decode.drops import Drops
from gateway.decode.fields import Refused
from gateway.decode.formats import format_of
from gateway.decode.known import Memo, Worked
from gateway.decode.limits import MAX_LETTERS, check_count, readings_allowed
from gateway.decode.mapping import Mapper, Shaper, needs_shaping
from gateway.decode.mapping.each import says_something
from gateway.decode.mapping.presence import METRIC as PRESENCE
from gateway.decode.pieces import Pieces
from gateway.decode.reading import Reading, Received, Rejection, digest_of
from gateway.decode.refusals import MANY, Refusals, rejection
from gateway.decode.routes import CompiledRoute, Matched, Router
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.decode.limits import Limits
    from gateway.decode.mapping import Part
    from gateway.decode.mapping.learned import Known
    from gateway.decode.mapping.plain import Mapped
    from runtime.mqtt.port import Delivery

_TOPICS_BYTES: Final = 128_000_000  # over 100,000 topics in the half that is found at once
_TAGS_BYTES: Final = 16_000_000


class Decoder:
    """Decodes deliveries by the configured routes.

    Remembers topics that it has matched, up to a bound, so that each is matched once.

    Attributes:
        ignored: messages that a route leaves out.
        empty: messages without a payload, by which a retained one is cleared (MQTT5 §3.3.1.3).
        drops: fields that were left out.

    Raises:
        ConfigurationError: what a route says of its messages means nothing.
    """

    def __init__(self, routes: Sequence[CompiledRoute], limits: Limits) -> None:
        self.ignored = 0
        self.empty = 0
        self.drops = Drops()
        self._router = Router(routes)
        self._max_payload_bytes = limits.max_payload_bytes
        self._assemble = Assembler(limits).assemble
        self._topics: Memo[Matched] = Memo(_TOPICS_BYTES, lambda matched: matched.size_bytes)
        self._tagged: Worked[Matched] = Worked(_TAGS_BYTES)
        self._formats = [format_of(each.route, each.route.where(i)) for i, each in enumerate(routes)]
        self._mappers = [Mapper(each.plan, limits) for each in routes]
        self._shapers = [
            Shaper(each.route, each.plan, limits, each.route.where(i), form.raw and form.raw.resolve)
            if needs_shaping(each.route)
            else None
            for i, (each, form) in enumerate(zip(routes, self._formats, strict=True))
        ]

    def decode(  # noqa: C901, PLR0911  # one for each kind of message, without calls: all come by
        self, delivery: Delivery, received: Received
    ) -> list[Reading | Rejection]:
        """Decode a delivery to readings and rejections, one for each reading that it was to be.

        There is none only of what is ignored, or empty.
        """
        payload, matched = delivery.payload, None
        try:
            matched = self._topics.get(delivery.topic) or self._match(delivery.topic)
            if matched.ignore or not payload:
                self.ignored += matched.ignore
                self.empty += not matched.ignore
                return []
            if len(payload) > self._max_payload_bytes:
                raise self._too_large(payload)  # noqa: TRY301  # caught here, with all others
            form = self._formats[matched.number]
            unpacked = payload
            if payload[0] in form.unpacking.first:
                unpacked = form.unpacking.unpack(payload, self._max_payload_bytes)
            shaper, raw = self._shapers[matched.number], form.raw
            value = form.parse(unpacked) if raw is None else raw.read(unpacked)
            if shaper is not None and (raw is None or raw.is_plain(value)):
                known = shaper.known(value, matched.metric)
                if known is not None:
                    return [self._whole(known, matched, received, payload)]
            if raw is not None:
                value = raw.resolve(value, unpacked)
            if shaper is not None:
                if form.lines and type(value) is list and shaper.each.path:
                    return self._lines(value, matched, received, unpacked)
                return self._shaped(value, matched, received, payload, unpacked)
            if type(value) is list:
                return self._elements(value, matched, received, unpacked)
            return [self._reading(value, matched, received, payload)]
        except Reject as reject:
            return self._refused(reject, delivery, matched, received)
        except Exception as error:  # noqa: BLE001  # a bug of ours must not stop a gateway, and again after each restart
            self._forget(matched)
            return self._refused(_failed(error), delivery, matched, received)

    def route_of(self, topic: str) -> str:
        """The template of the route that a topic is for; empty when there is none."""
        try:
            return self._match(topic).route.topic
        except Reject:
            return ""

    def value_of(self, delivery: Delivery) -> Any:  # noqa: ANN401  # a format's value is any value
        """What the format of its route makes of a delivery, for who completes it before it is read.

        Raises:
            Reject: it cannot be read.
        """
        payload = delivery.payload
        if len(payload) > self._max_payload_bytes:
            raise self._too_large(payload)
        form = self._formats[self._match(delivery.topic).number]
        if payload[:1] and payload[0] in form.unpacking.first:
            payload = form.unpacking.unpack(payload, self._max_payload_bytes)
        return form.parse(payload)

    def read(self, delivery: Delivery, value: Any, received: Received) -> list[Reading | Rejection]:  # noqa: ANN401  # likewise
        """The readings of such a value, which is one message; its bytes are those of the delivery."""
        matched = self._match(delivery.topic)
        try:
            shaper = self._shapers[matched.number]
            if shaper is None:
                return [self._reading(value, matched, received, delivery.payload)]
            if (known := shaper.known(value, matched.metric)) is not None:
                return [self._whole(known, matched, received, delivery.payload)]
            return self._shaped(value, matched, received, delivery.payload, delivery.payload)
        except Reject as reject:
            return self._refused(reject, delivery, matched, received)
        except Exception as error:  # noqa: BLE001  # likewise
            self._forget(matched)
            return self._refused(_failed(error), delivery, matched, received)

    def tell(self, delivery: Delivery, key: str, received: Received, *, online: bool) -> Reading | None:
        """A reading that says nothing but whether its device is online, at its arrival.

        Args:
            delivery: whose topic names the device.
            key: by which it is known when it comes again.
            received: gives it its time.
            online: whether it is.

        Returns:
            None where the topic has no route, or is left out.
        """
        try:
            matched = self._match(delivery.topic)
            if matched.ignore:
                return None
            mapped = (None, key, None, None, {PRESENCE: online}, False)
            unfit = self._mappers[matched.number].unfit
            return self._assemble(mapped, matched, received, delivery.payload, unfit, online=online)
        except Reject:
            return None

    def matched(self, topic: str) -> Matched | None:
        """The route of a topic and what the topic says; None when no message of it could be stored."""
        try:
            matched = self._match(topic)
        except Reject:
            return None
        return None if matched.ignore else matched

    def _refused(
        self, reject: Reject, delivery: Delivery, matched: Matched | None, received: Received
    ) -> list[Reading | Rejection]:
        if matched and _says_nothing(reject, matched):
            self.empty += 1
            return []
        device_id = matched.device_id if matched else None
        topic, payload = delivery.topic, delivery.payload
        return [Rejection(received.next(), topic, device_id, reject.reason, reject.detail, payload)]

    def _forget(self, matched: Matched | None) -> None:
        """Leave nothing of a message that failed to the next one of its route."""
        if matched is not None and not matched.ignore:
            self._mappers[matched.number].unfit.fields.clear()
            if (shaper := self._shapers[matched.number]) is not None:
                shaper.unfit.fields.clear()

    def _match(self, topic: str) -> Matched:
        matched = self._topics.get(topic) or self._topics.recall(topic)
        if matched is None:
            matched = self._router.match(topic)
            self._topics.keep(topic, matched)
        return matched

    def _too_large(self, payload: bytes) -> Reject:
        allowed = f"gateway.max_payload_bytes allows {self._max_payload_bytes}"
        return Reject("payload_too_large", f"{len(payload)} bytes, {allowed}")

    def _reading(self, item: Any, matched: Matched, received: Received, raw: bytes) -> Reading:  # noqa: ANN401  # a format's value is any value
        """A reading of a value.

        Raises:
            Reject: it is none.
        """
        mapper = self._mappers[matched.number]
        unfit = mapper.unfit
        try:
            mapped = mapper.read(item, matched.metric)
            reading = self._assemble(mapped, matched, received, raw, unfit)
        except Reject as reject:
            if _says_nothing(reject, matched):
                self.drops.add(matched.route.topic, unfit.fields)
            unfit.fields.clear()
            raise
        except Exception as error:  # likewise a bug of ours, and of one element only
            unfit.fields.clear()
            raise _failed(error) from error
        if unfit.fields:
            self.drops.add(matched.route.topic, unfit.fields)
            unfit.fields.clear()
        return reading

    def _elements(
        self, values: list[Any], matched: Matched, received: Received, payload: bytes
    ) -> list[Reading | Rejection]:
        form = self._formats[matched.number]
        if not values:
            raise Reject("empty_message", "the array has no readings")
        readings = len(values) if matched.metric else list(map(type, values)).count(dict)
        check_count(readings, readings_allowed(len(payload), plain=True), "readings")
        if not readings and len(values) > MAX_LETTERS:
            detail = f"none of {len(values)} elements is an object"
            if isinstance(values[0], Refused):
                detail = f"{detail}; the first, {values[0].detail}"
            return [rejection(matched, received, payload, MANY, detail)]
        raws = form.elements(payload)
        found: list[Reading | Rejection] = []
        refusals = Refusals(matched, received, lambda places: form.join([raws[at] for at in places]))
        for place, (value, raw) in enumerate(zip(values, raws, strict=True)):
            if type(value) is not dict and not matched.metric and refusals.count > MAX_LETTERS:
                refusals.add(place, value.reason if type(value) is Refused else "wrong_root")
                continue
            try:
                found.append(self._reading(value, matched, received, bytes(raw)))
            except Reject as reject:
                if _says_nothing(reject, matched):
                    self.empty += 1
                elif letter := refusals.letter(place, reject, raw):
                    found.append(letter)
        if rest := refusals.last():
            found.append(rest)
        return found

    def _lines(
        self, values: list[Any], matched: Matched, received: Received, payload: bytes
    ) -> list[Reading | Rejection]:
        """The readings of lines that have several of them each."""
        form = self._formats[matched.number]
        raws = form.elements(payload)
        found: list[Reading | Rejection] = []
        empty, most = self.empty, readings_allowed(len(payload))
        cut: dict[int, Pieces] = {}

        def join(places: Sequence[tuple[int, int | None]]) -> bytes:
            of: dict[int, list[int]] = {}
            for line, at in places:
                of.setdefault(line, []).extend(() if at is None else (at,))
            return form.join([cut[line].join(its) if its else raws[line] for line, its in of.items()])

        refusals = Refusals(matched, received, join)
        for place, (value, raw) in enumerate(zip(values, raws, strict=True)):
            try:
                if isinstance(value, Refused):
                    raise value.reject()  # noqa: TRY301  # likewise
                found += self._shaped(
                    value, matched, received, bytes(raw), bytes(raw), of_lines=(refusals, place, cut)
                )
            except Exception as error:  # noqa: BLE001  # likewise
                reject = error if isinstance(error, Reject) else _failed(error)
                if _says_nothing(reject, matched):
                    self.empty += 1
                elif letter := refusals.letter((place, None), reject, raw, place):
                    found.append(letter)
            if len(found) + refusals.count + self.empty - empty > most:
                self.empty = empty
                check_count(most + 1, most, "readings")
        if rest := refusals.last():
            found.append(rest)
        return found

    def _shaped(
        self,
        value: Any,  # noqa: ANN401  # a format's value is any value
        matched: Matched,
        received: Received,
        payload: bytes,
        unpacked: bytes,
        *,
        of_lines: tuple[Refusals, int, dict[int, Pieces]] | None = None,
    ) -> list[Reading | Rejection]:
        """The readings of a message that has several of them, or says what they are in its own way."""
        shaper = self._shapers[matched.number]
        assert shaper is not None
        try:
            parts, drops = shaper.parts(value, matched.metric, len(unpacked))
        except Reject as reject:
            if _says_nothing(reject, matched) and says_something(value):
                raise _NoReading(reject.reason, reject.detail) from None
            raise
        if len(parts) == 1:
            try:
                reading = self._part(parts[0], matched, received, payload, drops)
            except Reject as reject:
                if _says_nothing(reject, matched):
                    self.drops.add(matched.route.topic, drops)
                raise
            if drops:
                self.drops.add(matched.route.topic, drops)
            return [reading]
        pieces = Pieces(parts, value, (payload, unpacked), self._formats[matched.number], shaper)
        if pieces.raws is None:  # it cannot be cut: all of it or nothing
            found = self._uncut(parts, matched, received, payload, drops)
        else:
            found = self._pieces(parts, pieces, matched, received, drops, of_lines=of_lines)
        if drops:
            self.drops.add(matched.route.topic, drops)
        return found

    def _uncut(
        self,
        parts: list[Part],
        matched: Matched,
        received: Received,
        payload: bytes,
        drops: list[tuple[str, str]],
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
                reading = self._part(
                    part, matched, received, payload, drops, number=str(part.number), digest=digest
                )
            except Reject as reject:
                if not _says_nothing(reject, matched):
                    raise
                empty += 1
                continue
            first, other = seen.setdefault(reading.identity, (number, reading))
            if other is not reading and _said(other) != _said(reading):
                raise _taken_for_one(reading, first, number)
            found.append(reading)
        self.empty += empty
        return found

    def _pieces(
        self,
        parts: list[Part],
        pieces: Pieces,
        matched: Matched,
        received: Received,
        drops: list[tuple[str, str]],
        *,
        of_lines: tuple[Refusals, int, dict[int, Pieces]] | None,
    ) -> list[Reading | Rejection]:
        """The readings of a message that can be cut, and letters of those that are none.

        Of one of several lines it adds to the refusals of all of them.
        """
        found: list[Reading | Rejection] = []
        refusals, line, cut = of_lines or (Refusals(matched, received, pieces.join), None, {})
        if line is not None:
            cut[line] = pieces
        for place, (part, raw) in enumerate(zip(parts, pieces.raws or (), strict=True)):
            try:
                found.append(self._part(part, matched, received, raw, drops))
            except Reject as reject:
                if _says_nothing(reject, matched):
                    self.empty += 1
                else:
                    at, number = (
                        (place, part.number) if line is None else ((line, place), f"{line}.{part.number}")
                    )
                    if letter := refusals.letter(at, reject, raw, number):
                        found.append(letter)
        if line is None and (rest := refusals.last()):
            found.append(rest)
        return found

    def _part(
        self,
        part: Part,
        matched: Matched,
        received: Received,
        raw: bytes,
        drops: list[tuple[str, str]],
        *,
        number: str = "",
        digest: str = "",
    ) -> Reading:
        """A reading of a part; what is left out of it is added to the drops.

        Raises:
            Reject: it is none.
        """
        if part.mapped is None:
            raise part.reject or Reject("undecodable", "nothing was made of it")
        return self._said(
            part.mapped, part.tags, part.left_out, part.online, matched, received, raw, drops, number, digest
        )

    def _whole(self, known: Known, matched: Matched, received: Received, payload: bytes) -> Reading:
        """The reading of a message of a known shape.

        Raises:
            Reject: it is none.
        """
        drops: list[tuple[str, str]] = []
        try:
            return self._said(
                known.mapped, known.tags, known.left_out, None, matched, received, payload, drops, "", ""
            )
        finally:
            if drops:
                self.drops.add(matched.route.topic, drops)

    def _said(  # noqa: PLR0917  # of two kinds of readings, and every one comes by
        self,
        mapped: Mapped,
        tags: dict[str, str],
        left_out: Sequence[tuple[str, str]],
        online: bool | None,  # noqa: FBT001  # of a part
        matched: Matched,
        received: Received,
        raw: bytes,
        drops: list[tuple[str, str]],
        number: str,
        digest: str,
    ) -> Reading:
        shaper = self._shapers[matched.number]
        assert shaper is not None
        of_topic = matched.tags or {}
        if tags:
            parts = matched.topic, *tags.items()
            matched = self._tagged.get(parts) or self._tag(matched, tags, parts)
        unfit = shaper.unfit
        try:
            reading = self._assemble(
                mapped, matched, received, raw, unfit, number=number, digest=digest, online=online
            )
            drops += left_out
            drops += unfit.fields
        except Reject as reject:
            if _says_nothing(reject, matched):
                drops += [*left_out, *unfit.fields]
            raise
        except Exception as error:  # likewise
            raise _failed(error) from error
        finally:
            unfit.fields.clear()
        if of_topic:
            drops += [(name, "left_out") for name in tags if of_topic.get(name, tags[name]) != tags[name]]
        return reading

    def _tag(self, matched: Matched, tags: dict[str, str], parts: tuple[object, ...]) -> Matched:
        """What a topic says, with tags of a payload; remembered, as a device sends the same each time."""
        tagged = matched.with_tags(tags)
        size = getsizeof(matched.topic) + 3 * sum(
            getsizeof(name) + getsizeof(tag) for name, tag in tags.items()
        )
        return self._tagged.keep(parts, tagged, tagged.size_bytes + size)


class _NoReading(Reject):
    """There is no reading in a message that says something: it is refused whatever its route says."""


def _says_nothing(reject: Reject, matched: Matched) -> bool:
    """Whether a message or reading is one that its route leaves out because there is nothing in it."""
    if reject.reason != "empty_message" or isinstance(reject, _NoReading):
        return False
    return matched.route.empty == "ignore"


def _failed(error: Exception) -> Reject:
    return Reject("undecodable", f"the decoder failed: {error!r}")


def _said(reading: Reading) -> tuple[Any, ...]:
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
