"""What elements of the same fields say, and what their metrics come to be called: worked out once. Pure."""

from __future__ import annotations

from sys import getsizeof
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gateway.decode.names import metric_fault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.decode.known import Room
    from gateway.decode.limits import Limits
    from gateway.decode.mapping.element import Elements
    from gateway.decode.mapping.looks import Look
    from gateway.decode.mapping.words import Words

_ENTRY_BYTES: Final = 300  # of what is remembered, beside its texts
_NEW: Final = 10  # microseconds, as these
_CALLED: Final = 4
_INNER: Final = 8
_LONG: Final = 2048  # characters of the names of the fields of an element that is plain
_IGNORED: Final = "ignored"

Drop = tuple[str, str]


class NotPlain(Exception):  # noqa: N818  # no error: `element` reads it
    """A message is none of these."""


class Called(NamedTuple):
    """What the metrics of an element come to be called.

    Attributes:
        kept, within: fields of it, and of the object that is its value, each with its metric's name.
        ignored, ignored_within: those that are left out, each with what is said of it.
    """

    kept: Sequence[tuple[str, str]]
    ignored: Sequence[tuple[str, Drop]]
    within: Sequence[tuple[str, str]]
    ignored_within: Sequence[tuple[str, Drop]]


class Shape(NamedTuple):
    """Elements that have the same fields.

    Attributes:
        name, value: which of them; the value may be missing.
        roles: of device, key, time and region those that are looked for, each with its field if it has one.
        tags: the same of tags, by their names.
        sure: fields in whose place another would count if they were null.
        rest: fields that are nothing else.
        called: what was worked out, by name, and by name and fields of an object that is the value.
    """

    name: str
    value: str | None
    roles: Sequence[tuple[int, str | None]]
    tags: Sequence[tuple[str, str | None]]
    sure: Sequence[str]
    rest: Sequence[str]
    called: dict[str | tuple[str, ...], Called]


class Shapes:
    """Those of a route's elements, each worked out once.

    Args:
        elements: what is looked for.
        words: change metrics.
        limits: bound what is looked at.
        room: what is remembered takes its bytes of that.

    Attributes:
        known: shapes by their fields; None of those that have no name.
    """

    def __init__(self, elements: Elements, words: Words, limits: Limits, room: Room) -> None:
        self.known: dict[tuple[str, ...], Shape | None] = {}
        self._name, self._value, self._roles = elements.name, elements.value, elements.roles
        self._tags = elements.tags.looks
        self._words = words
        self._max_name, self._most = limits.max_metric_name, limits.max_metrics
        self._room = room
        room.share(self.known.clear)

    def of(self, fields: tuple[str, ...]) -> Shape:
        """That of elements of these fields.

        Raises:
            NotPlain: they are too many, or name no metric.
        """
        if fields in self.known or len(fields) > self._most or sum(map(len, fields)) > _LONG:
            raise NotPlain
        rest = list(fields)
        sure: list[str] = []

        def take(looks: Sequence[Look]) -> str | None:
            there = [look.name for look in looks if look.name in rest]
            sure.extend(there[:-1])
            if there:
                rest.remove(there[0])
            return there[0] if there else None

        self._room.spend(_NEW + len(fields))
        name, value = take(self._name), take(self._value)
        has_room = self._room.take(_ENTRY_BYTES + 10 * sum(map(getsizeof, fields)))
        if name is None:
            if has_room:
                self.known[fields] = None
            raise NotPlain
        roles = [(role, take(looks)) for role, looks in enumerate(self._roles) if looks]
        tags = [(tag, take((look,))) for tag, look in self._tags]
        shape = Shape(name, value, roles, tags, sure, rest, {})
        if has_room:
            self.known[fields] = shape
        return shape

    def call(self, shape: Shape, name: str, value: Any) -> Called:  # noqa: ANN401  # a message is any value
        """What the metrics of an element come to be called.

        Args:
            shape: its.
            name: that of its metric.
            value: its value.

        Raises:
            NotPlain: two come to one name, or there are too many.
        """
        within = list(value) if type(value) is dict else []
        if metric_fault(name, self._max_name) or len(within) > self._most or sum(map(len, within)) > _LONG:
            raise NotPlain
        own = [] if shape.value is None or type(value) is dict else [(shape.value, name)]
        inner = [(field, f"{name}.{field}") for field in within]
        own += [(field, f"{name}.{field}") for field in shape.rest]
        every = [full for _, full in (*inner, *own)]
        self._room.spend(_CALLED + (1 + self._words.cost) * len(every) + _INNER * len(inner))
        targets = {full: self._words.fate(full) for full in every}
        kept = [target for target in targets.values() if target is not None]
        if len(targets) < len(every) or len(set(kept)) < len(kept):
            raise NotPlain  # two come to one name
        called = Called(
            [(field, target) for field, full in own if (target := targets[full]) is not None],
            [(field, (full, _IGNORED)) for field, full in own if targets[full] is None],
            [(field, target) for field, full in inner if (target := targets[full]) is not None],
            [(field, (full, _IGNORED)) for field, full in inner if targets[full] is None],
        )
        if self._room.take(sum(_ENTRY_BYTES + 3 * getsizeof(full) for full in every)):
            shape.called[(name, *within) if type(value) is dict else name] = called
        return called
