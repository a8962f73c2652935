"""Which dialect a topic's messages are of. Pure.

A dialect is known by a topic that one of its routes matches, with levels before it or without, when the route makes
readings of its messages and no dead letter. Of several the one whose route says most of the topic counts, and
then the one that leaves least of the messages out. What a dialect ignores is taken for its own where something else
of it was seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from gateway.decode import Decoder, Limits, Received, Reading
from gateway.decode.dialects import complete_routes, names
from gateway.decode.routes import Router, compile_routes
from runtime.errors import ConfigurationError, Reject
from runtime.settings import Route

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gateway.decode.routes import CompiledRoute
    from gateway.discover.heard import Sample

_MOST_LEVELS: Final = 4  # before a dialect's own
_FEW_SIGNS: Final = 6  # of the constants of a topic, too few to know a dialect by
_WEAK: Final = 12  # likewise, so few that something else has to speak for it


class Known(NamedTuple):
    """Of which dialect a topic is.

    Attributes:
        prefix: levels before those of the dialect, empty or with a slash at the end.
        ignored: whether the dialect leaves its messages out.
        rank: how sure that is.
    """

    dialect: str
    part: str
    prefix: str
    ignored: bool
    rank: tuple[int, ...]


class _Dialect:
    """One, ready to be tried."""

    def __init__(self, name: str) -> None:
        self.name = name
        raw: dict[str, Any] = {"route": [{"dialect": name}]}
        complete_routes(raw)
        self.routes = compile_routes(msgspec.convert(raw["route"], list[Route]))
        self.router = Router(self.routes)
        self.signs = [signs_of(route) for route in self.routes]

    def judge(self, topic: str, prefix: str, samples: Sequence[Sample]) -> Known | None:
        """What it makes of messages; None when they are none of its own."""
        own = topic.removeprefix(prefix)
        try:
            number = self.router.match(own).number
        except Reject:
            return None
        signs, route = self.signs[number], self.routes[number].route
        if signs < (_FEW_SIGNS if prefix else 1):
            return None
        part = route.dialect.partition("/")[2]
        if route.ignore is True:
            return Known(self.name, part, prefix, True, (0, signs, 0))
        decoder = Decoder(self.routes, Limits())
        timed = keyed = 0
        for sample in samples:
            found = decoder.decode(sample._replace(topic=own), Received.of(sample.at))
            if not found or not all(isinstance(each, Reading) for each in found):
                return None
            timed += any(isinstance(each, Reading) and each.event.ts != each.event.received_at for each in found)
            keyed += any(isinstance(each, Reading) and each.keyed for each in found)
        spoken = bool(timed or keyed or route.each or route.format not in {"json", "value"})
        if signs < _WEAK and not spoken and route.format != "value":
            return None
        left_out = sum(count for (*_, reason), count in decoder.drops.counts.items() if reason == "left_out")
        return Known(self.name, part, prefix, False, (1, signs, int(spoken), -left_out))


def signs_of(route: CompiledRoute) -> int:
    """How many characters of a topic a route says."""
    levels = route.topic_filter.split("/")
    return sum(len(level) for level in levels if level not in {"+", "#", ""})


class Dialects:
    """All of them that can be used."""

    def __init__(self) -> None:
        self._all: list[_Dialect] = []
        for name in names():
            try:
                self._all.append(_Dialect(name))
                Decoder(self._all[-1].routes, Limits())
            except (ConfigurationError, msgspec.ValidationError):
                self._all = [each for each in self._all if each.name != name]

    def know(self, samples: dict[str, Sequence[Sample]]) -> dict[str, Known]:
        """Which dialect each topic is of, where it is known.

        Args:
            samples: of each topic.
        """
        found: dict[str, Known] = {}
        ignored: dict[str, list[Known]] = {}
        for topic, its in samples.items():
            judged = [each for prefix in _prefixes(topic) for each in self._judged(topic, prefix, its)]
            readings = [each for each in judged if not each.ignored]
            ignored[topic] = [each for each in judged if each.ignored]
            if readings:
                found[topic] = max(readings, key=lambda each: (each.rank, -len(each.prefix)))
        established = {(each.dialect, each.prefix) for each in found.values()}
        for topic, judged in ignored.items():
            own = [each for each in judged if (each.dialect, each.prefix) in established]
            if own and topic not in found:
                found[topic] = max(own, key=lambda each: each.rank)
        return found

    def _judged(self, topic: str, prefix: str, samples: Sequence[Sample]) -> Iterable[Known]:
        for dialect in self._all:
            if (known := dialect.judge(topic, prefix, samples)) is not None:
                yield known


def _prefixes(topic: str) -> list[str]:
    levels = topic.split("/")
    return ["".join(f"{level}/" for level in levels[:count]) for count in range(min(_MOST_LEVELS, len(levels)))]
