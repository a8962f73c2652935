"""What was found, as TOML with its reasons, for people and for programs. Pure."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from gateway.discover import written
from runtime.terminal import safe, span

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from gateway.discover.block import Block, Tried
    from gateway.discover.discovery import Discovery
    from gateway.discover.heard import Heard
    from runtime.settings import Settings

_METRICS: Final = 4
_ROWS: Final = 6  # of one route
_AT_ONCE_S: Final = 1.5
_MOST_UNEXPLAINED: Final = 20
_TITLES: Final = 3


def routes(discovery: Discovery, *, examples: bool = False) -> str:
    """The `[[route]]` blocks as TOML, with what is guessed as comments."""
    lines: list[str] = []
    for block in discovery.blocks:
        lines += written.comment(_said(block))
        lines += [line for each in block.unsure for line in written.comment(f"unsure: {each}")]
        lines += ["[[route]]", *written.table(block.words), ""]
        for example in block.examples if examples else ():
            lines += ["[[route.example]]", *written.table(example), ""]
    return "\n".join(lines)


def configuration(discovery: Discovery, settings: Settings, *, examples: bool = False) -> str:
    """A whole configuration: the sections that are given, the routes, and what has none."""
    head = written.comment(
        f"Written by gateway discover, of {_summary(discovery.heard)}. What is said to be unsure is for "
        f"somebody to look at who knows the devices."
    )
    rest = [
        line
        for each in discovery.unexplained
        for line in written.comment(f"unexplained: {each.topic}{_like(each.topics)}: {each.why}")
    ]
    parts = [*head, "", *written.sections(settings), routes(discovery, examples=examples), *rest]
    return "\n".join(parts).rstrip("\n") + "\n"


def nothing(heard: Heard) -> str:
    """Why there is no route."""
    if not heard.messages:
        return "nothing was heard"
    return (
        "all that was heard was empty"
        if heard.messages == heard.empty
        else "nothing that was heard has a route"
    )


def render(discovery: Discovery, seconds: float, *, keep: bool = True) -> Group:
    """For people: a table of what each route makes of a message, what is left, what is unsure, what to do."""
    parts: list[RenderableType] = [Text(f"{_summary(discovery.heard)} in {seconds:.0f} s", style="bold")]
    if discovery.blocks:
        parts.append(_table(discovery.blocks))
    if unsure := list(_unsure(discovery.blocks)):
        parts += [Text("Unsure: look whether it is so", style="bold"), *unsure, Text()]
    if discovery.unexplained:
        parts.append(Text("Unexplained: no route reads it", style="bold"))
        for each in discovery.unexplained[:_MOST_UNEXPLAINED]:
            said = f"  {safe(each.topic)}{_like(each.topics)}, {_count(each.messages, 'message')}: "
            parts.append(Text(f"{said}{safe(each.why)}"))
            parts.append(Text(f"    {safe(each.beginning)}", style="dim"))
        if len(discovery.unexplained) > _MOST_UNEXPLAINED:
            parts.append(Text(f"  and {len(discovery.unexplained) - _MOST_UNEXPLAINED:,} more kinds"))
        parts.append(Text())
    parts += _advice(discovery, keep=keep)
    return Group(*parts)


def encode(discovery: Discovery, seconds: float) -> bytes:
    """One JSON object."""
    return msgspec.json.encode(as_object(discovery, seconds), enc_hook=str)


def as_object(discovery: Discovery, seconds: float) -> dict[str, Any]:
    """The same as plain values; `docs/operating.md` says what each is."""
    heard = discovery.heard
    return {
        "seconds": round(seconds, 1),
        "messages": heard.messages,
        "retained": heard.retained,
        "empty": heard.empty,
        "not_looked_at": heard.dropped,
        "topics": len(heard.topics),
        "beyond": heard.beyond,
        "routes": [
            {
                "route": block.words,
                "title": block.title,
                "parts": list(filter(None, block.parts)),
                "compression": block.compression,
                "topics": len(block.topics),
                "messages": block.messages,
                "devices": block.devices,
                "unsure": block.unsure,
                "tried": [each._asdict() for each in block.tried],
            }
            for block in discovery.blocks
        ],
        "unexplained": [each._asdict() for each in discovery.unexplained],
        "toml": routes(discovery),
    }


def _summary(heard: Heard) -> str:
    counted = [
        (heard.retained, "kept by the broker"),
        (heard.empty, "empty"),
        (heard.beyond, "by topics beyond those that are kept"),
    ]
    beside = ", ".join(f"{count:,} {what}" for count, what in counted if count)
    missed = f", and {heard.dropped:,} more that came too fast to look at" if heard.dropped else ""
    messages, topics = _count(heard.messages, "message"), _count(len(heard.topics), "topic")
    return f"{messages}{f' ({beside})' if beside else ''} by {topics}{missed}"


def _said(block: Block) -> str:
    if not block.messages:
        return "for what comes by besides" if not block.unsure else ""
    packed = f", {block.compression}" if block.compression else ""
    parts = f" ({', '.join(block.parts)})" if block.parts and "/" not in block.words["dialect"] else ""
    devices = f" of {_count(block.devices, 'device')}" if block.devices else ""
    by = f"{_count(block.messages, 'message')} by {_count(len(block.topics), 'topic')}"
    return f"{by}{devices}{packed}{parts}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _like(topics: int) -> str:
    return f" and {topics - 1:,} like it" if topics > 1 else ""


def _unsure(blocks: Sequence[Block]) -> Iterator[Text]:
    """What is said of several routes is said once."""
    titles: dict[str, list[str]] = defaultdict(list)
    for block in blocks:
        for each in block.unsure:
            titles[each].append(block.title)
    for each, its in titles.items():
        more = f" and {len(its) - _TITLES} more" if len(its) > _TITLES else ""
        yield Text(f"  {safe(', '.join(its[:_TITLES]))}{more}: {safe(each)}")


def _advice(discovery: Discovery, *, keep: bool) -> Iterator[Text]:
    unsure = sum(bool(block.unsure) for block in discovery.blocks)
    if not discovery.blocks:
        return
    doubt = f"{unsure:,} of them to be looked at, for what is unsure" if unsure else "none of them unsure"
    said = f"{_count(len(discovery.blocks), 'route')}, {doubt}."
    if keep:
        said += " --write FILE keeps them in a configuration, and gateway check --config FILE tries that."
    yield Text(said, style="bold")


def _table(blocks: Sequence[Block]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("route", "messages", "devices", "unsure", "last message", "becomes"):
        right = column in {"messages", "devices", "unsure"}
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for block in blocks:
        unsure = str(len(block.unsure) or "")
        read = [each for each in block.tried if not _is_left_out(each)]
        tried = [(safe(each.topic), _became(each)) for each in read[:_ROWS]]
        if len(read) > _ROWS:
            tried.append((f"and {_count(len(read) - _ROWS, 'kind')} of topics more", ""))
        if rest := len(block.tried) - len(read):
            tried.append((f"{_count(rest, 'kind')} of topics", "left out"))
        tried = tried or [("", "")]
        for i, (topic, became) in enumerate(tried):
            head = (safe(block.title), f"{block.messages:,}", f"{block.devices:,}", unsure)
            table.add_row(*map(Text, (*(head if i == 0 else ("",) * len(head)), topic, became)))
    return table


def _is_left_out(tried: Tried) -> bool:
    return not tried.letter and (tried.ignored or not tried.readings)


def _became(tried: Tried) -> str:
    if tried.letter:
        return f"{'held' if tried.held else 'dead letter'}: {safe(tried.letter)}"
    first = tried.readings[0]
    metrics = [f"{safe(name)}={safe(str(each))}" for name, each in first["metrics"].items()]
    if "online" in first:
        metrics.insert(0, "online" if first["online"] else "offline")
    rest = len(metrics) - _METRICS
    parts = [
        safe(first["device_id"]),
        *([f"in {safe(first['region'])}"] if first["region"] else []),
        _when(tried.at, first["ts"]),
        *([f"key {safe(str(first['key']))}"] if first["key"] else []),
        *metrics[:_METRICS],
        *([f"and {rest} more"] if rest > 0 else []),
        *([f"and {_count(len(tried.readings) - 1, 'reading')} more"] if len(tried.readings) > 1 else []),
    ]
    return " ".join(parts)


def _when(came: datetime, ts: str) -> str:
    """Which time a reading has, as people see whether it is right."""
    ahead = (datetime.fromisoformat(ts) - came).total_seconds()
    if abs(ahead) < _AT_ONCE_S:
        return "now"
    return f"{span(abs(ahead))} {'ahead' if ahead > 0 else 'ago'}"
