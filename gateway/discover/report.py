"""What was found, as TOML with its reasons, for people and for programs. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from gateway.discover import written
from runtime.terminal import safe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from gateway.discover.discovery import Block, Discovery, Tried
    from runtime.settings import Settings

_METRICS = 4
_MOST_UNEXPLAINED = 30


def routes(discovery: Discovery) -> str:
    """The `[[route]]` blocks as TOML, with what is guessed as comments."""
    lines: list[str] = []
    for block in discovery.blocks:
        lines += written.comment(_said(block))
        lines += [line for each in block.unsure for line in written.comment(f"unsure: {each}")]
        lines += ["[[route]]", *written.table(block.words), ""]
    return "\n".join(lines)


def configuration(discovery: Discovery, settings: Settings) -> str:
    """A whole configuration: the sections that are given, and the routes."""
    return "\n".join([*written.sections(settings), routes(discovery)])


def render(discovery: Discovery, seconds: float) -> Group:
    """For people: a table of what each route makes of a message, what is left, and what is unsure."""
    heard = discovery.heard
    parts: list[RenderableType] = [
        Text(
            f"{heard.messages:,} messages by {len(heard.topics):,} topics in {seconds:.0f} s"
            + (f"; {heard.empty:,} of them empty" if heard.empty else "")
            + (f"; {heard.beyond:,} by topics beyond those that are kept" if heard.beyond else "")
        )
    ]
    if discovery.blocks:
        parts.append(_table(discovery.blocks))
    unsure = [(block.title, each) for block in discovery.blocks for each in block.unsure]
    if unsure:
        parts += [
            Text("Unsure", style="bold"),
            *(Text(f"  {safe(title)}: {safe(each)}") for title, each in unsure),
            Text(),
        ]
    if discovery.unexplained:
        parts.append(Text("Unexplained: no route reads it", style="bold"))
        for each in discovery.unexplained[:_MOST_UNEXPLAINED]:
            more = f" and {each.topics - 1:,} like it" if each.topics > 1 else ""
            parts.append(Text(f"  {safe(each.topic)}{more}, {each.messages:,} messages: {safe(each.why)}"))
            parts.append(Text(f"    {safe(each.beginning)}", style="dim"))
        if len(discovery.unexplained) > _MOST_UNEXPLAINED:
            parts.append(Text(f"  and {len(discovery.unexplained) - _MOST_UNEXPLAINED:,} more kinds"))
    return Group(*parts)


def encode(discovery: Discovery, seconds: float) -> bytes:
    """One JSON object."""
    return msgspec.json.encode(as_object(discovery, seconds), enc_hook=str)


def as_object(discovery: Discovery, seconds: float) -> dict[str, Any]:
    """The same as plain values."""
    return {
        "seconds": round(seconds, 1),
        "messages": discovery.heard.messages,
        "topics": len(discovery.heard.topics),
        "routes": [
            {
                "route": block.words,
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


def _said(block: Block) -> str:
    if not block.messages:
        return "for what comes by besides" if not block.unsure else ""
    packed = f", {block.compression}" if block.compression else ""
    parts = f" ({', '.join(block.parts)})" if block.parts and "/" not in block.words["dialect"] else ""
    topics, devices = len(block.topics), block.devices
    return f"{block.messages:,} messages by {topics:,} topics of {devices:,} devices{packed}{parts}"


def _table(blocks: Sequence[Block]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("route", "messages", "devices", "last message", "becomes"):
        table.add_column(
            column, justify="right" if column in {"messages", "devices"} else "left", overflow="fold"
        )
    for block in blocks:
        tried = [(safe(each.topic), _became(each)) for each in block.tried] or [("", "")]
        for i, (topic, became) in enumerate(tried):
            head = (safe(block.title), f"{block.messages:,}", f"{block.devices:,}") if i == 0 else ("",) * 3
            table.add_row(*map(Text, (*head, topic, became)))
    return table


def _became(tried: Tried) -> str:
    if tried.letter:
        return f"dead letter: {safe(tried.letter)}"
    if tried.ignored or not tried.readings:
        return "left out"
    first = tried.readings[0]
    metrics = [f"{safe(name)}={safe(str(each))}" for name, each in first["metrics"].items()]
    rest = len(metrics) - _METRICS
    parts = [
        safe(first["device_id"]),
        *([f"in {safe(first['region'])}"] if first["region"] else []),
        first["ts"],
        *([f"key {safe(str(first['key']))}"] if first["key"] else []),
        *metrics[:_METRICS],
        *([f"and {rest} more"] if rest > 0 else []),
        *([f"and {len(tried.readings) - 1} readings more"] if len(tried.readings) > 1 else []),
    ]
    return " ".join(parts)
