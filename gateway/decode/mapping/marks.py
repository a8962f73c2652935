"""The shape of a message told from its values, and marks that stand for them, for `learned`. Pure."""

from __future__ import annotations

from itertools import compress
from typing import Any, Final

MOST: Final = 300  # values, and names and kinds of them
MARK: Final = "\ue000"  # of private use: no text of a person begins so

_LATE: Final = 2.0**30  # a number that is a time since 1970, whatever it is taken for
_NUMBER, _TEXT, _TRUTH, _NULL, _OBJECT, _ARRAY = range(6)
_KINDS: Final[dict[type, int]] = {
    float: _NUMBER, int: _NUMBER, str: _TEXT, bool: _TRUTH, type(None): _NULL, dict: _OBJECT, list: _ARRAY,
}  # fmt: skip
_MOST_SEEN: Final = 4096
_SHORT: Final = 32  # members of an object, or of an array, that are remembered
_Kinds = tuple[tuple[int, ...], tuple[bool, ...], tuple[bool, ...]]
_seen: Final[dict[tuple[type, ...], _Kinds]] = {}
"""Types of members, with their kinds, and which are objects or arrays and which are not, if some are."""


class Unlike(Exception):  # noqa: N818  # no error: it is read as ever
    """It is not of a kind of which anything is learned: it is too large, or something in it is no value."""


def spread(value: dict[str, Any] | list[Any], shape: list[Any], leaves: list[Any]) -> None:
    """Tell the names and kinds of a message from its values, which come in an order that these decide.

    Raises:
        Unlike: it has a value that is none, or is too large.
    """
    holders: list[Any] = [value]
    for each in holders:
        if type(each) is dict:
            shape += each
            members = each.values()
        else:
            members = each
        types = (*map(type, members),)
        kinds, deep, flat = _seen.get(types) or _see(types)
        shape.append(kinds)
        if deep:
            holders += compress(members, deep)
            leaves += compress(members, flat)
        else:
            leaves += members
        if len(shape) + len(leaves) > MOST:
            raise Unlike


def in_order(value: dict[str, Any] | list[Any]) -> list[Any]:
    """The values of a message as `spread` orders them, whatever they are."""
    holders: list[Any] = [value]
    leaves: list[Any] = []
    for each in holders:
        for member in each.values() if type(each) is dict else each:
            (holders if type(member) in {dict, list} else leaves).append(member)
    return leaves


def _see(types: tuple[type, ...]) -> _Kinds:
    if len(types) > MOST or not _KINDS.keys() >= set(types):
        raise Unlike
    kinds = (*map(_KINDS.__getitem__, types),)
    deep = tuple(kind >= _OBJECT for kind in kinds)
    found: _Kinds = (kinds, deep, tuple(not each for each in deep)) if any(deep) else (kinds, (), ())
    if len(types) <= _SHORT:
        if len(_seen) >= _MOST_SEEN:
            _seen.clear()
        _seen[types] = found
    return found


class Marks:
    """Stand for the values of a message, each for one, but for those that are to be equal.

    Attributes:
        given: all of them.
    """

    def __init__(self) -> None:
        self.given: set[str | float] = set()
        self._shared: dict[tuple[object, ...], str | float] = {}

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
        if value is None:
            return None
        count, is_text = len(self.given), type(value) is str
        mark = f"{MARK}{count}" if is_text else _LATE + count + 0.5
        if shared:
            mark = self._shared.setdefault((*shared, is_text), mark)
        self.given.add(mark)
        return mark

    def places(self, marked: Any) -> dict[str | float, list[int]]:  # noqa: ANN401  # likewise
        """Where among its values each mark stands in a message with marks, as `spread` orders them."""
        leaves: list[Any] = []
        spread(marked, [], leaves)
        found: dict[str | float, list[int]] = {}
        for at, leaf in enumerate(leaves):
            if leaf in self.given:
                found.setdefault(leaf, []).append(at)
        return found
