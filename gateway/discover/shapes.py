"""Topics that differ in names only, put together. Pure.

From the first level to the last: two names of a level are of one kind when they look alike, as addresses
and numbered names do, or when the same follows both of them, as the same metrics follow all machines. A
level whose names are of one kind varies; others are constants and part ways. A date varies tomorrow.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.discover.looks import dates_in, look_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VARIES: Final = None
Levels = tuple["str | None", ...]
"""Of a shape: a constant, or None where names vary."""


class _Topic(NamedTuple):
    levels: list[str]
    mark: str
    dates: dict[int, str]


def shapes_of(topics: Mapping[str, str]) -> dict[Levels, list[str]]:
    """The shapes of topics, with the topics of each.

    Args:
        topics: that carry messages of one format, and what their messages have in common with others.
    """
    by_length: dict[int, list[_Topic]] = defaultdict(list)
    for topic, mark in topics.items():
        levels = topic.split("/")
        by_length[len(levels)].append(_Topic(levels, mark, dates_in(levels)))
    found: dict[Levels, list[str]] = {}
    for all_ in by_length.values():
        for shape, members in _split(all_, 0):
            found.setdefault(shape, []).extend("/".join(each.levels) for each in members)
    return _merged(found, topics)


def _merged(found: dict[Levels, list[str]], marks: Mapping[str, str]) -> dict[Levels, list[str]]:
    """Shapes that others cover are no shapes of their own, when their messages are of one kind."""
    wide = sorted(found, key=lambda shape: -shape.count(VARIES))
    for i, shape in enumerate(wide):
        if shape.count(VARIES) == 0 or shape not in found:
            continue
        for other in wide[i + 1 :]:
            if other not in found or not covers(shape, other):
                continue
            if {marks[topic] for topic in found[shape]} & {marks[topic] for topic in found[other]}:
                found[shape] += found.pop(other)
    return found


def covers(shape: Levels, other: Levels) -> bool:
    """Whether all topics of the other shape are of this one."""
    return len(shape) == len(other) and all(
        mine is VARIES or mine == its for mine, its in zip(shape, other, strict=True)
    )


def _split(topics: Sequence[_Topic], at: int) -> list[tuple[Levels, list[_Topic]]]:
    if at == len(topics[0].levels):
        return [((), list(topics))]
    found: list[tuple[Levels, list[_Topic]]] = []
    for kind in _kinds(topics, at):
        names = {topic.levels[at] for topic in kind}
        level = VARIES if len(names) > 1 or at in kind[0].dates else next(iter(names))
        found += [((level, *rest), members) for rest, members in _split(kind, at + 1)]
    return found


def _kinds(topics: Sequence[_Topic], at: int) -> list[list[_Topic]]:
    """The topics by kinds of the names of a level."""
    names: dict[str, list[_Topic]] = defaultdict(list)
    for topic in topics:
        names[topic.levels[at]].append(topic)
    if len(names) == 1:
        return [list(topics)]
    leader: dict[str, str] = {name: name for name in names}

    def lead(name: str) -> str:
        while leader[name] != name:
            leader[name] = name = leader[leader[name]]
        return name

    first: dict[str, str] = {}
    for name, members in names.items():
        marks = {"/".join((*map(look_of, topic.levels[at + 1 :]), topic.mark)) for topic in members}
        look = "{date}" if at in members[0].dates else look_of(name)
        if look != name:
            marks.add(f"look {look}")
        for mark in marks:
            leader[lead(name)] = lead(first.setdefault(mark, name))
    kinds: dict[str, list[_Topic]] = defaultdict(list)
    for name, members in names.items():
        kinds[lead(name)] += members
    return list(kinds.values())
