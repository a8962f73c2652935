"""What is known of messages and elements of one shape: which of their values is what, found out once. Pure.

Where a value goes depends on the names around it, on the kinds of all values, and on those texts that name a
metric (`naming`), not on the values themselves, as long as the paths of a route are names. So when a shape
comes for the second time, one like it is read that has a mark in the place of each value: where a mark comes
out, there goes what stands in its place from now on. Whatever cannot be said so is read as ever.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gateway.decode.drops import Alike
from gateway.decode.fields import SCALARS
from gateway.decode.glance import Nth
from gateway.decode.known import Worked
from gateway.decode.mapping.marks import MARK, Marks, Unlike, in_order, spread
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.decode.fields import Unfit
    from gateway.decode.glance import Glance
    from gateway.decode.known import Room
    from gateway.decode.mapping.naming import Naming
    from gateway.decode.mapping.parts import Part
    from gateway.decode.mapping.plain import Mapped
    from gateway.decode.mapping.tags import Tags
    from gateway.decode.mapping.words import Words
    from gateway.decode.routes import Matched

_VALUE_BYTES: Final = 300  # of what is kept for each value, beside the names
_LONG: Final = 8_000  # characters of all names
_PLANNED: Final = 60  # microseconds
_MARKS: Final = frozenset({float, str})
_UNKNOWN: Final = object()


class Tagged:
    """Tags that were found good.

    Attributes:
        tags: they.
        of: what topics say with them, for who asks that.
    """

    __slots__ = ("of", "tags")

    def __init__(self, tags: dict[str, str]) -> None:
        self.tags = tags
        self.of: dict[str, Matched] = {}


Known = tuple["Mapped", Tagged | None, Alike | None, "Sequence[tuple[str, str]]"]
"""What an object says: what is what, its tags, and what is left out by its shape and besides."""


class Plan(NamedTuple):
    """Where the values of an object go, by their places.

    Attributes:
        said: picks device, key, time and region, None for what there is not.
        tags: names of tags.
        tagged: picks what they are.
        metrics: names of metrics.
        measured: picks what they are.
        same: picks values that have to be equal, of elements that are one reading.
        alike: what is in none of them, and why; None when there is nothing.
    """

    said: Callable[[Sequence[Any]], tuple[Any, Any, Any, Any]]
    tags: tuple[str, ...]
    tagged: Callable[[Sequence[Any]], tuple[Any, ...]]
    metrics: tuple[str, ...]
    measured: Callable[[Sequence[Any]], tuple[Any, ...]]
    same: Sequence[Callable[[Sequence[Any]], tuple[Any, ...]]]
    alike: Alike | None

    def of(self, order: Sequence[int]) -> Plan:
        """The same of leaves that stand elsewhere: for each of its own places, and for none, where."""
        return self._replace(
            said=_picker(self.said(order)),
            tagged=_picker(self.tagged(order)),
            measured=_picker(self.measured(order)),
            same=[_picker(pick(order)) for pick in self.same],
        )


class _Seen(NamedTuple):
    """What is known of payloads that are alike at a glance.

    Attributes:
        plan: of their leaves, and what is the same in all of them.
        constants: the latter; None at their end.
    """

    plan: Plan
    constants: list[Any]


def nothing_seen(_glance: Glance, _metric: str | None) -> Known | None:
    """The same of what is known at a glance."""
    return None


def nothing_known(_value: Any, _metric: str | None) -> Known | None:  # noqa: ANN401  # a message is any value
    """Of messages where the values decide what is what."""
    return None


class Learned:
    """Of the messages of one route, or of their elements.

    Args:
        read: reads one as ever, with the name that its topic says: one reading, and what is in none.
        words: change metrics.
        tags: of the route.
        unfit: takes what is left out by words and tags.
        room: what is remembered takes its bytes of that.
        naming: finds texts that name metrics; None where there are none.
    """

    def __init__(  # noqa: PLR0917  # of two places
        self,
        read: Callable[[Any, str | None], Part | None],
        words: Words,
        tags: Tags,
        unfit: Unfit,
        room: Room,
        naming: Naming | None = None,
    ) -> None:
        self._read, self._naming = read, naming
        self._words, self._tags, self._unfit = words, tags, unfit
        self._room = room
        self._plans: Worked[Plan | None] = Worked(room)
        self._tagged: Worked[Tagged] = Worked(room)
        self._seen: Worked[_Seen] = Worked(room)
        self._last: tuple[list[Any], Plan | None] = ([], None)  # as one device sends what it sent before

    def find(self, value: Any, metric: str | None) -> Known | None:  # noqa: ANN401  # a message is any value
        """What a message or element says; None where it is to be read as ever.

        Args:
            value: it.
            metric: what the topic calls it.
        """
        shape: list[Any] = [metric]
        leaves: list[Any] = []
        try:
            if self._naming is not None:
                shape += self._naming.names(value)
            elif type(value) is not dict:
                return None
            spread(value, shape, leaves)
        except Unlike:
            return None
        last, plan = self._last
        if shape != last:
            plan = self._find(shape, value, metric)
        if plan is None:
            return None
        leaves.append(None)
        return self._told(plan, leaves)

    def see(self, glance: Glance, metric: str | None) -> Known | None:
        """The same of a payload that was only glanced at; None where it is to be read as ever."""
        key = (metric, *glance.key)
        seen = self._seen.get(key) or self._see(key, glance, metric)
        if seen is None:
            return None
        leaves = glance.leaves
        if not SCALARS.issuperset(map(type, leaves)):
            return None
        leaves += seen.constants
        return self._told(seen.plan, leaves)

    def _see(self, key: tuple[object, ...], glance: Glance, metric: str | None) -> _Seen | None:
        """What there is to know of payloads like this; None where it is not known yet, or too much."""
        value = glance.value
        if self.find(value, metric) is None or not self._room.again(hash(key) ^ id(self._seen)):
            return None
        _, plan = self._last
        order: list[int] = []
        constants: list[Any] = []
        first = len(glance.leaves)
        for leaf in in_order(glance.places):
            if type(leaf) is Nth:
                order.append(leaf.place)
            else:
                order.append(first + len(constants))
                constants.append(leaf)
        order.append(first + len(constants))
        constants.append(None)
        self._room.spend(_PLANNED)
        assert plan is not None
        seen = _Seen(plan.of(order), constants)
        return self._seen.keep(key, seen, _VALUE_BYTES * len(order) + 4 * sum(map(_characters, constants)))

    def _told(self, plan: Plan, leaves: list[Any]) -> Known | None:
        """What leaves say by a plan, None being the last; None where it is to be read as ever."""
        if plan.same and _differ(plan.same, leaves):
            return None
        tagged = None
        if plan.tags:
            said = plan.tags, plan.tagged(leaves)
            tagged = self._tagged.get(said) or self._tag(said)
            if tagged is None:
                return None
        metrics = dict(zip(plan.metrics, plan.measured(leaves)))  # noqa: B905  # as long as each other
        left_out: Sequence[tuple[str, str]] = ()
        if self._words.by_value:
            try:
                self._words.read(metrics, self._unfit)
                left_out = self._unfit.fields[:]
            finally:
                self._unfit.fields.clear()
        device_id, name, time, region = plan.said(leaves)
        return (device_id, name, time, region, metrics, True), tagged, plan.alike, left_out

    def _tag(self, said: tuple[tuple[str, ...], tuple[str, ...]]) -> Tagged | None:
        """Tags that were not checked before; None where one of them cannot be one."""
        tags: dict[str, str] = {}
        names, texts = said
        try:
            for name, text in zip(names, texts, strict=True):
                self._tags.add(tags, name, text)
            if self._unfit.fields:
                return None
        except Reject:
            return None
        finally:
            self._unfit.fields.clear()
        return self._tagged.keep(said, Tagged(tags), _VALUE_BYTES * len(names) + 4 * sum(map(len, texts)))

    def _find(self, shape: list[Any], value: Any, metric: str | None) -> Plan | None:  # noqa: ANN401  # likewise
        """The plan of a shape; None of one that is new, or that has no plan."""
        key = (*shape,)
        plan: Any = self._plans.get(key, _UNKNOWN)
        if plan is _UNKNOWN:
            plan = self._meet(key, value, metric)
        if plan is not None:
            self._last = shape, plan
        return plan  # type: ignore[no-any-return]  # one or the other

    def _meet(self, key: tuple[Any, ...], value: Any, metric: str | None) -> Plan | None:  # noqa: ANN401  # likewise
        if not self._room.again(hash(key) ^ id(self)):
            return None
        size = sum(_characters(part) for part in key)
        if size > _LONG:
            return None
        self._room.spend(_PLANNED + 2 * len(key))
        more_bytes = 4 * size + _VALUE_BYTES * len(key)
        return self._plans.work(key, more_bytes, lambda: self._plan(value, metric))

    def _plan(self, value: Any, metric: str | None) -> Plan | None:  # noqa: ANN401  # likewise
        marks = Marks()
        marked = marks.of(value) if self._naming is None else self._naming.marked(value, marks)
        part = self._read(marked, metric)
        if part is None or part.mapped is None or part.online is not None:
            return None
        *names, metrics, _ = part.mapped
        found = [name for name in names if name is not None]
        found += [*part.tags.values(), *metrics.values()]
        if not _MARKS.issuperset(map(type, found)) or not marks.given.issuperset(found):
            return None  # something was made of values, and not put somewhere
        if any(MARK in name for name in (*metrics, *part.tags, *(name for name, _ in part.left_out))):
            return None  # or became a name
        places = marks.places(marked)
        first = {mark: at[0] for mark, at in places.items()}
        return Plan(
            _picker([first.get(name, -1) for name in names]),
            tuple(part.tags),
            _picker([first[tag] for tag in part.tags.values()]),
            tuple(metrics),
            _picker([first[each] for each in metrics.values()]),
            [_picker(at) for at in places.values() if len(at) > 1],
            Alike(tuple(part.left_out)) if part.left_out else None,
        )


def _differ(picks: Sequence[Callable[[Sequence[Any]], tuple[Any, ...]]], leaves: Sequence[Any]) -> bool:
    """Whether some of what is picked is not equal, or not of one type."""
    for pick in picks:
        same = pick(leaves)
        first, size = same[0], len(same)
        if same.count(first) != size or [*map(type, same)].count(type(first)) != size:
            return True
    return False


def _characters(of: object) -> int:
    """Of a name in a shape."""
    return len(of) if type(of) is str else 0


def _picker(places: Sequence[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """What picks the values at some places."""
    if len(places) > 1:
        return itemgetter(*places)
    if not places:
        return lambda _: ()
    (place,) = places
    return lambda leaves: (leaves[place],)
