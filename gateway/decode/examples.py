"""Examples of routes: messages that stand in a configuration, with the readings that they are to become.

What an `expect` leaves out is not looked at; its `tags` and `metrics` are looked at as a whole. Numbers are
equal when nine digits of them are, and times when they are one moment. Pure.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from gateway.decode.reading import Reading, Received, Rejection
from gateway.decode.routes import Router
from runtime.errors import ConfigurationError, Reject

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from gateway.decode.decoder import Decoder
    from gateway.decode.routes import CompiledRoute
    from runtime.settings.route import Example

_FIELDS: Final = ("device_id", "ts", "key", "region", "tags", "metrics", "online")
_TABLES: Final = ("tags", "metrics")
_DIGITS: Final = 1e-9
_NOTHING: Final = object()
_BRIEF: Final = 300  # characters of a value

_encode = msgspec.json.Encoder(enc_hook=str).encode


class Outcome(NamedTuple):
    """What became of an example.

    Attributes:
        where: its place, such as `route[1].example[0]`.
        topic: its message's.
        faults: what is not as expected, a line each; empty when all is.
    """

    where: str
    topic: str
    faults: list[str]


class Message(NamedTuple):
    """What a decoder takes of a delivery."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    duplicate: bool = False
    user_properties: tuple[tuple[str, str], ...] = ()


def as_object(reading: Reading) -> dict[str, Any]:
    """A reading as `gateway decode --json` prints it and an `expect` has it.

    It has `online` when it says whether its device is.
    """
    event = reading.event
    said = {} if event.online is None else {"online": event.online}
    return {
        "device_id": event.device_id,
        "ts": event.ts,
        "key": event.key,
        "region": event.region,
        "tags": event.tags or {},
        "metrics": msgspec.json.decode(event.metrics),
        **said,
    }


def play(routes: Sequence[CompiledRoute], decoder: Decoder, now: datetime) -> list[Outcome]:
    """Play the examples of all routes.

    Args:
        routes: checked.
        decoder: made of them.
        now: when messages arrive whose example does not say `at`.

    Raises:
        ConfigurationError: an example cannot be played; with its place in the file.
    """
    router = Router(routes)
    outcomes = []
    for number, route in enumerate(routes):
        for i, example in enumerate(route.route.example):
            owners = _owners(routes, number, example)
            if number != min(owners):
                continue
            where = f"{route.route.where(number)}.example[{i}]"
            message = Message(example.topic, payload_of(example, where))
            at = _moment(example.at, f"{where}.at") if example.at else now
            _check_names(example.expect, where)
            faults = _taken(routes, router, owners, example.topic)
            if not faults:
                faults = list(differences(example, decoder.decode(message, Received.of(at))))
            outcomes.append(Outcome(where, example.topic, faults))
    return outcomes


def payload_of(example: Example, where: str) -> bytes:
    """The bytes of an example's message.

    Raises:
        ConfigurationError: they are given twice, or as no hex or base64.
    """
    given = [name for name in ("payload", "hex", "base64") if getattr(example, name)]
    if len(given) > 1:
        raise ConfigurationError(f"{where}.{given[1]}: {given[0]} says the payload already")
    try:
        if example.hex:
            return bytes.fromhex(example.hex)
        if example.base64:
            return base64.b64decode("".join(example.base64.split()), validate=True)
    except (ValueError, binascii.Error) as error:
        raise ConfigurationError(f"{where}.{given[0]}: no {given[0]}: {error}") from None
    return example.payload.encode()


def differences(example: Example, found: Sequence[Reading | Rejection]) -> Iterator[str]:
    """What is not as an example expects, a line each."""
    readings = [item for item in found if isinstance(item, Reading)]
    letters = [item for item in found if isinstance(item, Rejection)]
    for letter in letters:
        if letter.reason != example.reject:
            expected = (
                f"expected a dead letter for {example.reject}"
                if example.reject
                else "expected no dead letter"
            )
            yield f"{expected}, got {letter.reason}: {letter.error}"
    if example.reject and not letters:
        yield f"expected a dead letter for {example.reject}, got none"
    several = max(len(readings), len(example.expect)) > 1
    for i in range(max(len(readings), len(example.expect))):
        which = f"reading {i + 1}" if several else "the reading"
        if i >= len(readings):
            yield f"{which}: expected {_brief(example.expect[i])}, got none"
        elif i >= len(example.expect):
            yield f"{which}: not expected, got {_brief(as_object(readings[i]))}"
        else:
            prefix = f"{which}: " if several else ""
            for line in _unlike(example.expect[i], as_object(readings[i])):
                yield f"{prefix}{line}"


def _unlike(expected: Mapping[str, object], got: Mapping[str, Any]) -> Iterator[str]:
    for field, value in expected.items():
        if field in _TABLES and isinstance(value, dict):
            yield from _unlike_tables(field, value, got[field])
        elif not _equal(field, value, other := got.get(field, _NOTHING)):
            yield f"{field}: expected {_brief(value)}, got {_brief(other)}"


def _unlike_tables(field: str, expected: Mapping[str, object], got: Mapping[str, object]) -> Iterator[str]:
    for name in [*expected, *(name for name in got if name not in expected)]:
        value, other = expected.get(name, _NOTHING), got.get(name, _NOTHING)
        if value is _NOTHING:
            yield f"{field}.{name}: not expected, got {_brief(other)}"
        elif not _equal(name, value, other):
            yield f"{field}.{name}: expected {_brief(value)}, got {_brief(other)}"


def _equal(field: str, expected: object, got: object) -> bool:
    if field == "ts" and isinstance(got, str) and isinstance(expected, (str, datetime)):
        return _instant(expected) == _instant(got)
    if field == "region" and expected == "":
        return got is None  # TOML has no null
    if isinstance(expected, bool) or isinstance(got, bool):
        return expected is got
    if expected == got:
        return True
    if isinstance(expected, (int, float)) and isinstance(got, (int, float)):
        return float in {type(expected), type(got)} and math.isclose(expected, got, rel_tol=_DIGITS)
    return False


def _instant(moment: str | datetime) -> datetime | str:
    try:
        parsed = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    except ValueError:
        return str(moment)
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed


def _moment(text: str, where: str) -> datetime:
    moment = _instant(text)
    if isinstance(moment, str):
        raise ConfigurationError(f'{where}: expected a time such as "2026-11-23T09:00:00Z"')
    return moment


def _check_names(expected: Iterable[Mapping[str, object]], where: str) -> None:
    for i, reading in enumerate(expected):
        for name in reading:
            if name not in _FIELDS:
                close = difflib.get_close_matches(name, _FIELDS, n=1)
                said = f"did you mean {close[0]}?" if close else f"it has {', '.join(_FIELDS)}"
                raise ConfigurationError(f"{where}.expect[{i}].{name}: no such field of a reading; {said}")


def _owners(routes: Sequence[CompiledRoute], number: int, example: Example) -> set[int]:
    """The routes that an example is of: one, or all of the dialect that it stands beside."""
    dialect = routes[number].route.dialect.partition("/")[0]
    if not dialect:
        return {number}
    beside = (i for i, route in enumerate(routes) if route.route.dialect.partition("/")[0] == dialect)
    return {i for i in beside if example in routes[i].route.example}


def _taken(routes: Sequence[CompiledRoute], router: Router, owners: set[int], topic: str) -> list[str]:
    """Which route takes the topic of an example, when it is none of its own."""
    try:
        taker = router.match(topic).number
    except Reject as reject:
        return [reject.detail] if reject.reason == "no_route" else []  # another: what the message comes to
    if taker in owners:
        return []
    taken = f"{routes[taker].route.where(taker)}, {routes[taker].route.topic}, takes its topic"
    if any(routes[owner].pattern.fullmatch(topic) for owner in owners):
        return [f"{taken}, for it stands before: the first that matches counts"]
    templates = ", ".join(routes[owner].route.topic for owner in sorted(owners))
    return [f"{taken}, which is none of its route's, {templates}"]


def _brief(value: object) -> str:
    if value is _NOTHING:
        return "none"
    text = _encode(value).decode()
    return text if len(text) <= _BRIEF else f"{text[:_BRIEF]}…"
