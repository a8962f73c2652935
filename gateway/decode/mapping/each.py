"""`each`: which elements of a message are readings, and what the message is with some of them only.

`readings` are the elements of an array of this name, `*` those of the arrays that are members of the message, and
`*.values` of those within. What stands there and is no array is one element. What a `*` stood for is kept, for
`$1`. Any other JMESPath expression finds its elements too, but a message cannot be cut by one. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gateway.decode.paths import compile_path, is_plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Place = tuple["str | int", ...]
_STAR: Final = "*"
OUTSIDE: Final = "(outside each)"


class Element(NamedTuple):
    """A part of a message that is a reading, or a metric of one.

    Attributes:
        value: it.
        stars: what each `*` stood for.
        place: the names and indices that lead to it; None when it cannot be said.
    """

    value: Any
    stars: tuple[str, ...]
    place: Place | None


class Each:
    """Finds the elements of messages.

    Args:
        path: `each` of a route; empty is the message itself, of an array its elements.
        where: the setting, for errors.

    Attributes:
        path: the same.
        cuts: whether a message can be cut into its elements.

    Raises:
        ConfigurationError: the path means nothing.
    """

    def __init__(self, path: str, where: str) -> None:
        self.path = path
        names = path.split(".") if path else []
        self.cuts = all(name == _STAR or (name and is_plain(name)) for name in names)
        self._names = names if self.cuts else []
        self._look = None if self.cuts else compile_path(path, where)

    def find(self, message: Any) -> list[Element]:  # noqa: ANN401  # a message is any value
        """The elements, in the order in which they stand."""
        if self._look is None:
            return list(self._elements(message, 0, (), ()))
        found = self._look(message)
        values = found if type(found) is list else [] if found is None else [found]
        return [Element(value, (), None) for value in values]

    def only(self, message: Any, places: Sequence[Place]) -> Any:  # noqa: ANN401  # a message is any value
        """The message with these elements and no others; an array of one stays an array."""
        return _only(message, places, self._names)

    def around(self, message: Any) -> Any:  # noqa: ANN401  # a message is any value
        """The message without the elements."""
        if self._look is not None:
            return {OUTSIDE: True}
        return _without(message, self._names) if self._names else None

    def _elements(self, value: Any, at: int, stars: tuple[str, ...], place: Place) -> Iterator[Element]:  # noqa: ANN401  # likewise
        if at == len(self._names):
            if type(value) is list:
                for i, each in enumerate(value):
                    yield Element(each, stars, (*place, i))
            elif value is not None:
                yield Element(value, stars, place)
            return
        name = self._names[at]
        if name == _STAR:
            for key, member in _members(value):
                yield from self._elements(member, at + 1, (*stars, str(key)), (*place, key))
        elif type(value) is dict and name in value:
            yield from self._elements(value[name], at + 1, stars, (*place, name))


def _members(value: Any) -> list[tuple[str | int, Any]]:  # noqa: ANN401  # a message is any value
    if type(value) is dict:
        return list(value.items())
    return list(enumerate(value)) if type(value) is list else []


def _only(value: Any, places: Sequence[Place], names: Sequence[str]) -> Any:  # noqa: ANN401  # likewise
    if not places[0]:
        return value
    within: dict[str | int, list[Place]] = {}
    for first, *rest in places:
        within.setdefault(first, []).append(tuple(rest))
    members = {key: _only(value[key], its, names[1:]) for key, its in within.items()}
    if type(value) is list:
        return list(members.values())
    return members if names and names[0] == _STAR else {**value, **members}


def _without(value: Any, names: Sequence[str]) -> Any:  # noqa: ANN401  # likewise
    first, *rest = names
    if type(value) is not dict or first == _STAR:
        return {}
    others = {key: member for key, member in value.items() if key != first}
    if rest and first in value:
        others[first] = _without(value[first], rest)
    return others
