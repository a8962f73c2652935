"""The names in messages whose elements are one metric each, for `learned`: they decide what is what. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.decode.mapping.learned import Unlike, kind_of, spread, spread_within

if TYPE_CHECKING:
    from gateway.decode.mapping.each import Each
    from gateway.decode.mapping.element import Elements
    from gateway.decode.mapping.learned import Marks


class Naming:
    """Of the messages of one route whose paths are names, see `listed_of`.

    Args:
        each: finds the list, by one name; by none when it is the message.
        elements: what is looked for.
    """

    def __init__(self, each: Each, elements: Elements) -> None:
        self._path = each.path
        self._first = elements.name[0].name
        self._names = [look.name for look in elements.name]
        looks = [(role, found) for role, found in enumerate(elements.roles)]
        self._shared = [[look.name for look in found] for _, found in looks if found]
        self._shared += [[look.name] for _, look in elements.tags.looks]

    def spread(self, message: Any, shape: list[Any], leaves: list[Any]) -> None:  # noqa: ANN401  # a message is any value
        """What `spread` does, with the names of the metrics among the shape.

        Raises:
            Unlike: it has no such elements, or one has no name.
            KeyError: likewise.
        """
        if type(message) is list:
            self._spread(message, shape, leaves)
        elif type(message) is not dict:
            raise Unlike
        elif not self._path:
            self._spread([message], shape, leaves)
        else:
            elements = message[self._path]
            if type(elements) is not list:
                raise Unlike
            kinds = (*map(kind_of, map(type, message.values())),)
            shape += (*message,), kinds
            for each, kind in zip(message.values(), kinds, strict=True):
                if each is elements:
                    self._spread(elements, shape, leaves)
                else:
                    spread_within(((kind, each),), shape, leaves)

    def _spread(self, elements: list[Any], shape: list[Any], leaves: list[Any]) -> None:
        first = self._first
        for element in elements:
            if type(element) is not dict:
                raise Unlike
            name = element.get(first) or element[self._name(element)]
            if type(name) is not str:
                raise Unlike
            shape.append(name)
            spread(element, shape, leaves)

    def marked(self, message: Any, marks: Marks) -> Any:  # noqa: ANN401  # likewise
        """The same with a mark for each value but for the names.

        What elements are looked through for has one mark in all of them: they are one reading if it is equal.
        """
        if type(message) is list:
            return [self._marked(element, marks) for element in message]
        if not self._path:
            return self._marked(message, marks)
        return {
            name: [self._marked(element, marks) for element in value]
            if name == self._path
            else marks.of(value)
            for name, value in message.items()
        }

    def _name(self, element: dict[str, Any]) -> str:
        return next((name for name in self._names if element.get(name) is not None), "")

    def _marked(self, element: dict[str, Any], marks: Marks) -> dict[str, Any]:
        named = self._name(element)
        shared: dict[str, tuple[object, ...]] = {}
        for number, names in enumerate(self._shared):
            if (found := next((name for name in names if element.get(name) is not None), None)) is not None:
                shared[found] = (number,)
        return {
            name: marks.keep(value) if name == named else marks.of(value, shared.get(name, ()))
            for name, value in element.items()
        }
