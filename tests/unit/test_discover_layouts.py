"""Layouts of sites that nobody knows: right readings, or a word that it is unsure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from gateway.decode import Decoder, Limits
from gateway.decode.examples import play
from gateway.decode.routes import compile_routes
from gateway.discover import report
from gateway.discover.discovery import discover
from gateway.discover.heard import Heard, Sample
from runtime.settings import Settings
from tests.support.layouts import LAYOUTS, Layout, become, loaded, messages

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gateway.discover.discovery import Discovery

START = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
ALONE = {"two sites alike, with the same names"}  # whose topics differ from the first level on


def heard_of(layouts: Sequence[Layout]) -> tuple[Heard, dict[str, Sample]]:
    """What is kept of what they send, and the last message by each topic."""
    heard, last = Heard(), {}
    every = [
        (at, topic, payload, each.retained)
        for each in layouts
        for topic, payload, at in messages(each, START)
    ]
    for at, topic, payload, retained in sorted(every, key=lambda each: each[0]):
        last[topic] = Sample(topic, payload, at, retained)
        heard.add(last[topic])
    return heard, last


def said_of(discovery: Discovery, layout: Layout) -> str:
    """What is unsure of the routes of a layout."""
    topics = {topic for topic, *_ in messages(layout, START)}
    return "\n".join(
        each for block in discovery.blocks if topics & set(block.topics) for each in block.unsure
    )


def written(discovery: Discovery, tmp_path: Path) -> Decoder:
    """A decoder of what is written, and loaded again; its examples come out as they are written."""
    text = report.configuration(discovery, Settings(), examples=True)
    routes = compile_routes(loaded(text, tmp_path).route) if discovery.blocks else []
    decoder = Decoder(routes, Limits())
    assert [each for each in play(routes, decoder, START) if each.faults] == []
    return decoder


def check(layout: Layout, discovery: Discovery, last: dict[str, Sample], decoder: Decoder) -> None:
    """What is written makes the readings that the layout says, and the rest is told."""
    for topic, expected in layout.becomes.items():
        assert become(decoder, last[topic]) == expected, topic
    said = said_of(discovery, layout)
    for word in layout.unsure:
        assert word in said
    why = {each.topic: each.why for each in discovery.unexplained}
    for topic, word in layout.unexplained.items():
        assert word in why[topic]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_a_layout(layout: Layout, tmp_path: Path) -> None:
    """What is written for a site alone reads its messages."""
    heard, last = heard_of([layout])
    discovery = discover(heard, Settings())
    check(layout, discovery, last, written(discovery, tmp_path))


def test_all_layouts_at_once(tmp_path: Path) -> None:
    """Sites that share a broker do not mislead each other."""
    layouts = [layout for layout in LAYOUTS if layout.name not in ALONE]
    heard, last = heard_of(layouts)
    discovery = discover(heard, Settings())
    decoder = written(discovery, tmp_path)
    for layout in layouts:
        check(layout, discovery, last, decoder)
