"""Lists of elements that are one metric each, as of Sparkplug, SenML and line protocol: read by their shape.

Elements that have the same fields are read alike. What each field of a shape is, and what the metrics of a
name come to be called, is worked out once, by the rules of `element`, and remembered up to a bound. An
element in which anything is not as plain as that is read by `element` itself, and joins the others: one with
an object where none is looked for, with what would be refused or is no finite number. Pure.
"""

from __future__ import annotations

import sys
from sys import getsizeof
from typing import TYPE_CHECKING, Any, Final

from gateway.decode.fields import SCALARS, WAY_OUT
from gateway.decode.known import Worked
from gateway.decode.limits import (
    MAX_ELEMENTS,
    MAX_READINGS,
    check_count,
    elements_allowed,
    readings_allowed,
    too_much_work,
)
from gateway.decode.mapping.each import Element, names_in
from gateway.decode.mapping.element import LEFT_OUT
from gateway.decode.mapping.parts import Around, Part, group_key, with_keys
from gateway.decode.mapping.shapes import NotPlain, Shapes
from gateway.decode.paths import is_plain
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from gateway.decode.fields import Unfit
    from gateway.decode.known import Room
    from gateway.decode.limits import Limits
    from gateway.decode.mapping.each import Each, Layer
    from gateway.decode.mapping.element import Elements
    from gateway.decode.mapping.looks import Look
    from gateway.decode.mapping.shapes import Drop, Shape
    from gateway.decode.mapping.words import Words
    from gateway.decode.paths import Place

_EACH: Final = 3  # microseconds, as these: of an element
_READING: Final = 2
_STEP: Final = 128  # elements that are read at once, where there is time between steps
_ODD: Final = 15
_AFTER: Final = 5  # of a reading, here and later
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
        outside: names that were found around them, in a lasting order: bytes are made of them.
    """

    __slots__ = ("left_out", "metrics", "numbers", "outside", "said", "tags")

    def __init__(self, said: list[Any], tags: dict[str, str]) -> None:
        self.said, self.tags = said, tags
        self.metrics: dict[str, Any] = {}
        self.left_out: list[Drop] = []
        self.numbers: list[int] = []
        self.outside: dict[str, None] = {}


class Listed:
    """Reads the plain lists of one route; `listed_of` makes it.

    Args:
        each: finds the list, by one name; by none when it is the message.
        elements: what is looked for.
        words: change metrics.
        limits: bound what is looked at.
        unfit: takes what is left out by words and tags.
        room: what is remembered takes its bytes of that.
        cuts: whether a message can be cut into its elements.
    """

    def __init__(  # noqa: PLR0917  # of one place
        self,
        each: Each,
        elements: Elements,
        words: Words,
        limits: Limits,
        unfit: Unfit,
        room: Room,
        *,
        cuts: bool,
    ) -> None:
        self._path, self._cuts = each.path, cuts
        self._elements, self._roles = elements, elements.roles
        self._tags, self._words, self._unfit = elements.tags, words, unfit
        self._tag_looks = dict(elements.tags.looks)
        self._full = limits.max_metrics if self._unfit.refuses else sys.maxsize
        self._room = room
        self._shapes = Shapes(elements, words, limits, room)
        self._tagged: Worked[Tagged] = Worked(room)

    def in_steps(
        self,
        message: Any,  # noqa: ANN401  # a message is any value
        size: int,
    ) -> Generator[None, None, tuple[list[Part], list[Drop]] | None]:
        """The readings of a message, and what is in none of them; None when it is no such list.

        Args:
            message: what a format made of the payload.
            size: of the payload, in bytes.

        Raises:
            Reject: there are more readings than it may have.
        """
        outer: dict[str, Any] = {}
        elements: Any = message if type(message) is list else [message]
        if self._path:
            if type(message) is not dict:
                return None
            outer, elements = message, message.get(self._path)
        if type(elements) is not list or not elements:
            return None
        if len(elements) > MAX_ELEMENTS:
            check_count(len(elements), self._room.patience * elements_allowed(size), "elements", fixed=False)
        try:
            found = yield from self._grouped(elements, outer, size)
        except NotPlain:
            return None
        cuts = self._cuts and len(found) > 1
        self._room.spend(_READING * len(found))
        parts = [self._part(each, cuts=cuts) if isinstance(each, _Group) else each for each in found]
        if not outer:
            return with_keys(parts), []
        used = {name for part in parts for name, *_ in part.around.places}
        rest = {name: value for name, value in outer.items() if name not in used and name != self._path}
        return with_keys(parts), [(name, LEFT_OUT) for name in names_in(rest, self._room)] if rest else []

    def _grouped(  # noqa: C901, PLR0915  # step by step, without a call for each: every element comes by
        self, elements: list[Any], outer: dict[str, Any], size: int
    ) -> Generator[None, None, list[_Group | Part]]:
        """The readings, in the order of their first elements.

        Raises:
            NotPlain: what stands among the elements is none.
        """
        found: list[_Group | Part] = []
        open_: dict[tuple[Any, ...], _Group] = {}
        shapes = self._shapes.known
        around = ((outer, ()),) if self._path else ()
        by_itself = 0
        room = self._room
        for number, element in enumerate(elements):
            if number and not number % _STEP:
                yield
            outside: list[str] = []
            room.left -= _EACH
            if room.left < 0:
                raise too_much_work()
            try:
                if type(element) is not dict:
                    raise NotPlain  # noqa: TRY301  # caught here, with all others
                fields = tuple(element)
                shape = shapes.get(fields) or self._shapes.of(fields)
                said = self._said(shape, element, outer, outside)
                tags, every = self._read_tags(shape, element, outer, outside) if shape.tags else _NO_TAGS
                key = (*said, type(said[_TIME]), every)
                group = open_.get(key)
                if group is not None and len(group.metrics) > self._full:
                    group.numbers.append(number)  # it will be refused, with this element in its letter
                    continue
                metrics, left_out = self._metrics(shape, element)
            except NotPlain:
                plain = False  # and read below, so that what is refused there holds nothing of this
            else:
                plain = True
            if not plain:
                by_itself += 1
                part = self._by_itself(number, element, around, by_itself, size)
                if part.mapped is None:
                    found.append(part)
                    continue
                said = [*part.mapped[:4], part.around.keyed]
                tags, metrics, left_out = part.tags, part.mapped[4], list(part.left_out)
                outside = [str(name) for name, *_ in part.around.places]
                group = open_.get(key := _key(part))
            if group is None or not group.metrics.keys().isdisjoint(metrics):
                group = open_[key] = _Group(said, tags)
                found.append(group)
                room.check(_AFTER * len(found))
                if len(found) > MAX_READINGS:
                    check_count(len(found), room.patience * readings_allowed(size), "readings", fixed=False)
            group.metrics.update(metrics)
            group.numbers.append(number)
            group.left_out += left_out
            if outside:
                group.outside.update(dict.fromkeys(outside))
        return found

    def _by_itself(
        self,
        number: int,
        element: Any,  # noqa: ANN401  # a message is any value
        around: tuple[Layer, ...],
        count: int,
        size: int,
    ) -> Part:
        """What an element says that is not plain, the so-manieth of its message."""
        if count == 1:
            self._elements.surroundings.forget()
        if count > MAX_READINGS:
            check_count(count, self._room.patience * readings_allowed(size), "elements", fixed=False)
        self._unfit.fields.clear()
        self._room.spend(_ODD)
        if element is None and self._path:
            raise NotPlain  # it is no element
        place: Place = (self._path, number) if self._path else (number,)
        return self._elements.read(
            Element(element, (), place, around), number, None, (place,) if self._cuts else ()
        )

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

    def _part(self, group: _Group, *, cuts: bool) -> Part:
        device_id, key, time, region, keyed = group.said
        places: tuple[Place, ...] = ()
        if cuts:
            before: Place = (self._path,) if self._path else ()
            places = tuple([(*before, number) for number in group.numbers])
        around = _NOTHING_AROUND
        if group.outside:
            outside = tuple((name,) for name in group.outside)
            key_place = next(((look.name,) for look in self._roles[_KEY] if look.name in group.outside), None)
            around = Around(outside, key_place if keyed else None, keyed)
        mapped = (device_id, key, time, region, group.metrics, True)
        reject = self._too_many(group) if len(group.metrics) > self._full else None
        return Part(
            None if reject else mapped,
            group.tags,
            group.numbers[0],
            0,
            places,
            around,
            reject,
            group.left_out,
        )

    def _too_many(self, group: _Group) -> Reject:
        what = f"one reading of {len(group.numbers)} elements has more metrics"
        return Reject("invalid_metric", f"{what} than gateway.max_metrics allows, {self._full}{WAY_OUT}")


def listed_of(  # noqa: PLR0917  # likewise
    each: Each,
    elements: Elements,
    words: Words,
    limits: Limits,
    unfit: Unfit,
    room: Room,
    *,
    cuts: bool,
) -> Listed | None:
    """What reads the plain lists of a route; None where its paths are more than names.

    Args:
        each: finds the list.
        elements: what is looked for.
        words: change metrics.
        limits: bound what is looked at.
        unfit: takes what is left out by words and tags.
        room: what is remembered takes its bytes of that.
        cuts: whether a message can be cut into its elements.
    """
    names = [look.name for look in elements.looks]
    plain = is_plain(each.path) and not set(each.path) & set(".|*")
    if not elements.name or not plain or not all(names) or len({*names, each.path}) <= len(names):
        return None
    return Listed(each, elements, words, limits, unfit, room, cuts=cuts)


def _key(part: Part) -> tuple[Any, ...]:
    """What elements of one reading have in common: of usual kinds it is as of those that are plain."""
    assert part.mapped is not None
    *names, _, _ = part.mapped
    if all(name is None or type(name) in kinds for name, kinds in zip(names, _KINDS, strict=True)):
        return (*names, part.around.keyed, type(names[_TIME]), frozenset(part.tags.items()))
    return group_key(part)


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
