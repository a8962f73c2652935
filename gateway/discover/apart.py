"""Metrics of several devices that a dialect takes for one, by names that have both in them. Pure.

An agent of an OPC server says all that it has by one topic: `Channel.Device.Tag`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.decode.dialects import find
from gateway.discover.columns import Row
from gateway.discover.elements import elements_of, split_names
from gateway.discover.sniff import Sniffer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway.discover.block import Block
    from gateway.discover.heard import Sample
    from gateway.discover.known import Known


def taken_apart(
    block: Block, known: Mapping[str, Known], samples: Mapping[str, Sequence[Sample]]
) -> list[Block]:
    """Parts of a dialect by which names say the device and its metric; their topics leave the block."""
    made = []
    sniffer = Sniffer()
    for part, words in find(block.words["dialect"])[1].items():
        if not (words.get("name") and str(words.get("device", "")).startswith("'")):
            continue
        topics = [topic for topic in block.topics if known[topic].part == part]
        rows = [
            Row(topic, sample.at, i, sniffed.values)
            for topic in topics
            for i, sample in enumerate(samples[topic])
            if (sniffed := sniffer.sniff(sample.payload)).format == words.get("format", "json")
        ]
        elements = elements_of(rows)
        if elements.name != words["name"] or (found := split_names(elements)) is None:
            continue
        more, _, said = found
        mine = {**block.words, "dialect": f"{block.words['dialect']}/{part}", **more}
        made.append(replace(block, words=mine, topics=topics, unsure=[*block.unsure, said], parts=(part,)))
        block.topics = [topic for topic in block.topics if topic not in topics]
    return made
