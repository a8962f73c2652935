"""Paths: where in a message something stands.

Names with dots between them are read without a library: `meta.id`, `data.0`, `em:0.power`.
Anything else is JMESPath (https://jmespath.org/specification.html), which has names in quotation marks for
what has a dot in it. Between plain paths ` | ` stands for "the first that is there", as `||`
in JMESPath. Beside its functions there are some of its community's (https://jmespath.site):
`split(text, mark)`; `zip(a, b)`, here null of lists of which one is longer; and `from_items(pairs)`, here
null where a name comes twice: nothing of a message is to be lost. One is ours: `from_json(text)` is the value
of a text that is JSON itself, and null when it is none.

What a plain path finds has a place in the message, and so has an expression of names and indices alone,
`"a.b"[0].c`. What any other expression finds may have been made by it.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, Final

import jmespath
import msgspec
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions, signature

from runtime.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

Place = tuple["str | int", ...]
"""Names and indices, from the outside."""

Found = tuple[Any, "Place | None"]
"""What stands at a path, and where; None when the path is an expression."""

# `@` by itself is the message; the first letter of a name, as in @timestamp, it is not in JMESPath.
_SYNTAX: Final = re.compile(r"[\[\]()'\"`&!<>{}*\\]|\|\||==|(?:^|\|)\s*@\s*(?:$|[.|])")
_STAR: Final = re.compile(r"\$([1-9])")
_STEPS: Final = re.compile(r'(?:(?:^|\.)(?:([A-Za-z_][A-Za-z0-9_]*)|"([^"\\]+)")|\[([0-9]{1,6})\])')
_INDEX: Final = re.compile(r"[0-9]{1,6}")  # no array is longer
_PAIR: Final = 2


# Nodes whose first child is given what they are, and the others what it found.
_ONE_AFTER_THE_OTHER: Final = frozenset(
    {"subexpression", "index_expression", "projection", "value_projection", "filter_projection", "pipe"}
)


class _Own(Functions):
    """Those of JMESPath, some of its community's, and ours."""

    @signature({"types": ["string", "null"]})
    def _func_from_json(self, text: str | None) -> Any:  # noqa: ANN401  # JSON is any value
        if text is None:
            return None
        try:
            json.loads(text, object_pairs_hook=_once)
            return msgspec.json.decode(text)
        except (ValueError, RecursionError, msgspec.DecodeError):
            return None

    @signature({"types": ["string", "null"]}, {"types": ["string"]})
    def _func_split(self, text: str | None, mark: str) -> Any:  # noqa: ANN401  # likewise
        return None if text is None else text.split(mark) if mark else list(text)

    @signature({"types": ["array", "null"]}, {"types": ["array", "null"]})
    def _func_zip(self, first: list[Any] | None, second: list[Any] | None) -> Any:  # noqa: ANN401  # likewise
        """Pairs; null of two lists of which one is longer: what belongs to what cannot be told."""
        if first is None or second is None or len(first) != len(second):
            return None
        return [list(pair) for pair in zip(first, second, strict=True)]

    @signature({"types": ["array", "null"]})
    def _func_from_items(self, items: list[Any] | None) -> Any:  # noqa: ANN401  # likewise
        """An object of pairs of a name and a value; null when a name is none or comes twice."""
        if items is None or not all(
            type(item) is list and len(item) == _PAIR and type(item[0]) is str for item in items
        ):
            return None
        found = dict(items)
        return found if len(found) == len(items) else None


def _once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of a name that is given twice the library would keep the last value only."""
    found = dict(members)
    if len(found) < len(members):
        raise ValueError(members)
    return found


_OPTIONS: Final = jmespath.Options(custom_functions=_Own())


def is_plain(path: str) -> bool:
    """Whether a path is names with dots, or several of those."""
    return not _SYNTAX.search(path)


def alternatives(path: str) -> tuple[str, ...]:
    """The plain paths of which the first that is there counts; a JMESPath expression by itself."""
    if not path:
        return ()
    return tuple(name.strip() for name in path.split("|")) if is_plain(path) else (path,)


def is_text(path: str) -> bool:
    """Whether an expression is nothing but a text, such as `'press-1'`."""
    return path[:1] == path[-1:] == "'" and path.count("'") == 2  # noqa: PLR2004  # quotes


def star_of(path: str) -> int | None:
    """Which `*` of `each` a path such as `$1` means, from 0; None when it means none."""
    found = _STAR.fullmatch(path)
    return int(found[1]) - 1 if found else None


def steps_of(expression: str) -> Place | None:
    """The names and indices of an expression that is nothing else; None of any other."""
    steps: list[str | int] = []
    at = 0
    while found := _STEPS.match(expression, at):
        name, quoted, index = found.groups()
        steps.append(int(index) if index else name or quoted)
        at = found.end()
    return tuple(steps) if steps and at == len(expression) and type(steps[0]) is str else None


def looks_at(expression: str, names: Collection[str]) -> bool:
    """Whether an expression has one of these names in it, or looks at all that there is."""
    return _looks_at(jmespath.compile(expression).parsed, names, root=True)


def _looks_at(node: Any, names: Collection[str], *, root: bool) -> bool:  # noqa: ANN401  # the library's own
    """`root`: whether what the node is given may be all of the message."""
    kind, children = (
        node["type"],
        [each for each in node["children"] if type(each) is dict],
    )  # or the numbers of a slice
    if kind == "field":
        return node["value"] in names
    if kind in {"current", "identity"}:
        return root
    if kind in _ONE_AFTER_THE_OTHER:
        first, *others = children
        if kind == "value_projection" and root and first["type"] in {"current", "identity"}:
            return True
        return _looks_at(first, names, root=root) or any(
            _looks_at(each, names, root=False) for each in others
        )
    return any(_looks_at(each, names, root=root) for each in children)


def compile_path(path: str, where: str) -> Callable[[Any], Any]:
    """What looks for one path in a value, and gives None where there is nothing.

    Raises:
        ConfigurationError: it is none.
    """
    find = compile_find(path, where)

    def look(value: Any) -> Any:  # noqa: ANN401  # a message is any value
        found = find(value)
        return None if found is None else found[0]

    return look


def compile_find(path: str, where: str) -> Callable[[Any], Found | None]:
    """What looks for one path in a value, and gives what stands there and where; None where there is nothing.

    A function of an expression that is given what it does not take finds nothing.

    Raises:
        ConfigurationError: it is no path.
    """
    if is_plain(path):
        if "|" in path:
            return _by_first([compile_find(each, where) for each in alternatives(path)])
        if not all(names := path.split(".")):
            raise ConfigurationError(f"{where}: a name is missing in {path!r}")
        return _by_name(path) if len(names) == 1 else _by_names(names)
    expression = _compiled(path, where)
    steps = steps_of(path)
    return _by_search(expression) if steps is None else _by_steps(steps)


def _compiled(path: str, where: str) -> Any:  # noqa: ANN401  # the library's own
    try:
        expression = jmespath.compile(path)
        functions = list(_functions(expression.parsed))
    except (JMESPathError, RecursionError) as error:
        said = (str(error).splitlines() or [""])[0].rstrip(":")
        raise ConfigurationError(f"{where}: {path!r} is no JMESPath expression: {said}") from None
    for name, given in functions:
        if name not in _Own.FUNCTION_TABLE:
            raise ConfigurationError(f"{where}: {path!r}: JMESPath has no function {name}()")
        takes = _Own.FUNCTION_TABLE[name]["signature"]
        more = bool(takes) and bool(takes[-1].get("variadic"))
        if given < len(takes) or (given > len(takes) and not more):
            wanted = f"{len(takes)} arguments{' or more' * more}"
            raise ConfigurationError(f"{where}: {path!r}: {name}() takes {wanted}, not {given}")
    return expression


def _functions(node: Any) -> Iterator[tuple[str, int]]:  # noqa: ANN401  # the library's own
    """Those that an expression calls, with how many arguments each; the library looks only when it calls."""
    if type(node) is dict:
        if node.get("type") == "function_expression":
            yield node["value"], len(node["children"])
        for child in node.get("children", ()):
            yield from _functions(child)


def _by_search(expression: Any) -> Callable[[Any], Found | None]:  # noqa: ANN401  # the library's own
    def find(value: Any) -> Found | None:  # noqa: ANN401  # a message is any value
        try:
            found = expression.search(value, options=_OPTIONS)
        except Exception:  # noqa: BLE001  # the library's functions let many kinds through, of what a message holds
            return None
        if found is None or (type(found) is float and not math.isfinite(found)):  # to_number('nan')
            return None
        return found, None

    return find


def _by_name(name: str) -> Callable[[Any], Found | None]:
    place = (name,)

    def find(value: Any) -> Found | None:  # noqa: ANN401  # a message is any value
        if type(value) is dict:
            found = value.get(name)
            return None if found is None else (found, place)
        return _located(value, (name,))

    return find


def _by_first(finds: Sequence[Callable[[Any], Found | None]]) -> Callable[[Any], Found | None]:
    def find_first(value: Any) -> Found | None:  # noqa: ANN401  # a message is any value
        for find in finds:
            if found := find(value):
                return found
        return None

    return find_first


def _by_names(names: Sequence[str]) -> Callable[[Any], Found | None]:
    place = tuple(names)
    merged = [  # names with dots in them that could stand at each level
        frozenset(".".join(names[begin:end]) for end in range(begin + 2, len(names) + 1))
        for begin in range(len(names))
    ]

    def find(value: Any) -> Found | None:  # noqa: ANN401  # a message is any value
        within = value
        for name in names:
            within = within.get(name) if type(within) is dict else None
            if within is None:
                break
        else:
            return within, place
        within = value
        for name, others in zip(names, merged, strict=True):
            if type(within) is not dict:
                return _located(value, names) if type(within) is list else None
            if not others.isdisjoint(within):
                return _located(value, names)
            within = within.get(name)
        return None

    return find


def _by_steps(steps: Place) -> Callable[[Any], Found | None]:
    def find(value: Any) -> Found | None:  # noqa: ANN401  # a message is any value
        for step in steps:
            if type(step) is str:
                value = value.get(step) if type(value) is dict else None
            else:
                value = value[step] if type(value) is list and step < len(value) else None  # type: ignore[operator, index]  # an index
        return None if value is None else (value, steps)

    return find


def _located(value: Any, names: Sequence[str]) -> Found | None:  # noqa: ANN401  # a message is any value
    """Names may have dots in them, so `a.b.c` is c in b in a, and also c in a.b."""
    if not names:
        return None if value is None else (value, ())
    if type(value) is dict:
        for end in range(1, len(names) + 1):
            name = ".".join(names[:end])
            if name in value and (found := _located(value[name], names[end:])):
                return found[0], (name, *(found[1] or ()))
    elif type(value) is list and _INDEX.fullmatch(names[0]) and (at := int(names[0])) < len(value):
        found = _located(value[at], names[1:])
        return found and (found[0], (at, *(found[1] or ())))
    return None
