"""What a route looks for in a message: paths of which the first that is there counts. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gateway.decode.mapping.each import without
from gateway.decode.paths import alternatives, compile_find, is_plain, star_of, steps_of
from runtime.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.decode.mapping.each import Element, Layer
    from gateway.decode.paths import Found, Place


_ITSELF: Final = "@"
_OF_ARRAY: Final = re.compile(r"\[[0-9]{1,6}\](?:\.[A-Za-z_][A-Za-z0-9_]*|\[[0-9]{1,6}\])*")


class Look(NamedTuple):
    """One of these paths.

    Attributes:
        path: itself.
        find: finds what stands there, and where.
        star: which `*` of `each`; None for a path.
        made: whether it is an expression, and what it finds may have no place.
        name: of a path that is one name; empty of any other.
    """

    path: str
    find: Callable[[Any], Found | None]
    star: int | None
    made: bool
    name: str

    @property
    def steps(self) -> Sequence[str]:
        """The names of it, from the outside."""
        return self.path.split(".") if is_plain(self.path) else list(map(str, steps_of(self.path) or ()))


def compile_looks(paths: str, where: str, stars: int) -> list[Look]:
    """Make the paths of a setting ready.

    Args:
        paths: of which the first that is there counts.
        where: the setting, for errors.
        stars: how many `*` there are in `each`.

    Raises:
        ConfigurationError: one means nothing.
    """
    return [compile_look(path, where, stars) for path in alternatives(paths)]


def compile_holders(paths: str, where: str, stars: int) -> list[Look]:
    """The same of what holds the metrics: in `a | @` the last is what is left of one without `a`."""
    *ways, last = (way.strip() for way in paths.split("|"))
    if last != _ITSELF or not all(way and is_plain(way) for way in ways):
        return compile_looks(paths, where, stars)
    itself = Look(_ITSELF, lambda rest: (rest, ()), None, made=False, name="")
    return [*(compile_look(way, where, stars) for way in ways), itself]


def compile_look(path: str, where: str, stars: int) -> Look:
    """The same of one path; `[0].t` of an element that is an array is found where it stands, as `0.t`."""
    if _OF_ARRAY.fullmatch(path):
        path = path.replace("[", ".").replace("]", "").removeprefix(".")
    star = star_of(path)
    if star is not None:
        if star >= stars:
            raise ConfigurationError(f"{where}: {path} is what a * in each stands for, and there are {stars}")
        return Look(path, lambda _: None, star, made=False, name="")
    made = not is_plain(path) and steps_of(path) is None
    name = path if is_plain(path) and "." not in path else ""
    return Look(path, compile_find(path, where), None, made, name)


def taken(
    looks: Sequence[Look],
    element: Element,
    value: Any,  # noqa: ANN401  # a message is any value
    rest: dict[str, Any],
    own: set[object],
) -> Any:  # noqa: ANN401  # likewise
    """What stands at the first path that is there in an element; it leaves the rest of it.

    Args:
        looks: the paths.
        element: the element.
        value: its.
        rest: what is left of it.
        own: see `remove`.
    """
    for look in looks:
        if look.name:
            found = rest.pop(look.name, None)
            if found is not None:
                return found
            continue
        if look.star is not None:
            return element.stars[look.star]
        if look.path == _ITSELF:
            found = dict(rest) if type(element.value) is dict else element.value
            rest.clear()
            return found
        hit = look.find(value if look.made else rest)
        if hit is not None:
            found, place = hit
            if place:
                remove(rest, place, own)
            return found
    return None


def remove(rest: dict[str, Any], place: Place, own: set[object]) -> None:
    """Take what stands at a place out of an object, and leave alone what stands in that.

    Args:
        rest: the object.
        place: of what is taken out.
        own: those members of it that are copies already.
    """
    first, inner = place[0], place[1:]
    if not inner:
        del rest[first]  # type: ignore[arg-type]  # of an object
    elif len(inner) == 1 and type(within := rest[first]) is dict:  # type: ignore[index]  # likewise
        if first not in own:
            own.add(first)
            within = rest[first] = within.copy()  # type: ignore[index]  # likewise
        del within[inner[0]]
    else:
        rest[first] = without(rest[first], inner)  # type: ignore[index]  # likewise


class Surroundings:
    """Finds what stands around elements: in each object once, however many elements are in it."""

    def __init__(self) -> None:
        self._hits: dict[tuple[int, int], Found | None] = {}
        self._seen: tuple[Layer, ...] = ()
        self._nearest: dict[int, Found | None] = {}

    def forget(self) -> None:
        """Begin with another message."""
        self._hits, self._seen, self._nearest = {}, (), {}

    def find(self, number: int, looks: Sequence[Look], element: Element) -> Found | None:
        """What stands at the first path that is there in the innermost object around that has one.

        Args:
            number: of the paths, among those of the route.
            looks: the paths.
            element: around which.
        """
        if element.around is not self._seen:
            self._seen, self._nearest = element.around, {}
        if number not in self._nearest:
            self._nearest[number] = self._look(number, looks, element)
        return self._nearest[number]

    def _look(self, number: int, looks: Sequence[Look], element: Element) -> Found | None:
        for value, prefix in element.around:
            asked = (number, id(value))
            if asked not in self._hits:
                self._hits[asked] = next(
                    (hit for look in looks if look.star is None and (hit := look.find(value))), None
                )
            if hit := self._hits[asked]:
                return hit[0], None if hit[1] is None else (*prefix, *hit[1])
        return None
