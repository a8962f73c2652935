"""`each`: which elements of a message are readings, and what the message is with some of them only.

`readings` are the elements of an array of this name, `*` those of the members of the message, `*.values`
those of the arrays within, and `a | b` those of the first that is there; `a | @` is the message itself where
there is no `a`. What stands there and is no array is one element; null is none. What a `*` stood for is kept,
for `$1`. Of an array at the root each element is a message of its own. Any other JMESPath expression finds
its elements too, of all of the payload, but a message cannot be cut by one. Pure.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gateway.decode.drops import Names
from gateway.decode.limits import MAX_DEPTH, MAX_ELEMENTS
from gateway.decode.paths import Place, compile_path, is_plain, looks_at

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from gateway.decode.known import Room

STAR: Final = "*"
_ITSELF: Final = ("@",)
OUTSIDE: Final = "(outside each)"
"""The name of what an expression left of a message, where no other can be told."""

_ALL: Final = "[]"  # the elements of an array, without a number for $1
_ANY: Final = frozenset({STAR, _ALL})
_STEPS: Final = re.compile(r'(?:^|\.)(?:([A-Za-z_][A-Za-z0-9_]*|\*)|"([^"\\]+)")|(\[\*?\])')

Layer = tuple[Any, Place]
Tree = dict["str | int", "Tree | None"]


class Element(NamedTuple):
    """A part of a message that is a reading, or a metric of one.

    Attributes:
        value: it.
        stars: what each `*` stood for.
        place: the names and indices that lead to it; None when it cannot be said.
        around: the objects that it is in, each with its place, from the innermost.
        message: which one of an array of messages it is of.
    """

    value: Any
    stars: tuple[str, ...] = ()
    place: Place | None = None
    around: tuple[Layer, ...] = ()
    message: int = 0


class Each:
    """Finds the elements of messages.

    Args:
        path: `each` of a route; empty is the message itself, of an array its elements.
        where: the setting, for errors.
        room: bounds what looking through a message costs.

    Attributes:
        path: the same.
        stars: how many `*` it has.
        cuts: whether a message can be cut into its elements.

    Raises:
        ConfigurationError: the path means nothing.
    """

    def __init__(self, path: str, where: str, room: Room) -> None:
        self.path, self._room = path, room
        look = compile_path(path, where) if path and not _is_dotted(path) else None
        self._ways = _ways(path)
        self.cuts = bool(self._ways) or not path
        self.stars = min((way.count(STAR) for way in self._ways), default=0)
        self._look = None if self.cuts else look

    def find(self, message: Any, most: int = MAX_ELEMENTS) -> list[Element]:  # noqa: ANN401  # a message is any value
        """The elements, in the order in which they stand; of more than there may be at least one more."""
        if not self.path:
            if type(message) is not list:
                return [Element(message, (), ())]
            return [Element(value, (), (at,)) for at, value in enumerate(message[: most + 1])]
        if self._look is not None:
            seen = self._look(message)
            values: list[Any] = seen if type(seen) is list else [seen]
            around = ((message, ()),)
            return [Element(value, around=around) for value in values[: most + 1] if value is not None]
        if type(message) is not list:
            return self._first(message, (), 0, most)
        found: list[Element] = []
        for at, one in enumerate(message):
            found += self._first(one, (at,), at, most)
            if len(found) > most:
                break
        return found

    def moves(self, names: Iterable[str] | None, path: str) -> bool:
        """Whether what a path finds around an element may be another thing in a piece of the message.

        Args:
            names: of the path; None of an expression.
            path: itself.
        """
        if names is None:
            return looks_at(path, {name for way in self._ways for name in way})
        ways = [_names(way) for way in self._ways]
        wanted = [part for name in names for part in name.split(".")]
        return any(
            way[start] not in _ANY
            and all(step in _ANY or step == name for step, name in zip(way[start:], wanted, strict=False))
            for way in ways
            for start in range(len(way))
        )

    def only(self, message: Any, places: Sequence[Place], *, around: bool, counted: bool) -> Any:  # noqa: ANN401  # likewise
        """The message with these elements and no others; an array of one stays an array.

        Args:
            message: all of it.
            places: of the elements.
            around: whether what is around them stays.
            counted: whether it matters how an array numbers what a `*` stands for.
        """
        if type(message) is list and self.path:
            of: dict[Any, list[Place]] = {}
            for place in places:
                of.setdefault(place[0], []).append(place[1:])
            return [self._only(message[at], its, around=around, counted=counted) for at, its in of.items()]
        return self._only(message, places, around=around, counted=counted)

    def left(self, message: Any, elements: Sequence[Element], used: Iterable[Place]) -> list[str]:  # noqa: ANN401  # likewise
        """The paths of the scalars that are in no element, and not used."""
        if self._look is not None:
            return _left_by_identity(message, list(elements), used, self._room)
        if any(each.place == () for each in elements):
            return []
        tree: Tree = {}
        for place in (*(each.place for each in elements if each.place), *used):
            _plant(tree, place)
        return list(_left(message, tree, Names(self._room), ""))

    def _only(self, message: Any, places: Sequence[Place], *, around: bool, counted: bool) -> Any:  # noqa: ANN401  # likewise
        way = next((way for way in self._ways if _leads(way, places[0])), ())
        return _only(message, places, (*way, _ALL), around=around, counted=counted)

    def _first(self, message: Any, place: Place, at: int, most: int) -> list[Element]:  # noqa: ANN401  # likewise
        for way in self._ways:
            if found := list(islice(_elements(message, way, (), place, (), at), most + 1)):
                return found
        return []


def names_in(value: Any, room: Room, but: Collection[int] = ()) -> Iterator[str]:  # noqa: ANN401  # likewise
    """The paths of the scalars of a value, but for what is in the objects and arrays of these ids.

    Args:
        value: it.
        room: bounds what that costs.
        but: the ids.
    """
    return _names_in(value, Names(room), "", MAX_DEPTH, but)


def _names_in(
    value: Any,  # noqa: ANN401  # likewise
    names: Names,
    prefix: str,
    depth: int = MAX_DEPTH,
    but: Collection[int] = (),
) -> Iterator[str]:
    for name, member in _members(value):
        if type(member) in {dict, list}:
            if id(member) in but:
                continue
            if depth:
                yield from _names_in(member, names, names.within(prefix, name), depth - 1, but)
                continue
        if member is not None:
            yield names.of(prefix, name)


def says_something(value: Any, room: Room) -> bool:  # noqa: ANN401  # likewise
    """Whether there is a scalar in a value."""
    if type(value) in {dict, list}:
        return any(True for _ in names_in(value, room))
    return value is not None


def without(value: Any, place: Place) -> Any:  # noqa: ANN401  # likewise
    """A value without what stands at a place; itself when it stands there no more."""
    first, *rest = place
    if type(value) is dict:
        if first not in value:
            return value
        copied: Any = value.copy()
        if not rest:
            del copied[first]
            return copied
    elif type(value) is list and type(first) is int:
        copied = value.copy()
        if not rest:
            copied[first] = None  # the others keep their numbers
            return copied
    else:
        return value
    copied[first] = without(copied[first], tuple(rest))
    return copied


def graft(into: Any, value: Any, place: Place, new: Any = None) -> bool:  # noqa: ANN401  # likewise
    """Put what stands at a place of a value, or something new, at the same place of another.

    Returns whether that could be: an array has its numbers already.
    """
    for at, step in enumerate(place):
        if type(into) is not dict or type(step) is not str:
            return False
        last = at + 1 == len(place)
        value = value[step]
        if last:
            into[step] = value if new is None else new
        elif step not in into:
            if type(value) is not dict:  # an array: all of it, so that what is counted stays where it is
                into[step] = value
                return new is None
            into[step] = {}
        into = into[step]
    return True


def _dotted(path: str) -> list[tuple[str, ...]]:
    first, *others = (tuple(part.strip().split(".")) for part in path.split("|"))
    if others and others[-1] == _ITSELF:
        others[-1] = ()
    return [first, *others]


def _is_dotted(path: str) -> bool:
    """Whether a path is names and stars with dots, or several of those."""
    return all(name == STAR or (name and is_plain(name)) for way in _dotted(path) for name in way)


def _names(way: Sequence[str]) -> list[str]:
    """The steps of a way; a name with dots in it may be found by several."""
    return [name for step in way for name in (step.split(".") if step not in _ANY else (step,))]


def _ways(path: str) -> list[tuple[str, ...]]:
    if not path:
        return []
    if _is_dotted(path):
        return _dotted(path)
    steps: list[str] = []
    at = 0
    while found := _STEPS.match(path, at):
        steps.append(found[1] or found[2] or _ALL)
        at = found.end()
    if not steps or at < len(path) or _is_quoted(path):
        return []
    while steps and steps[-1] == _ALL:
        steps.pop()
    return [tuple(steps)] if steps else []


def _is_quoted(path: str) -> bool:
    """Whether a name in quotation marks would be taken for something else."""
    return f'"{STAR}"' in path or f'"{_ALL}"' in path


def _elements(  # noqa: PLR0917  # of a recursion that every element comes by
    value: Any,  # noqa: ANN401  # a message is any value
    way: Sequence[str],
    stars: tuple[str, ...],
    place: Place,
    around: tuple[Layer, ...],
    message: int,
) -> Iterator[Element]:
    if not way:
        if type(value) is list:
            for at, each in enumerate(value):
                if each is not None:
                    yield Element(each, stars, (*place, at), around, message)
        elif value is not None:
            yield Element(value, stars, place, around, message)
        return
    name, rest = way[0], way[1:]
    if name == STAR or (name == _ALL and type(value) is list):
        for key, member in _members(value):
            met = (*stars, str(key)) if name == STAR else stars
            yield from _elements(member, rest, met, (*place, key), around, message)
    elif type(value) is dict and name in value:
        yield from _elements(value[name], rest, stars, (*place, name), ((value, place), *around), message)
    elif type(value) is list and name.isascii() and name.isdigit() and int(name[:9]) < len(value):
        at = int(name)
        yield from _elements(value[at], rest, stars, (*place, at), around, message)


def _members(value: Any) -> Iterable[tuple[Any, Any]]:  # noqa: ANN401  # likewise
    if type(value) is dict:
        return value.items()
    return enumerate(value) if type(value) is list else ()


def _leads(way: Sequence[str], place: Place) -> bool:
    return len(place) >= len(way) and all(
        name in {STAR, _ALL} or name == str(step) for name, step in zip(way, place, strict=False)
    )


def _only(value: Any, places: Sequence[Place], steps: Sequence[str], *, around: bool, counted: bool) -> Any:  # noqa: ANN401  # likewise
    if not places[0]:
        return value
    within: dict[str | int, list[Place]] = {}
    for place in places:
        within.setdefault(place[0], []).append(place[1:])
    members = {
        key: _only(value[key], its, steps[1:], around=around, counted=counted) for key, its in within.items()
    }
    if type(value) is dict:
        return {**value, **members} if around and steps[0] != STAR else members
    if steps[0] == _ALL or (steps[0] == STAR and not counted):
        return list(members.values())
    return [members.get(at) for at in range(max(members) + 1)]  # type: ignore[operator]  # indices


def _plant(tree: Tree, place: Place) -> None:
    node = tree
    for step in place[:-1]:
        within = node.setdefault(step, {})
        if within is None:
            return
        node = within
    if place:
        node[place[-1]] = None


def _left(value: Any, tree: Tree, names: Names, prefix: str) -> Iterator[str]:  # noqa: ANN401  # likewise
    for name, member in _members(value):
        if name not in tree:
            if type(member) in {dict, list}:
                yield from _names_in(member, names, names.within(prefix, name))
            elif member is not None:
                yield names.of(prefix, name)
        elif (within := tree[name]) is not None:
            yield from _left(member, within, names, names.within(prefix, name))


def _left_by_identity(
    message: Any,  # noqa: ANN401  # likewise
    elements: list[Element],
    used: Iterable[Place],
    room: Room,
) -> list[str]:
    """What an expression finds is of the message itself, unless the expression made it."""
    ids = {id(each.value) for each in elements if type(each.value) in {dict, list}}
    if len(ids) < len(elements) or not ids <= {id(message), *_ids(message, MAX_DEPTH)}:
        return [OUTSIDE]
    rest = message
    for place in used:
        rest = without(rest, place)
    return [] if id(message) in ids else list(names_in(rest, room, but=ids))


def _ids(value: Any, depth: int) -> Iterator[int]:  # noqa: ANN401  # likewise
    for _, member in _members(value):
        if type(member) in {dict, list} and depth:
            yield id(member)
            yield from _ids(member, depth - 1)
