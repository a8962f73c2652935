"""What was heard, as routes: dialects where they are known, guesses where not.

The routes are put in an order in which every topic that was heard goes to the route that was made for it:
the one that says more of a topic comes first. Topics of no route that another one would take are left out
by a route of their own, so that they become no dead letters. Pure.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from gateway.decode import Decoder, Limits, Reading, Received
from gateway.decode.dialects import complete_routes
from gateway.decode.routes import compile_routes, refuse_own_events
from gateway.discover.columns import local_time, zone_named, zone_of
from gateway.discover.guess import Guess, guess, usable
from gateway.discover.known import Patterns, dialects, has_own_word, signs_of
from gateway.discover.looks import look_of, look_of_topic
from gateway.discover.shapes import VARIES, shapes_of
from gateway.discover.sniff import Sniffer
from runtime.errors import ConfigurationError
from runtime.settings import Route

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import timedelta

    from gateway.decode.routes import CompiledRoute
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
_SORTING: Final = 200
_FEW_TOPICS: Final = 40


class Tried(NamedTuple):
    """What a route makes of the last message by one of its topics.

    Attributes:
        part: of a dialect; empty for a route of its own.
        readings: what it becomes; none when it is left out.
        letter: why it becomes none.
    """

    topic: str
    part: str
    readings: list[dict[str, Any]]
    ignored: bool
    letter: str


@dataclass
class Block:
    """A `[[route]]`.

    Attributes:
        words: what it says.
        topics: that it is for.
        messages: that came by them.
        devices: how many of them were seen.
        unsure: what is guessed.
        parts: of a dialect, those that were seen.
        compression: how messages were compressed.
    """

    words: dict[str, Any]
    topics: list[str]
    messages: int = 0
    devices: int = 0
    unsure: list[str] = field(default_factory=list)
    parts: tuple[str, ...] = ()
    compression: str = ""
    tried: list[Tried] = field(default_factory=list)

    @property
    def title(self) -> str:
        """How people call it."""
        if (dialect := self.words.get("dialect")) and "topic" not in self.words:
            prefix = self.words.get("prefix", "")
            return f"{dialect} below {prefix}" if prefix else str(dialect)
        return str(self.words["topic"])


class Unexplained(NamedTuple):
    """Topics of no route.

    Attributes:
        topic: one of them, or what they have in common.
        beginning: of a payload.
    """

    topic: str
    topics: int
    messages: int
    why: str
    beginning: str


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
    blocks = _in_order([*blocks, *guessed], unexplained, settings)
    unexplained |= _counted(blocks, heard, silent)
    return Discovery(heard, blocks, _summed(unexplained, heard))


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


def routes_of(blocks: Iterable[Block]) -> tuple[list[CompiledRoute], list[int]]:
    """The routes of blocks as a configuration has them, and the block of each.

    Raises:
        ConfigurationError: one of them is none.
    """
    routes: list[Route] = []
    owners: list[int] = []
    for i, block in enumerate(blocks):
        raw: dict[str, Any] = {"route": [dict(block.words)]}
        complete_routes(raw)
        made = msgspec.convert(raw["route"], list[Route])
        routes += made
        owners += [i] * len(made)
    return compile_routes(routes) if routes else [], owners


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
        blocks.append(block)
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
            if found.letters:
                letter = found.letters[0]
                found.unsure.append(
                    f"some messages would be dead letters, for {letter.reason}: {letter.error}"
                )
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


def _in_order(blocks: list[Block], unexplained: Mapping[str, str], settings: Settings) -> list[Block]:
    """The blocks in an order in which each topic comes to its own."""
    blocks = sorted(blocks, key=_precedence)
    moved: list[tuple[Block, Block]] = []
    for _ in range(_SORTING):
        routes, owners = routes_of(blocks)
        if not routes:
            return blocks
        patterns = Patterns(routes)
        wrong = _first_wrong(blocks, patterns, owners)
        if wrong is None:
            if _unread_spared(blocks, unexplained):
                continue
            break
        topic, taker, owner = wrong
        if _narrowed(blocks, taker, routes[patterns.first(topic) or 0].route):
            continue
        if owner > taker:
            pair = blocks[owner], blocks[taker]
            turned = any({id(one), id(other)} == set(map(id, pair)) for one, other in moved)
            if turned and _written_out(blocks, owner, taker):
                continue
            moved.append(pair)
            blocks.insert(taker, blocks.pop(owner))
    try:
        refuse_own_events(routes_of(blocks)[0], settings)
    except ConfigurationError:
        events = f"{settings.events.topic}/#"
        blocks.insert(
            0, Block({"topic": events, "ignore": True}, [], unsure=["the gateway's own events are left out"])
        )
    return blocks


def _unread_spared(blocks: list[Block], unexplained: Mapping[str, str]) -> bool:
    """Let no route take what nobody could read; whether anything was changed for it."""
    routes, owners = routes_of(blocks)
    patterns = Patterns(routes)
    for topic, why in unexplained.items():
        number = patterns.first(topic)
        if number is None:
            continue
        if _narrowed(blocks, owners[number], routes[number].route):
            return True
        if routes[number].route.ignore is not True:
            unsure = [f"{topic} would go to another route: {why}"]
            blocks.insert(0, Block({"topic": _left_out(topic), "ignore": True}, [], unsure=unsure))
            return True
    return False


def _written_out(blocks: list[Block], owner: int, taker: int) -> bool:
    """Let the topics of one of two blocks, which take each other's, stand as they are and in front."""
    for at in sorted((owner, taker), key=lambda at: len(blocks[at].topics)):
        block = blocks[at]
        if "topic" not in block.words or len(block.topics) > _FEW_TOPICS:
            continue
        by_words: dict[str, tuple[dict[str, Any], list[str]]] = {}
        for topic in block.topics:
            words = block.words | _own_words(block.words["topic"], topic)
            if words == block.words or usable(words):
                break
            by_words.setdefault(words["topic"], (words, []))[1].append(topic)
        else:
            said = f"another route is for {block.words['topic']} too, so this topic is written out"
            made = [
                replace(block, words=words, topics=topics, unsure=[*block.unsure, said])
                for words, topics in by_words.values()
            ]
            del blocks[at]
            blocks[min(owner, taker) : min(owner, taker)] = made
            return True
    return False


def _own_words(template: str, topic: str) -> dict[str, str]:
    """A template for one device of its own, as words of a route; none when its name cannot be written."""
    parts, levels = template.split("/"), topic.split("/")
    at = next((i for i, part in enumerate(parts) if part in {"{device_id}", "{device_id...}"}), None)
    if at is None:
        plain = "{metric" not in template and "{region" not in template and not set(topic) & set("+#{}")
        return {"topic": topic} if plain else {}
    device = "/".join(levels[at : at + 1 + len(levels) - len(parts)])
    if not device or set(device) & set("+#{}'\\"):
        return {}
    return {"topic": "/".join([*parts[:at], device, *parts[at + 1 :]]), "device": f"'{device}'"}


def _left_out(topic: str) -> str:
    return "/".join("+" if set(level) & set("+#{}\x00") else level for level in topic.split("/"))


def _precedence(block: Block) -> tuple[int, int, str]:
    routes, _ = routes_of(
        [replace(block, words={**block.words, "ignore": False} if "topic" in block.words else block.words)]
    )
    return 0, -max(map(signs_of, routes), default=0), block.title


def _first_wrong(
    blocks: Sequence[Block], patterns: Patterns, owners: Sequence[int]
) -> tuple[str, int, int] | None:
    for owner, block in enumerate(blocks):
        for topic in block.topics:
            taker = _owner(patterns, owners, topic)
            if taker is not None and taker < owner:
                return topic, taker, owner
    return None


def _owner(patterns: Patterns, owners: Sequence[int], topic: str) -> int | None:
    number = patterns.first(topic)
    return None if number is None else owners[number]


def _narrowed(blocks: list[Block], at: int, route: Route) -> bool:
    """Let a dialect stand for its parts that were seen, when another of them takes what is not its own.

    A part that leaves out all that comes by topics of everybody is written for the names that were seen.
    """
    block = blocks[at]
    dialect, _, part = route.dialect.partition("/")
    takes_all = route.ignore is True and not has_own_word(route)
    if not block.parts or "/" in block.words["dialect"] or (part in block.parts and not takes_all):
        return False
    routes, _ = routes_of([block])
    patterns = Patterns(routes)
    topics: dict[int, list[str]] = {}
    for topic in block.topics:
        number = patterns.first(topic)
        if number is not None:
            topics.setdefault(number, []).append(topic)
    narrow: list[Block] = []
    for number, its in sorted(topics.items()):
        mine = routes[number].route
        if mine.ignore is True and not has_own_word(mine):
            narrow += _by_names(mine.topic, its)
            continue
        name = mine.dialect.partition("/")[2]
        narrow.append(Block({**block.words, "dialect": f"{dialect}/{name}"}, its, parts=(name,)))
    narrow[0].unsure = [
        *block.unsure,
        f"only parts of {dialect} that were seen: others would take what is not their own",
    ]
    blocks[at : at + 1] = narrow
    return True


def _by_names(template: str, topics: Sequence[str]) -> list[Block]:
    """Routes that leave out what comes by topics of a template, below the names that were seen."""
    levels = template.split("/")
    at = next((i for i, level in enumerate(levels) if set(level) & set("+#{")), len(levels) - 1)
    below: dict[str, list[str]] = defaultdict(list)
    for topic in topics:
        below[_left_out("/".join(topic.split("/")[: at + 1]))].append(topic)
    return [Block({"topic": f"{name}/#", "ignore": True}, its) for name, its in sorted(below.items())]


def _counted(blocks: Sequence[Block], heard: Heard, silent: Iterable[str]) -> dict[str, str]:
    """Count what came by each block, and try it on the last messages.

    Returns:
        topics whose last message would be a dead letter, and why.
    """
    routes, owners = routes_of(blocks)
    refused: dict[str, str] = {}
    if not routes:
        return refused
    decoder, patterns = Decoder(routes, Limits()), Patterns(routes)
    for topic in silent:
        owner = _owner(patterns, owners, topic)
        if owner is not None:
            blocks[owner].topics.append(topic)
    for block in blocks:
        devices: set[str] = set()
        block.messages = sum(heard.topics[topic].count for topic in block.topics)
        shown: set[str] = set()
        for topic in block.topics:
            samples = heard.topics[topic].samples
            for sample in samples if len(block.topics) <= _FEW_TOPICS else samples[-1:]:
                found = decoder.decode(sample, Received.of(sample.at))
                devices |= {each.event.device_id for each in found if isinstance(each, Reading)}
                if sample is not samples[-1]:
                    continue
                letter = next(
                    (f"{each.reason}: {each.error}" for each in found if not isinstance(each, Reading)), ""
                )
                if letter:
                    refused[topic] = letter
                number = patterns.first(topic)
                assert number is not None
                route = routes[number].route
                part = route.dialect.partition("/")[2]
                fresh = part not in shown if part else len(shown) < 1
                if fresh and len(block.tried) < _FEW_TOPICS:
                    shown.add(part)
                    readings = [_object(each) for each in found if isinstance(each, Reading)]
                    block.tried.append(Tried(topic, part, readings, route.ignore is True, letter))
        block.devices = len(devices)
    return refused


def _object(reading: Reading) -> dict[str, Any]:
    event = reading.event
    return {
        "device_id": event.device_id,
        "ts": event.ts,
        "key": event.key if reading.keyed else None,
        "region": event.region,
        "tags": event.tags or {},
        "metrics": msgspec.json.decode(event.metrics),
    }


def _summed(unexplained: Mapping[str, str], heard: Heard) -> list[Unexplained]:
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
