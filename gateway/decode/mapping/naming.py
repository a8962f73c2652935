"""The names in messages whose elements are one metric each, for `learned`: they decide what is what. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.decode.mapping.marks import Unlike

if TYPE_CHECKING:
    from gateway.decode.mapping.each import Each
    from gateway.decode.mapping.element import Elements
    from gateway.decode.mapping.marks import Marks


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
        self._shared = [[look.name for look in found] for found in elements.roles if found]
        self._shared += [[look.name] for _, look in elements.tags.looks]

    def names(self, message: Any) -> list[str]:  # noqa: ANN401  # a message is any value
        """The names of the metrics, in the order of the elements.

        Raises:
            Unlike: it has no such elements, or one has no name that is a text.
        """
        elements: Any = message
        if type(message) is dict:
            elements = message.get(self._path) if self._path else [message]
        elif self._path:
            raise Unlike
        if type(elements) is not list:
            raise Unlike
        first = self._first
        found = []
        for element in elements:
            if type(element) is not dict:
                raise Unlike
            name = element.get(first) or element.get(self._name(element))
            if type(name) is not str:
                raise Unlike
            found.append(name)
        return found

    def marked(self, message: Any, marks: Marks) -> Any:  # noqa: ANN401  # likewise
        """The same with a mark for each value but for the names.

        What elements are looked through for has one mark in all of them: they are one reading if it is equal.
        """
        if self._path:
            elements = [self._marked(element, marks) for element in message[self._path]]
            return {
                name: elements if name == self._path else marks.of(value) for name, value in message.items()
            }
        if type(message) is list:
            return [self._marked(element, marks) for element in message]
        return self._marked(message, marks)

    def _name(self, element: dict[str, Any]) -> str:
        return next((name for name in self._names if element.get(name) is not None), "")

    def _marked(self, element: dict[str, Any], marks: Marks) -> dict[str, Any]:
        named = self._name(element)
        shared: dict[str, tuple[object, ...]] = {}
        for number, names in enumerate(self._shared):
            if (found := next((name for name in names if element.get(name) is not None), None)) is not None:
                shared[found] = (number,)
        return {
            name: value if name == named else marks.of(value, shared.get(name, ()))
            for name, value in element.items()
        }
