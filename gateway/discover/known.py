"""Which dialect a topic's messages are of. Pure.

A dialect is known by a topic that one of its routes matches, with levels before it or without, when the
route makes readings of its messages and no dead letter. Of several the one whose route says most of the
topic counts, and then the one that leaves least of the messages out. Where a topic has little that others
have not, as one word of everybody's, something else of the dialect has to be seen too, and so for most of
what it ignores: of that a topic with no word of the dialect's own, as all below home/, is its own when what
it reads comes by the same name.
"""

from __future__ import annotations

import contextlib
import re
from collections import defaultdict
from functools import cache
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from gateway.decode import Reading, Received
from gateway.decode.dialects import ALSO, complete_routes, names, read
from gateway.decode.mapping.element import BESIDE, LEFT_OUT
from gateway.decode.routes import compile_routes
from gateway.discover.looks import GENERAL
from gateway.discover.named import is_unnamed, naming_decoder
from runtime.errors import ConfigurationError
from runtime.settings import Route

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from gateway.decode.routes import CompiledRoute
    from gateway.discover.heard import Sample

_MOST_LEVELS: Final = 4  # before a dialect's own
_CLEAR: Final = 8  # characters of the constants of a topic, by which a dialect is known without a second word
_LITTLE: Final = 3  # so that three of them in the order of a dialect are its own
_UNREAD: Final = 16  # of the constants of a topic that is left out, by which a dialect is known likewise
_COMPONENT: Final = re.compile(r"[^/]+/status/[a-z][a-z0-9_]*:([0-9]+)")
_PORTAL: Final = re.compile(r"N/[0-9a-f]{12}/[a-z0-9]+/[0-9]+/.+")
_LOOKED_AT: Final = 3  # of the messages of a topic
_EVERYBODYS: Final = GENERAL - {"tele", "stat"} | {"home", "version", "online", "debug", "LWT"}
"""Levels that are in topics of anybody; `tele` and `stat` in front are Tasmota's."""

_NAMED: Final = re.compile(r"\{[^{}]*\}")
_TOPIC_FIRST: Final = frozenset({"tasmota"})
"""Whose devices may be told to name themselves first (FullTopic): %topic%/%prefix%/."""

_DEVICE: Final = "{device_id}/"


class Known(NamedTuple):
    """Of which dialect a topic is.

    Attributes:
        prefix: levels before those of the dialect, empty or with a slash at the end.
        name: what the topic says where the dialect's topics differ first.
        ignored: whether the dialect leaves its messages out, or reads of them only that a device is online:
            what many send, and in the same words.
        clear: whether it is known by this alone; of what is left out, whether a word of its own is in it.
        rank: how sure that is.
    """

    dialect: str
    part: str
    prefix: str
    rank: tuple[int, ...]
    name: str
    ignored: bool = False
    clear: bool = False


class _Dialect:
    """One, ready to be tried.

    Raises:
        ConfigurationError: it cannot be used, as when its format is missing.
    """

    def __init__(self, name: str, before: str = "") -> None:
        self.name = name
        self._before = before
        raw: dict[str, Any] = {"route": [{"dialect": name, "prefix": before}]}
        complete_routes(raw)
        self.routes = compile_routes(msgspec.convert(raw["route"], list[Route]))
        self._patterns = Patterns(self.routes)
        self.decoder = naming_decoder(self.routes)
        called = {name, name.replace("-", "_"), *(also for also, of in ALSO.items() if of == name)}
        self._signs = [
            max(signs_of(route), _CLEAR * (not called.isdisjoint(route.route.topic.split("/"))))
            for route in self.routes
        ]

    def judge(self, topic: str, prefix: str, samples: Sequence[Sample]) -> Known | None:
        """What it makes of messages; None when they are none of its own."""
        own = topic.removeprefix(prefix)
        number = self._patterns.first(own)
        if number is None:
            return None
        signs, route = self._signs[number], self.routes[number].route
        part = route.dialect.partition("/")[2]
        name = name_of(route.topic, own)
        prefix += self._before
        if route.ignore is True or route.presence:
            return Known(self.name, part, prefix, (signs, 0), name, ignored=True, clear=has_own_word(route))
        before = self._left_out()
        timed = keyed = read_ = False
        for sample in samples:
            found = self.decoder.decode(sample._replace(topic=own), Received.of(sample.at))
            for each in found:
                if isinstance(each, Reading):
                    timed = timed or each.event.ts != each.event.received_at
                    keyed = keyed or each.keyed
                elif not is_unnamed(each):
                    return None
            read_ = read_ or bool(found)
        if not read_:  # it says nothing now
            return Known(self.name, part, prefix, (signs, 0), name, ignored=True, clear=has_own_word(route))
        if _shows(route, own, samples):
            signs = max(signs, _CLEAR)
        spoken = bool(timed or keyed or route.each or route.format not in {"json", "value"})
        clear = signs >= _CLEAR or (spoken and signs * 2 >= _CLEAR)
        return Known(
            self.name, part, prefix, (signs, 1, int(spoken), before - self._left_out()), name, clear=clear
        )

    def _left_out(self) -> int:
        counts = self.decoder.drops.counts
        told = {key: count for key, count in counts.items() if key[1] != BESIDE}
        return sum(count for (*_, reason), count in told.items() if reason == LEFT_OUT)


@cache
def _dialect(name: str, before: str = "") -> _Dialect:
    return _Dialect(name, before)


class Patterns:
    """Which of several routes a topic is for, without a word about those that it is not for."""

    def __init__(self, routes: Sequence[CompiledRoute]) -> None:
        bodies = (re.sub(r"\(\?P<\w+>", "(?:", route.pattern.pattern) for route in routes)
        self._first = re.compile("|".join(f"({body})" for body in bodies), re.DOTALL)

    def first(self, topic: str) -> int | None:
        """The number of the first; None when there is none."""
        found = self._first.fullmatch(topic)
        return None if found is None or found.lastindex is None else found.lastindex - 1


def outside_of_all() -> list[str]:
    """Filters for topics of dialects that # does not match, as they begin with $ (MQTT5 §4.7.2)."""
    topics = [route["topic"] for name in names() for route in read(name).routes.values()]
    return sorted({f"{topic.partition('/')[0]}/#" for topic in topics if topic.startswith("$")})


def name_of(template: str, topic: str) -> str:
    """The level of a topic at which those of a template differ first."""
    levels = template.split("/")
    at = next((i for i, level in enumerate(levels) if set(level) & set("+#{")), len(levels) - 1)
    return "/".join(topic.split("/")[at : at + 1])


def has_own_word(route: Route) -> bool:
    """Whether a topic of a route has a word in it that topics of others have not."""
    words = (_NAMED.sub("", level) for level in route.topic.split("/"))
    return any(word not in _EVERYBODYS for word in words if word.strip("+#"))


def signs_of(route: CompiledRoute) -> int:
    """How many characters of a topic a route says; a word that is in topics of everybody says little."""
    words = (_NAMED.sub("", level).strip("+#") for level in route.route.topic.split("/"))
    return sum(_LITTLE if word in GENERAL else len(word) for word in words if word)


@cache
def dialects() -> Dialects:
    """All of them, ready."""
    return Dialects()


class Dialects:
    """All of them that can be used."""

    def __init__(self) -> None:
        self._all: list[_Dialect] = []
        for name in names():
            with contextlib.suppress(ConfigurationError, msgspec.ValidationError):
                self._all.append(_dialect(name))
                if name in _TOPIC_FIRST:
                    self._all.append(_dialect(name, _DEVICE))
        self._any = Patterns([route for each in self._all for route in each.routes])

    def know(self, samples: dict[str, Sequence[Sample]]) -> dict[str, Known]:
        """Which dialect each topic is of, where it is known.

        Args:
            samples: of each topic.
        """
        judged = {
            topic: [
                each for prefix in _prefixes(topic) for each in self._judged(topic, prefix, its[-_LOOKED_AT:])
            ]
            for topic, its in samples.items()
        }
        clear: set[tuple[str, str]] = set()
        parts: dict[tuple[str, str], set[str]] = defaultdict(set)
        for all_ in judged.values():
            readings = [each for each in all_ if not each.ignored]
            if readings and (best := max(readings, key=_rank)).clear:
                clear.add((best.dialect, best.prefix))
            for each in all_:
                parts[each.dialect, each.prefix].add(each.part if not each.ignored else "")
                if each.ignored and each.clear and each.rank[0] >= _UNREAD:
                    clear.add((each.dialect, each.prefix))
        clear |= {own for own, its in parts.items() if len(its) > 1 and any(its)}
        seen = {
            (each.dialect, each.prefix, each.name)
            for all_ in judged.values()
            for each in all_
            if not each.ignored and (each.dialect, each.prefix) in clear
        }
        mine = {
            topic: own
            for topic, all_ in judged.items()
            if (
                own := [each for each in all_ if (each.dialect, each.prefix) in clear and _is_own(each, seen)]
            )
        }

        read_ = _shared_out({topic: own for topic, own in mine.items() if not all(e.ignored for e in own)})
        readers = {(each.dialect, each.prefix) for each in read_.values()}
        # What nobody reads goes with the dialect that reads what stands beside it.
        return {
            topic: read_.get(topic)
            or max(own, key=lambda each: ((each.dialect, each.prefix) in readers, _rank(each)))
            for topic, own in mine.items()
        }

    def _judged(self, topic: str, prefix: str, samples: Sequence[Sample]) -> Iterable[Known]:
        if self._any.first(topic.removeprefix(prefix)) is None:
            return
        for dialect in self._all:
            if (known := dialect.judge(topic, prefix, samples)) is not None:
                yield known


def _shared_out(mine: dict[str, list[Known]]) -> dict[str, Known]:
    """Which dialect each topic is of: of those that say most of it the one that explains most topics.

    That is asked again of the topics that are left: what only seemed to be of a dialect does not count.
    """
    best = {topic: max(each.rank[:2] for each in own) for topic, own in mine.items()}
    of: dict[tuple[str, str], dict[str, Known]] = defaultdict(dict)
    for topic, own in mine.items():
        for each in own:
            if each.rank[:2] == best[topic]:
                of[each.dialect, each.prefix][topic] = each
    found: dict[str, Known] = {}
    heap = [(*_worth(topics), group) for group, topics in of.items()]
    heapify(heap)
    while heap:
        *worth, group = heappop(heap)
        topics = {topic: each for topic, each in of[group].items() if topic not in found}
        if topics and _worth(topics) != tuple(worth):  # some went to another since
            heappush(heap, (*_worth(topics), group))
            of[group] = topics
            continue
        found |= topics
    return found


def _worth(topics: dict[str, Known]) -> tuple[int, int, int, int]:
    """How much a dialect explains, the more the smaller."""
    all_ = topics.values()
    spoken = sum(sum(each.rank[2:3]) for each in all_)
    left_out = sum(sum(each.rank[3:4]) for each in all_)
    return -spoken, -len(topics), -left_out, max(len(each.prefix) for each in all_)


def _is_own(known: Known, seen: Collection[tuple[str, str, str]]) -> bool:
    return not known.ignored or known.clear or (known.dialect, known.prefix, known.name) in seen


def _shows(route: Route, topic: str, samples: Sequence[Sample]) -> bool:
    """Whether messages say of what dialect they are, where topics have no word of their own.

    A Shelly of the second generation says the number of a component in the topic and in the status of it. An
    installation of Victron is called by twelve digits, and its services have numbers.
    """
    if route.dialect == "victron/value":
        return bool(_PORTAL.fullmatch(topic))
    component = _COMPONENT.fullmatch(topic)
    if route.dialect != "shelly-gen2/status" or component is None:
        return False
    for sample in samples:
        try:
            status = msgspec.json.decode(sample.payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False
        number = status.get("id") if isinstance(status, dict) else None
        if type(number) is not int or str(number) != component[1]:
            return False
    return bool(samples)


def _rank(known: Known) -> tuple[Any, ...]:
    return (*known.rank[:2], -len(known.prefix), *known.rank[2:])


def _prefixes(topic: str) -> list[str]:
    levels = topic.split("/")
    return [
        "".join(f"{level}/" for level in levels[:count]) for count in range(min(_MOST_LEVELS, len(levels)))
    ]
