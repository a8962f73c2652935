"""Lists of elements that are one metric each, as of Sparkplug, SenML and line protocol: read by their shape.

Elements that have the same fields are read alike. What each field of a shape is, and what the metrics of a
name come to be called, is worked out once, by the rules of `element`, and remembered up to a bound. A message
in which anything is not as plain as that is left to `element`, as a whole: an object where none is looked
for, whatever would be refused or is no finite number. Both come to the same readings. Pure.
"""

from __future__ import annotations

import sys
from sys import getsizeof
from typing import TYPE_CHECKING, Any, Final

from gateway.decode.drops import MOST_NAMES
from gateway.decode.fields import SCALARS
from gateway.decode.known import Worked
from gateway.decode.limits import MAX_ELEMENTS, MAX_READINGS, check_count, elements_allowed, readings_allowed
from gateway.decode.mapping.element import LEFT_OUT
from gateway.decode.mapping.parts import Around, Part, with_keys
from gateway.decode.mapping.shapes import NotPlain, Shapes
from gateway.decode.names import MAX_NAME
from gateway.decode.paths import is_plain
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.decode.fields import Unfit
    from gateway.decode.limits import Limits
    from gateway.decode.mapping.each import Each
    from gateway.decode.mapping.element import Elements
    from gateway.decode.mapping.looks import Look
    from gateway.decode.mapping.shapes import Drop, Shape
    from gateway.decode.mapping.words import Words
    from gateway.decode.paths import Place

_TAGS_BYTES: Final = 4_000_000
_KEY, _TIME, _KEYED = 1, 2, 4  # of device, key, time, region and whether the key was found around
_TEXT: Final = frozenset({str})
_NOTHING_AROUND: Final = Around()
_NAMES: Final = frozenset({str, int})
_KINDS: Final = (_NAMES, _NAMES, _NAMES | {float}, _NAMES)

Tagged = tuple[dict[str, str], "frozenset[tuple[str, str]]"]
_NO_TAGS: Final[Tagged] = ({}, frozenset())


class _Group:
    """Elements that are one reading.

    Attributes:
        said: what they have in common; see `_said`.
        numbers: their own.
        outside: names that were found around them.
    """

    __slots__ = ("left_out", "metrics", "numbers", "outside", "said", "tags")

    def __init__(self, said: list[Any], tags: dict[str, str]) -> None:
        self.said, self.tags = said, tags
        self.metrics: dict[str, Any] = {}
        self.left_out: list[Drop] = []
        self.numbers: list[int] = []
        self.outside: set[str] = set()


class Listed:
    """Reads the plain lists of one route; `listed_of` makes it.

    Args:
        each: the name of the list; empty when it is the message.
        elements: what is looked for.
        words: change metrics.
        limits: bound what is looked at.
        unfit: takes what is left out by words and tags.
        cuts: whether a message can be cut into its elements.
    """

    def __init__(
        self, each: str, elements: Elements, words: Words, limits: Limits, unfit: Unfit, *, cuts: bool
    ) -> None:
        self._each, self._cuts = each, cuts
        self._roles = elements.roles
        self._tags, self._words, self._unfit = elements.tags, words, unfit
        self._tag_looks = dict(elements.tags.looks)
        self._full = limits.max_metrics if self._unfit.refuses else sys.maxsize
        self._shapes = Shapes(elements, words, limits)
        self._tagged: Worked[Tagged] = Worked(_TAGS_BYTES)

    def parts(self, message: Any, size: int) -> tuple[list[Part], list[Drop]] | None:  # noqa: ANN401  # a message is any value
        """The readings of a message, and what is in none of them; None when it is not plain.

        Args:
            message: what a format made of the payload.
            size: of the payload, in bytes.

        Raises:
            Reject: there are more readings than it may have.
        """
        outer: dict[str, Any] = {}
        elements: Any = message if type(message) is list else [message]
        if self._each:
            if type(message) is not dict:
                return None
            outer, elements = message, message.get(self._each)
        if type(elements) is not list or not elements:
            return None
        if len(elements) > MAX_ELEMENTS:
            check_count(len(elements), elements_allowed(size), "elements")
        try:
            groups = self._grouped(elements, outer, size)
            left_out = self._left(outer, groups) if outer else []
        except NotPlain:
            self._unfit.fields.clear()
            return None
        if len(groups) == 1:
            return [self._part(groups[0], ())], left_out
        before: Place = (self._each,) if self._each else ()
        return with_keys([self._part(group, self._places(group, before)) for group in groups]), left_out

    def _places(self, group: _Group, before: Place) -> tuple[Place, ...]:
        return tuple([(*before, number) for number in group.numbers]) if self._cuts else ()

    def _grouped(self, elements: list[Any], outer: dict[str, Any], size: int) -> list[_Group]:
        groups: list[_Group] = []
        open_: dict[tuple[Any, ...], _Group] = {}
        shapes = self._shapes.known
        for number, element in enumerate(elements):
            if type(element) is not dict:
                raise NotPlain
            fields = tuple(element)
            shape = shapes.get(fields) or self._shapes.of(fields)
            outside: list[str] = []
            said = self._said(shape, element, outer, outside)
            tags, every = self._read_tags(shape, element, outer, outside) if shape.tags else _NO_TAGS
            key = (*said, type(said[_TIME]), every)
            group = open_.get(key)
            if group is not None and len(group.metrics) > self._full:
                group.numbers.append(number)  # it will be refused, with this element in its letter
                continue
            metrics, left_out = self._metrics(shape, element)
            if group is None or not group.metrics.keys().isdisjoint(metrics):
                group = open_[key] = _Group(said, tags)
                groups.append(group)
                if len(groups) > MAX_READINGS:
                    check_count(len(groups), readings_allowed(size), "readings")
            group.metrics.update(metrics)
            group.numbers.append(number)
            group.left_out += left_out
            if outside:
                group.outside.update(outside)
        return groups

    def _said(
        self, shape: Shape, element: dict[str, Any], outer: dict[str, Any], outside: list[str]
    ) -> list[Any]:
        """Device, key, time and region of an element, and whether the key was found around it."""
        if shape.sure and None in map(element.get, shape.sure):
            raise NotPlain
        said: list[Any] = [None, None, None, None, False]
        for role, field in shape.roles:
            found = None if field is None else element[field]
            if found is None and outer:
                found = _outside(self._roles[role], outer, outside)
                said[_KEYED] |= role == _KEY and found is not None
            if found is not None:
                if type(found) not in _KINDS[role]:
                    raise NotPlain
                said[role] = found
        return said

    def _read_tags(
        self, shape: Shape, element: dict[str, Any], outer: dict[str, Any], outside: list[str]
    ) -> Tagged:
        said: list[tuple[Any, ...]] = []
        for name, field in shape.tags:
            found = None if field is None else element[field]
            if found is None and outer:
                found = _outside((self._tag_looks[name],), outer, outside)
            if type(found) is dict and _TEXT.issuperset(map(type, found.values())):
                said.append((name, *found.items()))
            elif type(found) is str:
                said.append((name, found))
            elif found is not None:
                raise NotPlain
        known = tuple(said)
        return self._tagged.get(known) or self._tag(known)

    def _tag(self, said: tuple[Any, ...]) -> Tagged:
        tags: dict[str, str] = {}
        for name, *found in said:
            one = found[0] if found and type(found[0]) is str else dict(found)
            try:
                self._tags.add(tags, name, one)
            except Reject:
                raise NotPlain from None
        if self._unfit.fields:
            raise NotPlain
        size = 3 * sum(getsizeof(part) for tag in tags.items() for part in tag)
        return self._tagged.keep(said, (tags, frozenset(tags.items())), size)

    def _metrics(self, shape: Shape, element: dict[str, Any]) -> tuple[dict[str, Any], list[Drop]]:
        name = element[shape.name]
        if type(name) is not str:
            raise NotPlain
        value = None if shape.value is None else element[shape.value]
        inner: dict[str, Any] = value if type(value) is dict else {}
        known = name if inner is not value else (name, *inner)
        called = shape.called.get(known) or self._shapes.call(shape, name, value)
        metrics: dict[str, Any] = {}
        left_out: list[Drop] = []
        if inner:
            _take(inner, called.within, called.ignored_within, metrics, left_out)
        for field, target in called.kept:
            found = element[field]
            if type(found) in SCALARS:
                metrics[target] = found
            elif found is not None:
                raise NotPlain
        if called.ignored:
            _take(element, (), called.ignored, metrics, left_out)
        if self._words.by_value:
            self._words.read(metrics, self._unfit)
            left_out += self._unfit.fields
            self._unfit.fields.clear()
        return metrics, left_out

    def _left(self, message: dict[str, Any], groups: list[_Group]) -> list[Drop]:
        if len(message) > MOST_NAMES:
            raise NotPlain
        used = groups[0].outside
        if len(groups) > 1:
            used = used.union(*[group.outside for group in groups])
        left = []
        for name, value in message.items():
            if value is not None and name != self._each and name not in used:
                if type(value) not in SCALARS:
                    raise NotPlain
                left.append((name[:MAX_NAME], LEFT_OUT))
        return left

    def _part(self, group: _Group, places: tuple[Place, ...]) -> Part:
        device_id, key, time, region, keyed = group.said
        around = _NOTHING_AROUND
        if group.outside:
            outside = tuple((name,) for name in group.outside)
            key_place = next(((look.name,) for look in self._roles[_KEY] if look.name in group.outside), None)
            around = Around(outside, key_place if keyed else None, keyed)
        return Part(
            (device_id, key, time, region, group.metrics, True),
            group.tags,
            group.numbers[0],
            0,
            places,
            around,
            None,
            group.left_out,
        )


def listed_of(
    each: Each, elements: Elements, words: Words, limits: Limits, unfit: Unfit, *, cuts: bool
) -> Listed | None:
    """What reads the plain lists of a route; None where its paths are more than names.

    Args:
        each: finds the list.
        elements: what is looked for.
        words: change metrics.
        limits: bound what is looked at.
        unfit: takes what is left out by words and tags.
        cuts: whether a message can be cut into its elements.
    """
    names = [look.name for look in elements.looks]
    plain = is_plain(each.path) and not set(each.path) & set(".|*")
    if not elements.name or not plain or not all(names) or len({*names, each.path}) <= len(names):
        return None
    return Listed(each.path, elements, words, limits, unfit, cuts=cuts)


def _take(
    element: dict[str, Any],
    kept: Sequence[tuple[str, str]],
    ignored: Sequence[tuple[str, Drop]],
    metrics: dict[str, Any],
    left_out: list[Drop],
) -> None:
    """Take the metrics of an object, and what is said of those that are left out."""
    for field, target in kept:
        value = element[field]
        if type(value) in SCALARS:
            metrics[target] = value
        elif value is not None:
            raise NotPlain
    for field, drop in ignored:
        value = element[field]
        if type(value) in SCALARS:
            left_out.append(drop)
        elif value is not None:
            raise NotPlain


def _outside(looks: Sequence[Look], outer: dict[str, Any], outside: list[str]) -> Any:  # noqa: ANN401  # likewise
    """What stands around an element at the first name that is there."""
    for look in looks:
        found = outer.get(look.name)
        if found is not None:
            outside.append(look.name)
            return found
    return None
