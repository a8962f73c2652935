"""Routes in an order in which each topic comes to its own. Pure.

The one that says more of a topic comes first. Topics of no route that another one would take are left out
by a route of their own, so that they become no dead letters.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from gateway.decode.routes import refuse_own_events
from gateway.discover.block import Block, routes_of
from gateway.discover.known import Patterns, has_own_word, signs_of
from gateway.discover.looks import look_of, look_of_topic
from gateway.discover.tried import usable
from runtime.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runtime.settings import Route, Settings

_SORTING: Final = 200
_FEW_TOPICS: Final = 40


def in_order(blocks: list[Block], unexplained: Mapping[str, str], settings: Settings) -> list[Block]:
    """The blocks in an order in which each topic comes to its own."""
    blocks = sorted(map(_named_first, blocks), key=_precedence)
    moved: list[tuple[Block, Block]] = []
    for _ in range(_SORTING):
        routes, owners = routes_of(blocks)
        if not routes:
            return blocks
        patterns = Patterns(routes)
        wrong = _first_wrong(blocks, patterns, owners)
        if wrong is None:
            if _unread_narrowed(blocks, unexplained):
                continue
            _unread_spared(blocks, unexplained)
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
    routes, owners = routes_of(blocks)
    for at in {at for at, route in zip(owners, routes, strict=True) if route.topic_filter in {"#", "+/#"}}:
        blocks[at].unsure.append(
            "subscribes #, which is all that the broker carries: what comes later by topics of no route "
            "becomes dead letters"
        )
    try:
        refuse_own_events(routes_of(blocks)[0], settings)
    except ConfigurationError:
        events = f"{settings.events.topic}/#"
        blocks.insert(
            0, Block({"topic": events, "ignore": True}, [], unsure=["the gateway's own events are left out"])
        )
    return blocks


def _named_first(block: Block) -> Block:
    """A block whose topic has the word at its first level that was taken for the only device.

    With a name there its route would subscribe what the whole site has at the other levels.
    """
    template = block.words.get("topic", "")
    firsts = {topic.partition("/")[0] for topic in block.topics}
    if "dialect" in block.words or not template.startswith("{device_id}/") or len(firsts) > 1:
        return block
    words = block.words | _own_words(template, block.topics[0])
    is_word = all(look_of(first) == first for first in firsts)
    return replace(block, words=words) if is_word and not usable(words) else block


def _unread_narrowed(blocks: list[Block], unexplained: Mapping[str, str]) -> bool:
    """Let no dialect take by a part that was not seen what nobody could read; whether one did."""
    routes, owners = routes_of(blocks)
    patterns = Patterns(routes)
    taken = {number for topic in unexplained if (number := patterns.first(topic)) is not None}
    return any(_narrowed(blocks, owners[number], routes[number].route) for number in sorted(taken))


def _unread_spared(blocks: list[Block], unexplained: Mapping[str, str]) -> None:
    """Leave out what nobody could read, and another route would take, or its subscription brings along."""
    routes, _ = routes_of(blocks)
    patterns = Patterns(routes)
    filters = [_as_pattern(route.topic_filter) for route in routes if route.route.ignore is not True]
    alike: dict[tuple[str, str, bool], list[str]] = defaultdict(list)
    for topic, why in unexplained.items():
        number = patterns.first(topic)
        if number is not None and routes[number].route.ignore is True:
            continue
        if number is not None or any(each.fullmatch(topic) for each in filters):
            alike[look_of_topic(topic), why, number is not None].append(topic)
    good = [topic for block in blocks for topic in block.topics]
    for (_, why, taken), topics in alike.items():
        shared = _shared_filter(topics)
        reason = "another route would take it" if taken else "it comes along with what others subscribe"
        unsure = [f"left out, as {reason}, and nobody reads it: {why}"]
        if any(map(_as_pattern(shared).fullmatch, good)):
            wanted = [_left_out(topic) for topic in topics[:_FEW_TOPICS]]
            if len(topics) > _FEW_TOPICS:
                unsure.append(
                    f"{len(topics) - _FEW_TOPICS:,} topics like it are not, and become dead letters"
                )
        else:
            wanted = [shared]
        made = [Block({"topic": each, "ignore": True}, [], unsure=unsure) for each in wanted]
        blocks[0:0] = made


def _shared_filter(topics: Sequence[str]) -> str:
    """What topics that look alike have in common, as a filter."""
    levels = zip(*(_left_out(topic).split("/") for topic in topics), strict=True)
    return "/".join(names[0] if len(set(names)) == 1 else "+" for names in levels)


def _as_pattern(topic_filter: str) -> re.Pattern[str]:
    own = topic_filter.split("/", 2)[-1] if topic_filter.startswith("$share/") else topic_filter
    if own == "#":
        return re.compile(r"[^$].*", re.DOTALL)
    forms = {"+": "[^/]*", "#": ".*"}
    body = "/".join(forms.get(level) or re.escape(level) for level in own.split("/"))
    return re.compile(f"{body[:-3]}(?:/.*)?" if own.endswith("/#") else body, re.DOTALL)


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
    """What is left out of a dialect stands before it, and what says most of a topic before others."""
    ignored = block.words.get("ignore") is True
    routes, _ = routes_of(
        [replace(block, words={**block.words, "ignore": False} if ignored else block.words)]
    )
    left_out = ignored and "dialect" in block.words
    return -left_out, -max(map(signs_of, routes), default=0), block.title


def _first_wrong(
    blocks: Sequence[Block], patterns: Patterns, owners: Sequence[int]
) -> tuple[str, int, int] | None:
    for owner, block in enumerate(blocks):
        for topic in block.topics:
            taker = owner_of(patterns, owners, topic)
            if taker is not None and taker < owner:
                return topic, taker, owner
    return None


def owner_of(patterns: Patterns, owners: Sequence[int], topic: str) -> int | None:
    """Which block takes a topic; None when none does."""
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
    """Routes that leave out what comes by topics of a template, of the names that were seen."""
    levels = template.split("/")
    at = next((i for i, level in enumerate(levels) if set(level) & set("+#{")), len(levels) - 1)
    rest = ["#"] if "..." in levels[at] else [_wild(level) for level in levels[at + 1 :]]
    below: dict[str, list[str]] = defaultdict(list)
    for topic in topics:
        below["/".join([_left_out("/".join(topic.split("/")[: at + 1])), *rest])].append(topic)
    return [Block({"topic": name, "ignore": True}, its) for name, its in sorted(below.items())]


def _wild(level: str) -> str:
    return level if level == "#" or not set(level) & set("+{") else "#" if "..." in level else "+"
