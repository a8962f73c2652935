"""What came by each route, what it makes of the last messages, and what is left over. Pure."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from gateway.decode import Reading, Received, Rejection
from gateway.discover.block import Tried, Unexplained, object_of, routes_of
from gateway.discover.cases import example_of
from gateway.discover.known import Patterns
from gateway.discover.looks import look_of_topic
from gateway.discover.named import UNSURE, is_unnamed, kind_of, naming_decoder
from gateway.discover.order import owner_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gateway.decode.routes import CompiledRoute
    from gateway.discover.block import Block
    from gateway.discover.heard import Heard, Sample

_FEW_TOPICS: Final = 40


def count(blocks: Sequence[Block], heard: Heard, silent: Iterable[str]) -> dict[str, str]:
    """Count what came by each block, and try it on the last messages.

    Args:
        blocks: in their order; what is known of them becomes more.
        heard: all that came by.
        silent: topics of which no message was kept.

    Returns:
        topics whose last message would be a dead letter, and why.
    """
    routes, owners = routes_of(blocks)
    refused: dict[str, str] = {}
    if not routes:
        return refused
    births = (sample for topic in heard.topics.values() for sample in topic.samples[-1:])
    decoder, patterns = naming_decoder(routes, births), Patterns(routes)
    for topic in silent:
        owner = owner_of(patterns, owners, topic)
        if owner is not None:
            blocks[owner].topics.append(topic)
    for block in blocks:
        devices: set[str] = set()
        tried = unnamed = 0
        letters: list[Rejection] = []
        block.messages = sum(heard.topics[topic].count for topic in block.topics)
        shown: set[str] = set()
        for topic in block.topics:
            samples = heard.topics[topic].samples
            few = len(block.topics) <= _FEW_TOPICS
            for sample in samples if few else samples[-1:]:
                found = decoder.decode(sample, Received.of(sample.at))
                devices |= {each.event.device_id for each in found if isinstance(each, Reading)}
                held = any(map(is_unnamed, found))
                unnamed += held
                letters += [each for each in found if isinstance(each, Rejection) and not held][:1]
                tried += 1
                if sample is samples[-1] and (
                    letter := _shown(block, sample, found, routes, patterns, shown)
                ):
                    refused |= {} if held else {topic: letter}
        block.devices = len(devices)
        if unnamed:
            block.unsure.append(f"{unnamed:,} of {tried:,} messages {UNSURE}")
        if letters:
            [first, *_] = letters
            block.unsure.append(
                f"{len(letters):,} of {tried:,} messages would be dead letters, such as one by "
                f"{first.topic}: {first.reason}: {first.error}"
            )
    return refused


def _shown(  # noqa: PLR0917  # of a loop
    block: Block,
    sample: Sample,
    found: Sequence[Reading | Rejection],
    routes: Sequence[CompiledRoute],
    patterns: Patterns,
    shown: set[str],
) -> str:
    """Show what becomes of a message, once for each part of a dialect; returns why it is a dead letter."""
    letter = next((f"{each.reason}: {each.error}" for each in found if isinstance(each, Rejection)), "")
    number = patterns.first(sample.topic)
    assert number is not None
    route = routes[number].route
    part = route.dialect.partition("/")[2]
    if part in shown or len(block.tried) >= _FEW_TOPICS:
        return letter
    shown.add(part)
    readings = [object_of(each) for each in found if isinstance(each, Reading)]
    held = any(map(is_unnamed, found))
    block.tried.append(Tried(sample.topic, part, sample.at, readings, route.ignore is True, letter, held))
    named = kind_of(sample.topic) not in {"NDATA", "DDATA"}  # by itself: an example has no birth before it
    if readings and not letter and named and (example := example_of(sample, found)):
        block.examples.append(example)
    return letter


def summed(unexplained: Mapping[str, str], heard: Heard) -> list[Unexplained]:
    """Topics without a route, those that look alike together."""
    alike: dict[tuple[str, str], list[str]] = defaultdict(list)
    for topic, why in unexplained.items():
        alike[look_of_topic(topic), why].append(topic)
    found = []
    for (_, why), topics in alike.items():
        messages = sum(heard.topics[topic].count for topic in topics)
        payload = heard.topics[topics[0]].samples[-1].payload
        found.append(Unexplained(topics[0], len(topics), messages, why, beginning(payload)))
    return sorted(found, key=lambda each: -each.messages)


def beginning(payload: bytes, most: int = 60) -> str:
    """How a payload begins: as text, or as hex."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        text = ""
    if text and all(sign.isprintable() or sign in "\r\n\t" for sign in text):
        text = " ".join(text.split())
        return text if len(text) <= most else f"{text[:most]}…"
    shown = payload[: most // 3].hex(" ")
    return shown if len(payload) <= most // 3 else f"{shown} …"
