"""What devices of other makers say: the examples of dialects, as if they were sent now. Pure: told the time.

An example's payload is a template. Times in it, as texts and as counts since 1970, are moved to now in the
form that they have; numbers with a fraction that become metrics move a little; and the key is counted on.
Payloads that are no text are sent as they are. Messages that are to be refused are not sent.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateway.decode.dialects import names, read
from gateway.decode.examples import payload_of
from gateway.decode.templates import compile_template
from gateway.simulate.devices import Emission, Kind
from runtime.settings.route import Example

if TYPE_CHECKING:
    from collections.abc import Sequence

_ISO: Final = re.compile(
    r"(?P<day>20[0-9]{2}-[01][0-9]-[0-3][0-9])(?P<sep>[T ])"
    r"(?P<clock>[0-2][0-9]:[0-5][0-9](?::[0-5][0-9])?)(?P<fraction>\.[0-9]{1,9})?"
)
_EPOCH: Final = re.compile(
    r"(?<![0-9A-Za-z_.-])1[4-9][0-9]{8}(?:[0-9]{3}|[0-9]{6}|[0-9]{9})?(?![0-9A-Za-z_:-])"
)
_FRACTION: Final = re.compile(r"(?<![0-9A-Za-z_.-])-?[0-9]{1,9}\.[0-9]{1,9}(?![0-9A-Za-z_.:-])")
_TAIL: Final = re.compile(r"([0-9A-Za-z]{1,8})([^0-9A-Za-z]*)$")
_BEGINNING_S: Final = 1_767_225_600  # of 2026: keys go by the seconds since then, as runs differ in them
_STRIDE: Final = 16  # between keys of an example: others of its device have those between
_NEAR_S: Final = 40 * 86_400.0  # of the time of an example: what is further away is no time of its message
_MOVED: Final = 0.01
_SECOND_DIGITS: Final = 10


class Speaker:
    """One example, said again and again.

    Args:
        example: of a dialect.
        where: its name, for errors.

    Attributes:
        dialect: whose it is.
        topic: of it.
        expect: what each message becomes, but for its time, its key and its values.
        readings: how many these are.
    """

    def __init__(self, example: Example, where: str, rng: Random) -> None:
        self.dialect = where.partition("/")[0]
        self.topic = example.topic
        self.expect = example.expect
        self.readings = len(example.expect)
        self._payload = payload_of(example, where)
        self._count = 0
        self._rng = rng
        try:
            self._text: str | None = self._payload.decode()
        except UnicodeDecodeError:
            self._text = None
        self._values = {
            float(value)
            for reading in example.expect
            for value in _numbers(reading.get("metrics"))
            if value != int(value)
        }
        keys = {str(reading.get("key") or "") for reading in example.expect}
        self._keys = [key for key in sorted(keys) if _TAIL.search(key)]
        self._at = _time_of(example, self._text or "")

    def say(self, now: float) -> bytes:
        """The payload of a moment, in epoch seconds."""
        self._count = max(self._count + 1, int(now) - _BEGINNING_S)
        if self._text is None:
            return self._payload
        text = self._text
        if self._at is not None:
            text = _moved(text, self._at, now)
        text = _FRACTION.sub(self._vary, text)
        for key in self._keys:
            text = self._counted(text, key)
        return text.encode()

    def _vary(self, found: re.Match[str]) -> str:
        number = float(found[0])
        if number not in self._values:
            return found[0]
        decimals = len(found[0].partition(".")[2])
        moved = f"{number * (1 + self._rng.uniform(-_MOVED, _MOVED)):.{decimals}f}"
        return moved if float(moved) or not number else found[0]

    def _counted(self, text: str, key: str) -> str:
        count = self._count * _STRIDE
        if key.isdigit():
            new = str(int(key) + count)
        else:
            found = _TAIL.search(key)
            assert found is not None  # there is a letter or a digit in every key that is sent
            digits = str(count).zfill(len(found[1]))[-len(found[1]) :]
            new = f"{key[: found.start()]}{digits}{found[2]}"
        return re.sub(rf"(?<![0-9A-Za-z_.-]){re.escape(key)}(?![0-9A-Za-z_.-])", lambda _: new, text)


class Dialects:
    """A fleet of all that some dialects have as examples, in turn.

    Args:
        chosen: names of dialects; `all` is all of them.
        prefix: levels before all topics, empty or with a slash at the end.
        seed: same seed, same values.

    Raises:
        KeyError: there is none of such a name.
        ConfigurationError: an example cannot be sent.
    """

    def __init__(self, chosen: Sequence[str], *, prefix: str, seed: int) -> None:
        rng = Random(seed)  # noqa: S311  # a simulation has to be repeatable, not unpredictable
        self.names = names() if "all" in chosen else list(dict.fromkeys(chosen))
        self.speakers = [speaker for name in self.names for speaker in speakers(name, rng)]
        levels = _levels(self.names)
        self.topics = [f"{prefix}{levels[each.dialect]}{each.topic}" for each in self.speakers]
        self._emitted = 0

    def emit(self, now: float) -> Emission:
        """Make the next message.

        Args:
            now: the devices' clock, in epoch seconds.
        """
        index = self._emitted % len(self.speakers)
        self._emitted += 1
        speaker = self.speakers[index]
        return Emission(index, Kind.GOOD, self.topics[index], speaker.say(now), speaker.readings)


def speakers(name: str, rng: Random) -> list[Speaker]:
    """The examples of a dialect that are to become something."""
    found = []
    for part, route in read(name).routes.items():
        for i, raw in enumerate(route.get("example", ())):
            example = msgspec.convert(raw, Example)
            if not example.reject:
                found.append(Speaker(example, f"{name}/{part}.example[{i}]", rng))
    return found


def _levels(chosen: Sequence[str]) -> dict[str, str]:
    """What stands before the topics of each dialect: where two have the same, one has a level of its own."""
    taken: set[str] = set()
    levels: dict[str, str] = {}
    for name in chosen:
        filters = {
            compile_template(route["topic"], name).topic_filter
            for route in read(name).routes.values()
            if route.get("ignore") is not True
        }
        level, number = "", 1
        while taken & {f"{level}{each}" for each in filters}:
            number += 1
            level = f"site-{number}/"
        taken |= {f"{level}{each}" for each in filters}
        levels[name] = level
    return levels


def _numbers(metrics: object) -> list[float]:
    values: list[Any] = list(metrics.values()) if isinstance(metrics, dict) else []
    return [value for value in values if type(value) in {int, float}]


def _time_of(example: Example, text: str) -> datetime | None:
    """When an example was sent, by its own clock."""
    stated = [str(reading["ts"]) for reading in example.expect if reading.get("ts")]
    given = example.at or (stated[0] if stated else "")
    expected = _aware(given) if given else None
    inside = sorted(_times_in(text))
    if expected is None:
        return inside[-1] if inside else None
    near = [moment for moment in inside if abs((moment - expected).total_seconds()) < _NEAR_S]
    return expected if near else None


def _aware(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _times_in(text: str) -> list[datetime]:
    found = []
    for each in _ISO.finditer(text):
        try:
            found.append(_aware(f"{each['day']}T{each['clock']}"))
        except ValueError:
            continue
    return [*found, *(datetime.fromtimestamp(_seconds(each[0]), UTC) for each in _EPOCH.finditer(text))]


def _seconds(digits: str) -> float:
    return int(digits) / float(10 ** (len(digits) - _SECOND_DIGITS))


def _moved(text: str, at: datetime, now: float) -> str:
    """The text with what in it is near a time moved to now."""
    shift = timedelta(seconds=round(now - at.timestamp(), 3))

    def iso(found: re.Match[str]) -> str:
        fraction = found["fraction"] or ""
        try:
            moment = _aware(
                f"{found['day']}T{found['clock']}{fraction[:7].ljust(7, '0') if fraction else ''}"
            )
        except ValueError:
            return found[0]
        if abs((moment - at).total_seconds()) > _NEAR_S:
            return found[0]
        moved = moment + shift
        clock = moved.strftime("%H:%M:%S" if found["clock"].count(":") > 1 else "%H:%M")
        rest = f".{moved.microsecond:06d}".ljust(len(fraction), "0")[: len(fraction)] if fraction else ""
        return f"{moved.strftime('%Y-%m-%d')}{found['sep']}{clock}{rest}"

    def epoch(found: re.Match[str]) -> str:
        digits = found[0]
        if abs(_seconds(digits) - at.timestamp()) > _NEAR_S:
            return digits
        unit = 10 ** (len(digits) - _SECOND_DIGITS)
        return str(int(digits) + round(shift.total_seconds() * 1000) * unit // 1000)

    return _EPOCH.sub(epoch, _ISO.sub(iso, text))
