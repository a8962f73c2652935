"""What was heard, as routes: dialects where they are known, guesses where not. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from gateway.decode import Decoder, Limits, Reading, Received
from gateway.discover.apart import taken_apart
from gateway.discover.block import Block, Unexplained, routes_of
from gateway.discover.columns import local_time, zone_named, zone_of
from gateway.discover.guess import guess
from gateway.discover.known import dialects
from gateway.discover.looks import look_of, look_of_topic
from gateway.discover.order import in_order
from gateway.discover.repeats import repeated
from gateway.discover.shapes import VARIES, shapes_of
from gateway.discover.sniff import Sniffer
from gateway.discover.tally import count, summed
from gateway.discover.tried import Guess, usable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from gateway.discover.heard import Heard, Sample
    from gateway.discover.known import Known
    from gateway.discover.shapes import Levels
    from gateway.discover.sniff import Sniffed
    from runtime.settings import Settings

_MANY_ALIKE: Final = 200
_MOST_SAMPLES: Final = 2000  # of a shape, that are looked at
_MOST_KINDS: Final = 64
_SAYS: Final = ("each", "name", "value", "key", "time", "device")
_ALIKE: Final = 0.5  # of the fields of two messages, which then are of one kind


@dataclass
class Discovery:
    """What was found.

    Attributes:
        heard: what came by.
        blocks: routes, in their order.
        unexplained: what is of none of them.
    """

    heard: Heard
    blocks: list[Block]
    unexplained: list[Unexplained]


def discover(heard: Heard, settings: Settings) -> Discovery:
    """Make routes of what was heard."""
    samples = _looked_at(heard)
    known = dialects().know(samples)
    blocks = _dialects(known, samples)
    guessed, unexplained = _guessed({name: its for name, its in samples.items() if name not in known})
    silent = [name for name, topic in heard.topics.items() if not topic.samples]
    blocks = in_order([*blocks, *guessed], unexplained, settings)
    unexplained |= count(blocks, heard, silent)
    return Discovery(heard, blocks, summed(unexplained, heard))


def _looked_at(heard: Heard) -> dict[str, Sequence[Sample]]:
    """The messages by topic; of topics that are alike the first are enough, and one message of each other."""
    alike: Counter[str] = Counter()
    found: dict[str, Sequence[Sample]] = {}
    for name in sorted(heard.topics):
        samples = heard.topics[name].samples
        if samples:
            look = look_of_topic(name)
            alike[look] += 1
            found[name] = samples if alike[look] <= _MANY_ALIKE else samples[-1:]
    return found


def _dialects(known: Mapping[str, Known], samples: Mapping[str, Sequence[Sample]]) -> list[Block]:
    by_name: dict[tuple[str, str], list[str]] = defaultdict(list)
    for topic, each in known.items():
        by_name[each.dialect, each.prefix].append(topic)
    blocks = []
    for (dialect, prefix), topics in by_name.items():
        words = {"dialect": dialect, **({"prefix": prefix} if prefix else {})}
        parts = tuple(sorted({known[topic].part for topic in topics}))
        block = Block(words, topics, parts=parts)
        _set_zone(block, [sample for topic in topics for sample in samples[topic]])
        blocks += [*repeated(block, known, samples), *taken_apart(block, known, samples)]
        blocks += [block] if block.topics else []
    return blocks


def _set_zone(block: Block, samples: Sequence[Sample]) -> None:
    """Of a dialect whose times are local: by how many hours they are off."""
    if not (hours := zone_of(_gaps(block, samples))):
        return
    tried = replace(block, words={**block.words, "timezone": zone_named(hours)})
    if zone_of(_gaps(tried, samples)):
        block.unsure.append(
            f"its time is {abs(hours):g} h {'ahead of' if hours > 0 else 'behind'} now although it says its "
            f"zone: are the clocks right?"
        )
        return
    block.words = tried.words
    block.unsure.append(local_time("its time", hours))


def _gaps(block: Block, samples: Sequence[Sample]) -> list[timedelta]:
    routes, _ = routes_of([block])
    decoder = Decoder(routes, Limits())
    gaps = []
    for sample in samples:
        if sample.retained:
            continue
        gaps += [
            datetime.fromisoformat(each.event.ts) - sample.at
            for each in decoder.decode(sample, Received.of(sample.at))
            if isinstance(each, Reading) and each.event.ts != each.event.received_at
        ]
    return gaps


def _guessed(samples: Mapping[str, Sequence[Sample]]) -> tuple[list[Block], dict[str, str]]:
    """Routes of topics that are of no dialect, and why others have none."""
    sniffer = Sniffer()
    unexplained: dict[str, str] = {}
    kinds: dict[str, dict[str, list[tuple[Sample, Sniffed]]]] = defaultdict(dict)
    for topic, its in samples.items():
        sniffed = [(sample, sniffer.sniff(sample.payload, topic)) for sample in its]
        kind, _ = (
            Counter(each.kind for _, each in sniffed if each.format).most_common(1)[0]
            if any(each.format for _, each in sniffed)
            else ("", 0)
        )
        if not kind:
            unexplained[topic] = sniffed[-1][1].why
        else:
            kinds[kind][topic] = [(sample, each) for sample, each in sniffed if each.kind == kind]
    guesses: list[tuple[Levels, list[str], Guess, str]] = []
    for topics in kinds.values():
        marks = _marks(topics)
        for shape, members in shapes_of({topic: marks[topic] for topic in topics}).items():
            guesses.append(_guess(shape, members, topics))
        guesses = _joined(guesses, topics)
    blocks = []
    for _, members, found, packed in guesses:
        if why := usable(found.words):
            unexplained |= dict.fromkeys(members, f"no route was found for it: {why}")
        elif found.letters and len(found.letters) * 2 > len(found.samples):
            letter = found.letters[0]
            unexplained |= dict.fromkeys(members, f"{letter.reason}: {letter.error}")
        else:
            blocks.append(Block(found.words, sorted(members), unsure=found.unsure, compression=packed))
    return blocks, unexplained


def _guess(
    shape: Levels,
    members: Sequence[str],
    topics: Mapping[str, list[tuple[Sample, Sniffed]]],
    *,
    apart: bool = False,
) -> tuple[Levels, list[str], Guess, str]:
    pairs = [pair for topic in sorted(members) for pair in topics[topic]][:_MOST_SAMPLES]
    packed = next((each.packed for _, each in pairs if each.packed), "")
    found = guess(shape, [sample for sample, _ in pairs], [each for _, each in pairs], apart=apart)
    return shape, list(members), found, packed


def _joined(
    guesses: list[tuple[Levels, list[str], Guess, str]], topics: Mapping[str, list[tuple[Sample, Sniffed]]]
) -> list[tuple[Levels, list[str], Guess, str]]:
    """Guesses of one template are one: that one device of several has been seen is no shape of its own.

    Where their messages say differently what they are, the topic tells them apart instead.
    """
    by_topic: dict[str, list[tuple[Levels, list[str], Guess, str]]] = defaultdict(list)
    for each in guesses:
        by_topic[each[2].words["topic"]].append(each)
    joined = []
    for alike in by_topic.values():
        own = [each for each in alike if each[1][0] in topics]
        if len(own) < 2:  # noqa: PLR2004  # nothing to join
            joined += alike
            continue
        joined += [each for each in alike if each[1][0] not in topics]
        if len({msgspec.json.encode([each[2].words.get(word) for word in _SAYS]) for each in own}) > 1:
            joined += [_guess(shape, members, topics, apart=True) for shape, members, *_ in own]
            continue
        shapes = [shape for shape, *_ in own]
        union = tuple(level[0] if len(set(level)) == 1 else VARIES for level in zip(*shapes, strict=True))
        joined.append(_guess(union, [topic for _, members, *_ in own for topic in members], topics))
    return joined


def _marks(topics: Mapping[str, list[tuple[Sample, Sniffed]]]) -> dict[str, str]:
    """What the messages of topics have in common with others: most of their fields."""
    kinds: list[set[str]] = []
    marks: dict[str, str] = {}
    for topic, pairs in topics.items():
        fields: set[str] = set()
        for _, each in pairs:
            values = each.values[0] if isinstance(each.values, list) and each.values else each.values
            if isinstance(values, dict):
                fields |= set(map(look_of, map(str, values)))
        for i, kind in enumerate(kinds):
            if kind == fields or len(kind & fields) >= _ALIKE * len(kind | fields):
                marks[topic] = str(i)
                break
        else:
            marks[topic] = str(len(kinds))
            if len(kinds) < _MOST_KINDS:
                kinds.append(fields)
    return marks
