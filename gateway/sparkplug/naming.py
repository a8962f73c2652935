"""Messages of data, completed: metrics that have an alias alone get their names, and values their datatypes.

So do members of templates. A message that says all of it itself needs no birth: a name and a datatype, or a
value that is the same in every datatype. Integers are two's complement (3.0.0 §6.4.7), so one of 128 and more
without a datatype may be a negative one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gateway.decode.formats.sparkplug_usual import Usual
from gateway.decode.formats.sparkplug_values import typed
from gateway.sparkplug.nodes.tables import WITHIN
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.sparkplug.nodes.tables import Metric

_SIGNED_FROM: Final = 128  # the smallest number that is another one in a datatype with a sign


class Unnamed(Exception):  # noqa: N818  # no error: perhaps there will be a birth
    """A metric that no birth explains.

    Attributes:
        key: its alias; its name, where it is the datatype that is missing.
    """

    def __init__(self, key: int | str) -> None:
        super().__init__(key)
        self.key = key


def complete(
    value: dict[str, Any] | Usual, find: Callable[[int | str], Metric | None]
) -> dict[str, Any] | Usual:
    """A payload with the names of its metrics, and their values as they were meant.

    Args:
        value: as the format made it; it is left as it is.
        find: the metric of an alias, or of a name.

    Raises:
        Unnamed: that is not known of one of them.
        Reject: a value is none of its datatype.
    """
    if isinstance(value, Usual):
        if value.says_all:
            return value
        aliases = value.aliases
        if aliases is not None:
            return value._replace(told=tuple(_told(alias, find) for alias in aliases))
        value = value.value
    metrics = value["metrics"]
    completed = [_completed(metric, find) for metric in metrics]
    if all(new is old for new, old in zip(completed, metrics, strict=True)):
        return value
    return {**value, "metrics": completed}


def _told(alias: int, find: Callable[[int | str], Metric | None]) -> tuple[str, int]:
    """What a metric is called that has an alias alone, and its datatype."""
    known = find(alias)
    if known is None:
        raise Unnamed(alias)
    return known.name.replace(WITHIN, "."), known.datatype


def _completed(metric: dict[str, Any], find: Callable[[int | str], Metric | None]) -> dict[str, Any]:
    name, alias, stated = metric.get("name"), metric.get("alias"), metric["value"]
    if not name and alias is not None:
        known = find(alias)
        if known is None:
            raise Unnamed(alias)
        called = known.name.replace(WITHIN, ".")  # a member by itself is called as in its template
        named = {"name": called, **{key: each for key, each in metric.items() if key != "name"}}
        if "datatype" not in metric:
            named["value"] = typed(stated, known.datatype)
        return _whole(named, known.name, find) if type(stated) is dict else named
    if name and type(stated) is dict:
        return _whole(metric, name, find)
    if name and "datatype" not in metric and type(stated) in {int, str}:
        known = find(name)
        if known is not None:
            value = typed(stated, known.datatype)
            return metric if value is stated else {**metric, "value": value}
        if type(stated) is int and stated >= _SIGNED_FROM:
            raise Unnamed(name)
    return metric


def _whole(metric: dict[str, Any], way: str, find: Callable[[int | str], Metric | None]) -> dict[str, Any]:
    """A template with the names of its members, and their values as they were meant."""
    value, members = dict(metric["value"]), dict(metric.get("members", {}))
    for name, stated in metric["value"].items():
        said = members.get(name, {})
        if type(stated) is dict:
            whole = _whole({**said, "value": stated}, f"{way}{WITHIN}{name}", find)
            value[name] = whole.pop("value")
            if whole:
                members[name] = whole
        elif type(stated) is int and "datatype" not in said and (known := find(f"{way}{WITHIN}{name}")):
            value[name] = typed(stated, known.datatype)
    for member in metric.get("unnamed", ()):
        alias = member["alias"]
        known = find(alias)
        if known is None or known.name.rpartition(WITHIN)[0] != way:
            raise Unnamed(alias)
        named = _completed(member, find)
        name = known.name.rpartition(WITHIN)[2]
        if name in value:
            raise Reject("duplicate_key", f"a template has a member called {name[:40]!r} twice")
        value[name] = named.pop("value")
        del named["name"]
        members[name] = named
    if value == metric["value"] and "unnamed" not in metric:
        return metric
    whole = {key: each for key, each in metric.items() if key != "unnamed"} | {"value": value}
    return whole | {"members": members} if members else whole
