"""Paths: where in a message something stands.

Names with dots between them are read without a library, as every message is: `meta.id`, `data.0`. Anything else is
JMESPath (https://jmespath.org/specification.html), which has names in quotation marks for what has a dot in it.
Between plain paths ` | ` stands for "the first that is there"; in JMESPath that is `||`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import jmespath
from jmespath.exceptions import JMESPathError

from runtime.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

Look = "Callable[[Any], Any]"

_SYNTAX: Final = re.compile(r"[\[\]()'\"`&@!<>?,:{}*\\]|\|\||==")
_STAR: Final = re.compile(r"\$([1-9])")


def is_plain(path: str) -> bool:
    """Whether a path is names with dots, or several of those."""
    return not _SYNTAX.search(path)


def alternatives(path: str) -> tuple[str, ...]:
    """The plain paths of which the first that is there counts; a JMESPath expression by itself."""
    if not path:
        return ()
    return tuple(name.strip() for name in path.split("|")) if is_plain(path) else (path,)


def star_of(path: str) -> int | None:
    """Which `*` of `each` a path such as `$1` means, from 0; None when it means none."""
    found = _STAR.fullmatch(path)
    return int(found[1]) - 1 if found else None


def compile_path(path: str, where: str) -> Callable[[Any], Any]:
    """What looks for one path in a value, and gives None where there is nothing.

    Raises:
        ConfigurationError: it is none.
    """
    if not is_plain(path):
        try:
            expression = jmespath.compile(path)
        except JMESPathError as error:
            said = str(error).splitlines()[0].rstrip(":")
            raise ConfigurationError(f"{where}: {path!r} is no JMESPath expression: {said}") from None
        return _searching(expression)
    if not all(names := path.split(".")):
        raise ConfigurationError(f"{where}: a name is missing in {path!r}")
    return _walking(path, names)


def _searching(expression: Any) -> Callable[[Any], Any]:  # noqa: ANN401  # the library's own
    def look(value: Any) -> Any:  # noqa: ANN401  # a message is any value
        try:
            return expression.search(value)
        except JMESPathError:  # of a function that was given what it does not take: not what is looked for
            return None

    return look


def _walking(path: str, names: list[str]) -> Callable[[Any], Any]:
    if len(names) == 1:
        return lambda value: value.get(path) if type(value) is dict else _index(value, path)

    def look(value: Any) -> Any:  # noqa: ANN401  # a message is any value
        if type(value) is dict and path in value:  # a name with dots in it
            return value[path]
        for name in names:
            value = value.get(name) if type(value) is dict else _index(value, name)
            if value is None:
                return None
        return value

    return look


def _index(value: Any, name: str) -> Any:  # noqa: ANN401  # a message is any value
    if type(value) is list and name.isdigit() and len(name) < 6 and int(name) < len(value):  # noqa: PLR2004  # no array is longer
        return value[int(name)]
    return None
