"""Dialects for a person, or for a program. Pure."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from gateway.decode import Reading
from gateway.decode.examples import as_object
from gateway.dialects import toml

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gateway.decode import Rejection
    from gateway.decode.dialects import Dialect
    from gateway.dialects.played import Part, Played

_WIDEST: Final = 120
_PAYLOAD: Final = 2000  # characters of one that are shown

_encode = msgspec.json.Encoder().encode


def all_as_text(dialects: Sequence[Dialect], width: int) -> str:
    """A line each: name, title, and the topics that carry telemetry."""
    names = max(len(each.name) for each in dialects)
    titles = max(len(each.title) for each in dialects)
    lines = []
    for each in dialects:
        first, *others = topics(each)
        more = f" and {len(others)} more" if others else ""
        room = max(width - names - titles - 4 - len(more), 20)
        shown = first if len(first) <= room else f"{first[: room - 1]}…"
        dim = click.style(f"{shown}{more}", dim=True)
        lines.append(f"{click.style(f'{each.name:<{names}}', bold=True)}  {each.title:<{titles}}  {dim}")
    return "\n".join(lines)


def all_as_json(dialects: Sequence[Dialect]) -> str:
    """An array of objects: `name`, `title`, `about`, `source`, `parts` with the topic of each."""
    return _encode([_told(each) for each in dialects]).decode()


def as_text(dialect: Dialect, parts: Sequence[Part], width: int) -> str:
    """Its routes as TOML, its examples as comments in them: all of it can be pasted."""
    width = min(width, _WIDEST)
    lines = [f"# {line}" for line in textwrap.wrap(f"{dialect.title}. {dialect.about}", width - 2)]
    lines += [f"# {address}" for address in dialect.source]
    for part in parts:
        lines += ["", click.style(f"# {dialect.name}/{part.name}", bold=True), toml.route(part.words)]
        for played in part.played:
            lines += [click.style(line, dim=True) for line in _example(played, ignored=part.ignored)]
    return "\n".join(lines)


def as_json(dialect: Dialect, parts: Sequence[Part]) -> str:
    """An object: as in the list, and of each part its `route` and its `examples` with what they become."""
    told = _told(dialect)
    told["parts"] = [
        {
            "part": part.name,
            "topic": part.words["topic"],
            "ignored": part.ignored,
            "route": part.words,
            "examples": [_example_told(played) for played in part.played],
        }
        for part in parts
    ]
    return _encode(told).decode()


def topics(dialect: Dialect) -> list[str]:
    """The topics that carry telemetry."""
    return [words["topic"] for words in dialect.routes.values() if words.get("ignore") is not True]


def payload(played: Played) -> str:
    """The payload of an example as a text; in hex when it is none."""
    example = played.example
    return example.payload or (f"hex {played.payload.hex()}" if played.payload else "(empty)")


def _told(dialect: Dialect) -> dict[str, Any]:
    return {
        "name": dialect.name,
        "title": dialect.title,
        "about": dialect.about,
        "source": dialect.source,
        "parts": [
            {"part": part, "topic": words["topic"], "ignored": words.get("ignore") is True}
            for part, words in dialect.routes.items()
        ],
    }


def _example(played: Played, *, ignored: bool) -> Iterator[str]:
    text = payload(played)
    shown = text if len(text) <= _PAYLOAD else f"{text[:_PAYLOAD]}…"
    lines = shown.splitlines()
    yield f"#   {played.example.topic}"
    yield from (f"#     {line}" for line in lines)
    for item in played.found:
        yield f"#   → {_encode(_became(item)).decode()}"
    if not played.found:
        yield f"#   → {'left out' if ignored else 'nothing: it is empty'}"


def _example_told(played: Played) -> dict[str, Any]:
    readings = [_became(item) for item in played.found if isinstance(item, Reading)]
    letters = [_became(item) for item in played.found if not isinstance(item, Reading)]
    example = played.example
    given = (
        {"hex": played.payload.hex()}
        if played.payload and not example.payload
        else {"payload": example.payload}
    )
    return {"topic": example.topic, **given, "readings": readings, "dead_letters": letters}


def _became(item: Reading | Rejection) -> dict[str, Any]:
    if isinstance(item, Reading):
        return as_object(item)
    return {"reason": item.reason, "error": item.error}
