"""What is known of messages and elements of one shape: which of their values is what, found out once. Pure.

Where a value goes depends on the names around it, on the kinds of all values, and on those texts that name a
metric (`naming`), not on the values themselves, as long as the paths of a route are names. So when a shape
comes for the second time, one like it is read that has a mark in the place of each value: where a mark comes
out, there goes what stands in its place from now on. Whatever cannot be said so is read as ever.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gateway.decode.known import Worked
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from gateway.decode.fields import Unfit
    from gateway.decode.mapping.naming import Naming
    from gateway.decode.mapping.parts import Part
    from gateway.decode.mapping.plain import Mapped
    from gateway.decode.mapping.tags import Tags
    from gateway.decode.mapping.words import Words

_PLANS_BYTES: Final = 8_000_000
_TAGS_BYTES: Final = 4_000_000
_VALUE_BYTES: Final = 300  # of what is kept for each value, beside the names
MOST: Final = 300  # values, and objects and arrays around them
_LONG: Final = 8_000  # characters of all names
_MOST_ONCE: Final = 4096  # shapes that came once
_NUMBER, _TEXT, _TRUTH, _NULL, OBJECT, ARRAY = range(6)
kind_of: Final = {
    float: _NUMBER, int: _NUMBER, str: _TEXT, bool: _TRUTH, type(None): _NULL, dict: OBJECT, list: ARRAY,
}.__getitem__  # fmt: skip
_MARKS: Final = frozenset({float, str})
_MARK: Final = "\ue000"  # of private use: no text of a person begins so
_LATE: Final = 2.0**30  # a number that is a time since 1970, whatever it is taken for


class Plan(NamedTuple):
    """Where the values of an object go, by their places.

    Attributes:
        said: picks device, key, time and region, None for what there is not.
        tags: names of tags.
        tagged: picks what they are.
        metrics: names of metrics.
        measured: picks what they are.
        same: picks values that have to be equal, of elements that are one reading.
        left_out: what is in none of them, and why.
    """

    said: Callable[[Sequence[Any]], tuple[Any, Any, Any, Any]]
    tags: tuple[str, ...]
    tagged: Callable[[Sequence[Any]], tuple[Any, ...]]
    metrics: tuple[str, ...]
    measured: Callable[[Sequence[Any]], tuple[Any, ...]]
    same: Sequence[Callable[[Sequence[Any]], tuple[Any, ...]]]
    left_out: Sequence[tuple[str, str]]


class Known(NamedTuple):
    """What an object says."""

    mapped: Mapped
    tags: dict[str, str]
    left_out: Sequence[tuple[str, str]]


def nothing_known(_value: Any, _metric: str | None) -> Known | None:  # noqa: ANN401  # a message is any value
    """Of messages where the values decide what is what."""
    return None


class Unlike(Exception):  # noqa: N818  # no error: it is read as ever
    """It is not of a kind of which anything is learned: it is too large, or something in it is no value."""


class Learned:
    """Of the messages of one route, or of their elements.

    Args:
        read: reads one as ever, with the name that its topic says: one reading, and what is in none.
        words: change metrics.
        tags: of the route.
        unfit: takes what is left out by words and tags.
        naming: finds texts that name metrics; None where there are none.
    """

    def __init__(  # of one place
        self,
        read: Callable[[Any, str | None], Part | None],
        words: Words,
        tags: Tags,
        unfit: Unfit,
        naming: Naming | None = None,
    ) -> None:
        self._read, self._naming = read, naming
        self._words, self._tags, self._unfit = words, tags, unfit
        self._plans: Worked[Plan | None] = Worked(_PLANS_BYTES)
        self._tagged: Worked[dict[str, str]] = Worked(_TAGS_BYTES)
        self._once: set[int] = set()

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
                self._naming.spread(value, shape, leaves)
            elif type(value) is dict:
                spread(value, shape, leaves)
            else:
                return None
        except (Unlike, KeyError):
            return None
        key = (*shape,)
        plan = self._plans.get(key) or self._meet(key, value, metric)
        if plan is None:
            return None
        if plan.same and _differ(plan.same, leaves):
            return None
        leaves.append(None)
        tags: dict[str, str] = {}
        if plan.tags:
            said = plan.tags, plan.tagged(leaves)
            known = self._tagged.get(said)
            if known is None and (known := self._tag(said)) is None:
                return None
            tags = known
        metrics = dict(zip(plan.metrics, plan.measured(leaves)))  # noqa: B905  # as long as each other
        left_out = plan.left_out
        if self._words.by_value:
            try:
                self._words.read(metrics, self._unfit)
                left_out = [*left_out, *self._unfit.fields]
            finally:
                self._unfit.fields.clear()
        return Known((*plan.said(leaves), metrics, True), tags, left_out)

    def _tag(self, said: tuple[tuple[str, ...], tuple[str, ...]]) -> dict[str, str] | None:
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
        return self._tagged.keep(said, tags, _VALUE_BYTES * len(names) + 4 * sum(map(len, texts)))

    def _meet(self, key: tuple[Any, ...], value: Any, metric: str | None) -> Plan | None:  # noqa: ANN401  # likewise
        """The plan of a shape that has none; None of one that is new, or that has no plan."""
        mark = hash(key)
        if mark not in self._once:
            if len(self._once) >= _MOST_ONCE:
                self._once.clear()
            self._once.add(mark)
            return None
        if key in self._plans:
            return None
        size = sum(map(_characters, key))
        if size > _LONG:
            return None
        return self._plans.keep(key, self._plan(value, metric), 4 * size + _VALUE_BYTES * len(key))

    def _plan(self, value: Any, metric: str | None) -> Plan | None:  # noqa: ANN401  # likewise
        marks = Marks()
        marked = marks.of(value) if self._naming is None else self._naming.marked(value, marks)
        part = self._read(marked, metric)
        if part is None or part.mapped is None or part.online is not None:
            return None
        *names, metrics, _ = part.mapped
        found = [name for name in names if name is not None]
        found += [*part.tags.values(), *metrics.values()]
        if not _MARKS.issuperset(map(type, found)) or not marks.places.keys() >= set(found):
            return None  # something was made of values, and not put somewhere
        if any(_MARK in name for name in (*metrics, *part.tags, *(name for name, _ in part.left_out))):
            return None  # or became a name
        first = {mark: places[0] for mark, places in marks.places.items()}
        return Plan(
            _picker([first.get(name, -1) for name in names]),
            tuple(part.tags),
            _picker([first[tag] for tag in part.tags.values()]),
            tuple(metrics),
            _picker([first[each] for each in metrics.values()]),
            [_picker(places) for places in marks.places.values() if len(places) > 1],
            tuple(part.left_out),
        )


class Marks:
    """Stand for the values of a message.

    Attributes:
        places: of each, among all values in the order in which they stand.
    """

    def __init__(self) -> None:
        self.places: dict[Any, list[int]] = {}
        self._count = 0
        self._shared: dict[tuple[object, ...], Any] = {}

    def of(self, value: Any, shared: tuple[object, ...] = ()) -> Any:  # noqa: ANN401  # a message is any value
        """The same with a mark for each value.

        Args:
            value: it.
            shared: of what all are to be equal, and have one mark; of nothing when empty.
        """
        if type(value) is dict:
            return {name: self.of(each, shared and (*shared, name)) for name, each in value.items()}
        if type(value) is list:
            return [self.of(each, shared and (*shared, at)) for at, each in enumerate(value)]
        mark = self._mark(is_text=type(value) is str)
        if shared:
            mark = self._shared.setdefault((*shared, type(mark)), mark)
        self.places.setdefault(mark, []).append(self._count)
        self._count += 1
        return None if value is None else mark

    def keep(self, value: str) -> str:
        """A text that stays what it is."""
        self._count += 1
        return value

    def _mark(self, *, is_text: bool) -> str | float:
        return f"{_MARK}{self._count}" if is_text else _LATE + self._count + 0.5


def _spread_list(values: list[Any], shape: list[Any], leaves: list[Any]) -> None:
    kinds = (*map(kind_of, map(type, values)),)
    shape += None, kinds
    spread_within(zip(kinds, values, strict=True), shape, leaves)


def spread(value: dict[str, Any], shape: list[Any], leaves: list[Any]) -> None:
    """Tell the names and kinds of an object from its values, each list in the order in which they stand.

    Raises:
        KeyError, Unlike: it has a value that is none, or is too large.
    """
    members = value.values()
    kinds = (*map(kind_of, map(type, members)),)
    shape += (*value,), kinds
    if OBJECT in kinds or ARRAY in kinds:
        spread_within(zip(kinds, members, strict=True), shape, leaves)
    else:
        leaves += members
        if len(leaves) > MOST:
            raise Unlike


def spread_within(members: Iterable[tuple[int, Any]], shape: list[Any], leaves: list[Any]) -> None:
    """The same of members, given with their kinds.

    Raises:
        KeyError, Unlike: likewise.
    """
    if len(leaves) + len(shape) > MOST:
        raise Unlike
    for kind, each in members:
        if kind == OBJECT:
            spread(each, shape, leaves)
        elif kind == ARRAY:
            _spread_list(each, shape, leaves)
        else:
            leaves.append(each)


def _differ(picks: Sequence[Callable[[Sequence[Any]], tuple[Any, ...]]], leaves: Sequence[Any]) -> bool:
    """Whether some of what is picked is not equal, or not of one type."""
    for pick in picks:
        same = pick(leaves)
        first, size = same[0], len(same)
        if same.count(first) != size or [*map(type, same)].count(type(first)) != size:
            return True
    return False


def _characters(of: object) -> int:
    """Of the names in a part of a shape."""
    if type(of) is tuple:
        return sum(len(name) for name in of if type(name) is str)
    return len(of) if type(of) is str else 0


def _picker(places: Sequence[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """What picks the values at some places."""
    if len(places) > 1:
        return itemgetter(*places)
    if not places:
        return lambda _: ()
    (place,) = places
    return lambda leaves: (leaves[place],)
