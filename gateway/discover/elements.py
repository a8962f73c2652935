"""Where in messages readings are: they themselves, elements of an array, rows of a table, two lists. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from gateway.discover.columns import columns_of, key_of, time_of
from gateway.discover.looks import HOLDERS, looks_like_id, words_of
from gateway.discover.readings import VALUES, Elements, at_path, but_for, in_expression
from gateway.discover.tables import table, two_lists

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.discover.columns import Row

_NAMES: Final = (
    "n", "name", "metric", "key", "param", "parameter", "measurement", "signal", "variable", "tag",
    "code", "field", "channel", "label", "type", "sensor", "id",
)  # fmt: skip
_WEAK: Final = frozenset({"id", "sensor", "type", "label", "channel", "tag", "code"})
_MOST_BESIDE: Final = 6  # what an element that is one metric says besides
_ALONE: Final = 10  # the score of an array with one element and nothing that speaks for it
_OFTEN: Final = 4  # one message of so many at least has an array that others do not have
_MARKS: Final = "./:|"


def elements_of(messages: Sequence[Row]) -> Elements:
    """The readings in messages."""
    whole: list[Row] = []
    for row in messages:
        values = row.value if isinstance(row.value, list) else [row.value]
        whole += [row._replace(value=value) for value in values if isinstance(value, dict)]
    if not whole:
        return Elements("", "", "", "", [], [])
    found = _members(whole) or table(whole) or two_lists(whole) or _array(whole)
    if found:
        return found
    name, value = _name_and_value(whole)
    if name in _WEAK:  # of a message by itself they say whose it is
        name = value = ""
    return Elements("", "", name, value, whole, [])


def split_names(elements: Elements) -> tuple[dict[str, Any], set[str], str] | None:
    """Names that are of a device and its metric in one, `Line1.Press2.Temp`; None when they are not.

    Returns:
        the words of a route, the devices, and what is unsure of it.
    """
    names = {str(row.value[elements.name]) for row in elements.rows}
    for mark in _MARKS:
        parts = [name.rpartition(mark) for name in names]
        devices, metrics = {head for head, *_ in parts}, Counter(tail for *_, tail in parts)
        if "" in devices or len(devices) < 2 or len({name.count(mark) for name in names}) > 1:  # noqa: PLR2004  # of one device it cannot be told
            continue
        shared = sum(count > 1 for count in metrics.values())
        if shared * 2 < len(metrics) or any(set(device) & set("+#") for device in devices):
            continue
        path = in_expression(elements.name)
        joint = "." if mark == "/" else mark
        words = {
            "name": f"split({path}, '{mark}')[-1]",
            "device": f"join('{joint}', split({path}, '{mark}')[:-1])",
            "ignore": [f"*.{elements.name}"],
        }
        first, metric = min(devices), min(tail for head, _, tail in parts if head == min(devices))
        said = f"{elements.name} is taken for device and metric in one: {first!r} and {metric!r}"
        return words, devices, said
    return None


def _members(whole: Sequence[Row]) -> Elements | None:
    """Members that are arrays of readings, and called as devices are."""
    if not all(_is_map_of_lists(row.value) for row in whole):
        return None
    names = {name for row in whole for name in row.value}
    if len(names) == 1 and not all(map(looks_like_id, names)):
        return None
    rows = [
        row._replace(value=each, topic=f"{row.topic}\n{name}")
        for row in whole
        for name, list_ in row.value.items()
        for each in list_
    ]
    name, value = _name_and_value(rows)
    said = f"{', '.join(sorted(names)[:4])}, by which arrays are called, are taken for devices"
    return Elements("*", "$1", name, value, rows, [], unsure=(said,))


def _is_map_of_lists(value: dict[str, Any]) -> bool:
    return bool(value) and all(
        isinstance(each, list) and each and all(isinstance(one, dict) for one in each)
            for each in value.values()
    ) and (len(value) > 1 or not any(set(words_of(name)) & HOLDERS for name in value))  # fmt: skip


def _array(whole: Sequence[Row]) -> Elements | None:
    """The elements of an array of objects; where messages come without it, they are readings too."""
    best: tuple[int, str] | None = None
    for path, count in _arrays(whole).items():
        rows = _within(whole, path)
        score = (
            len(rows)
            + 1000 * bool(_name_and_value(rows)[0])
            + 100 * any(map(_has_time, rows))
            + 10 * (len(rows) > count)
        )
        if score > _ALONE and (best is None or score > best[0]):
            best = score, path
    if best is None:
        return None
    path = best[1]
    if found := _nested(whole, path):
        return found
    if not _is_told_by(whole, path):
        return None
    without = [row for row in whole if not isinstance(row.value.get(path), list)]
    rows = [*_within(whole, path), *without]
    name, value = _name_and_value(rows)
    around = [row._replace(value=but_for(row.value, path)) for row in whole if row not in without]
    if not without:
        return Elements(path, "", name, value, rows, around)
    said = f"where there is no {path}, the message itself is taken for a reading"
    return Elements(f"{path} | @", "", name, value, rows, around, unsure=(said,))


def _nested(whole: Sequence[Row], path: str) -> Elements | None:
    """The elements of arrays that are in the elements of another."""
    outer = _within(whole, path)
    for inner, count in _arrays(outer).items():
        if count < len(outer):
            continue
        rows = _within(outer, inner)
        name, value = _name_and_value(rows)
        if not name and not any(map(_has_time, rows)):
            continue
        around = [
            row._replace(value={**but_for(row.value, path), **but_for(each.value, inner)})
            for row in whole
            for each in _within([row], path)
        ]
        return Elements(f"{path}[].{inner}", "", name, value, rows, around)
    return None


def _is_told_by(whole: Sequence[Row], path: str) -> bool:
    """Whether the elements of an array are the readings, rather than what is told of one, as who heard it."""
    rows = _within(whole, path)
    if _name_and_value(rows)[0] or any(map(_has_time, rows)):
        return True
    around = columns_of(row._replace(value=but_for(row.value, path)) for row in whole)
    numbers = [
        name
        for name, cells in around.items()
        if all(type(cell.value) in {int, float} for cell in cells)
        and not time_of(name, cells)
        and not key_of(name, cells)
    ]
    return not numbers


def _arrays(rows: Sequence[Row]) -> dict[str, int]:
    """Arrays of objects that most messages have, or some where the others are as their elements."""
    found: Counter[str] = Counter()
    for row in rows:
        for name, each in row.value.items():
            if isinstance(each, list) and each and all(isinstance(one, dict) for one in each):
                found[name] += 1
    return {
        name: count
        for name, count in found.items()
        if at_path(name) and "." not in name and (count * 2 > len(rows) or _alike(rows, name, count))
    }


def _alike(rows: Sequence[Row], name: str, count: int) -> bool:
    inside = set(chain.from_iterable(row.value for row in _within(rows, name)))
    outside = set(chain.from_iterable(row.value for row in rows if name not in row.value))
    return count * _OFTEN >= len(rows) and len(inside & outside) * 2 > len(inside | outside)


def _within(rows: Sequence[Row], name: str) -> list[Row]:
    return [
        row._replace(value=each)
        for row in rows
        for each in (row.value.get(name) if isinstance(row.value.get(name), list) else [])
        if isinstance(each, dict)
    ]


def _has_time(row: Row) -> bool:
    return any(time_of(name, cells) for name, cells in columns_of([row]).items())


def _name_and_value(rows: Sequence[Row]) -> tuple[str, str]:
    """The fields of a metric's name and of its value, when each element is one metric; empty when not."""
    if not rows or any(len(row.value) > _MOST_BESIDE for row in rows):
        return "", ""
    for name in _NAMES:
        names = [row.value.get(name) for row in rows]
        if not all(isinstance(each, str) and each for each in names):
            continue
        if all(looks_like_id(str(each)) for each in names) or (
            name in {"id", "sensor", "type"} and len(set(map(str, names))) == 1
        ):
            continue
        for value in VALUES:
            values = [row.value.get(value) for row in rows]
            if all(value in row.value for row in rows) and all(
                not isinstance(each, dict | list) for each in values
            ):
                return name, value
    return "", ""


def by_name(elements: Elements) -> dict[str, list[Any]]:
    """The values of elements that are one metric each, by the metric; empty when they are not."""
    values: dict[str, list[Any]] = defaultdict(list)
    for row in elements.rows if elements.name else ():
        values[str(row.value[elements.name])].append(row.value[elements.value])
    return values
