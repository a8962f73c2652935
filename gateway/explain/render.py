"""An explanation for a person, or its readings and letters for a program. Pure.

Topics, names and values come from strangers: nothing of them reaches a terminal unescaped.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from gateway.decode.examples import as_object
from gateway.explain.others import suggestion
from runtime.terminal import safe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gateway.decode import Reading, Rejection
    from gateway.explain.explanation import Explanation

_NAMES: Final = 10  # width of the first column
_MOST: Final = 20  # readings, and letters, that are shown
_LEAST: Final = 30  # characters of a value, on the narrowest terminal
_LONGEST: Final = 2000  # and anywhere
_CLAIMED: Final = "claimed_ts"

_encode = msgspec.json.Encoder().encode


def readings_as_json(explanation: Explanation) -> str:
    """An array of the readings."""
    return _encode([as_object(reading) for reading in explanation.readings]).decode()


def letters_as_json(explanation: Explanation) -> Iterator[str]:
    """A line for each dead letter."""
    for letter in explanation.letters:
        yield _encode({"reason": letter.reason, "error": letter.error}).decode()


def as_text(explanation: Explanation, width: int) -> str:
    """Lines for a person; click takes the colours out where there is no terminal."""
    lines = [*_head(explanation, width)]
    several = len(explanation.readings) > 1
    for i, reading in enumerate(explanation.readings[:_MOST]):
        title = f"READING {i + 1} of {len(explanation.readings)}" if several else "READING"
        lines += ["", click.style(title, fg="green", bold=True), *_reading(reading, explanation, width)]
    lines += _more(len(explanation.readings) - _MOST, "readings")
    if explanation.left_out:
        lines += ["", click.style("LEFT OUT", fg="yellow", bold=True)]
        for name, reason, count in explanation.left_out:
            times = f", {count} times" if count > 1 else ""
            lines += _field(safe(name) or '""', f"{reason}{times}", width)
    for letter in explanation.letters[:_MOST]:
        lines += ["", *_letter(letter, explanation, width)]
    lines += _more(len(explanation.letters) - _MOST, "dead letters")
    if explanation.nothing:
        lines += ["", click.style("NOTHING", fg="yellow", bold=True), *_wrapped(explanation.nothing, width)]
    return "\n".join(lines)


def _head(explanation: Explanation, width: int) -> Iterator[str]:
    payload = explanation.payload
    size = f"{len(payload):,} byte{'' if len(payload) == 1 else 's'}"
    if len(payload) > 1 and payload.endswith(b"\n"):
        size += ", the last of them a newline"
    yield from _field("topic", safe(explanation.topic), width)
    yield from _field("payload", size, width)
    if explanation.route is None:
        yield from _field("route", "none", width)
        return
    route = explanation.route.route
    yield from _field("route", f"{route.where(explanation.number or 0)}  {safe(route.topic)}", width)
    if route.dialect:
        name, _, part = route.dialect.partition("/")
        yield from _field("dialect", f"{name}, part {part}", width)
    if route.ignore is not True:
        yield from _field("format", route.format, width)


def _reading(reading: Reading, explanation: Explanation, width: int) -> Iterator[str]:
    told, event, route = as_object(reading), reading.event, explanation.route
    by_topic = explanation.matched is not None and explanation.matched.device_id is not None
    yield from _field(
        "device", safe(event.device_id), width, "of the topic" if by_topic else "of the payload"
    )
    if event.ts != event.received_at:
        whose = "the device's"
    elif event.tags and _CLAIMED in event.tags:
        whose = "of arrival: the device's cannot be relied on"
    else:
        whose = "of arrival"
    yield from _field("time", event.ts, width, whose)
    yield from _field("key", safe(event.key), width, _whose_key(reading))
    if route is not None:
        yield from _field("repeat", f"one with the same {_and(route.identity)}", width)
    yield from _field("region", "none" if event.region is None else safe(event.region), width)
    if event.online is not None:
        yield from _field(
            "presence", "online" if event.online else "offline", width, "what it says of its device"
        )
    for i, (name, value) in enumerate(told["tags"].items()):
        yield from _field("" if i else "tags", f"{safe(name)} = {safe(value)}", width)
    yield from _metrics(told["metrics"], width)


def _whose_key(reading: Reading) -> str:
    if reading.keyed:
        return "the device's"
    if reading.event.key.startswith("uuid:"):
        return "made here, a new one each time: there is neither key nor time"
    return "made here, of time, topic and content"


def _metrics(metrics: dict[str, Any], width: int) -> Iterator[str]:
    if not metrics:
        yield from _field("metrics", "none", width)
    cells = [(safe(name), safe(_encode(value).decode()), _kind(value)) for name, value in metrics.items()]
    longest = min(max((len(name) for name, *_ in cells), default=0), max(width // 3, _LEAST))
    for i, (name, value, kind) in enumerate(cells):
        first = "" if i else "metrics"
        shown = _elided(value, width - _NAMES - longest - len(kind) - 5)
        yield f"{first:<{_NAMES}} {name:<{longest}}  {shown}  {click.style(kind, dim=True)}"


def _kind(value: object) -> str:
    kinds: dict[type, str] = {bool: "boolean", str: "text"}
    return kinds.get(type(value), "number")


def _letter(letter: Rejection, explanation: Explanation, width: int) -> Iterator[str]:
    yield click.style(f"DEAD LETTER  {letter.reason}", fg="red", bold=True)
    yield from _wrapped(safe(letter.error), width)
    if explanation.route is None and (others := suggestion(explanation.topic)):
        yield from _wrapped(safe(others), width)
    if letter.payload != explanation.payload:
        yield from _field("bytes", _bytes(letter.payload), width)


def _bytes(payload: bytes) -> str:
    try:
        text = payload[:_LONGEST].decode()
    except UnicodeDecodeError:
        return payload[:_LONGEST].hex(" ")
    return safe(text)


def _field(name: str, value: str, width: int, remark: str = "") -> list[str]:
    room = width - _NAMES - 2
    shown = f"{name:<{_NAMES}} {_elided(value, room)}"
    if not remark:
        return [shown]
    if len(value) + len(remark) + 2 <= room:
        return [f"{shown}  {click.style(remark, dim=True)}"]
    below = textwrap.wrap(remark, max(room, _LEAST))
    return [shown, *(f"{'':<{_NAMES}} {click.style(line, dim=True)}" for line in below)]


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text[:_LONGEST], min(width, 120), break_on_hyphens=False)


def _elided(text: str, width: int) -> str:
    room = min(max(width, _LEAST), _LONGEST)
    return text if len(text) <= room else f"{text[: room - 1]}…"


def _more(count: int, what: str) -> list[str]:
    return ["", f"… and {count:,} more {what}; --json has them all"] if count > 0 else []


def _and(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
