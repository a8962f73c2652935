"""Readings that are rows of a table, or two lists of which one names what is in the other. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.discover.columns import columns_of, time_of
from gateway.discover.readings import Elements, at_path, but_for, in_expression

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.discover.columns import Row


def two_lists(whole: Sequence[Row]) -> Elements | None:
    """Two lists of one length, of which one has the names of what is in the other."""
    first = whole[0].value
    names = [name for name, each in first.items() if _is_names(each) and at_path(name)]
    values = [name for name, each in first.items() if _is_values(each) and at_path(name)]
    for titles in names:
        for held in values:
            if not all(_fit(row.value.get(titles), row.value.get(held)) for row in whole):
                continue
            rows = [
                row._replace(
                    value={
                        **{name: each for name, each in row.value.items() if name not in {titles, held}},
                        **dict(zip(row.value[titles], row.value[held], strict=True)),
                    }
                )
                for row in whole
            ]
            metrics = f"from_items(zip({in_expression(titles)}, {in_expression(held)}))"
            said = f"{titles} and {held} are taken for the names of metrics and what they are"
            beside = frozenset(name for row in whole for name in row.value) - {titles, held}
            return Elements(
                "", "", "", "", rows, [], {"metrics": metrics}, used=(titles, held), beside=beside,
                unsure=(said,),
            )  # fmt: skip
    return None


def table(whole: Sequence[Row]) -> Elements | None:
    """Rows that are lists, with a list of the names of their columns beside them or without."""
    for held, first in whole[0].value.items():
        if not at_path(held) or not _is_table(first):
            continue
        width = len(first[0])
        tables = [row.value.get(held) for row in whole]
        if not all(_is_table(each) and len(each[0]) == width for each in tables):
            continue
        rows = [
            row._replace(value={str(i): cell for i, cell in enumerate(each)})
            for row in whole
            for each in row.value[held]
        ]
        around = [row._replace(value=but_for(row.value, held)) for row in whole]
        titles = {
            tuple(each)
            for row in whole
            for each in row.value.values()
            if _is_names(each) and len(each) == width
        }
        if len(titles) == 1:
            [columns] = titles
            rename = {str(i): title for i, title in enumerate(columns)}
            said = f"the columns of {held} are called as they were just now, {', '.join(columns[:6])}"
            return Elements(
                held, "", "", "", rows, around, {"rename": rename}, used=_titled(whole[0], columns),
                unsure=(f"{said}: others, or in another order, would be taken for these",),
            )  # fmt: skip
        timed = [name for name, cells in columns_of(rows).items() if time_of(name, cells)]
        if width == 2 and len(timed) == 1:  # noqa: PLR2004  # a time and a value
            value = "1" if timed == ["0"] else "0"
            said = f"{held} is taken for pairs of a time and a value"
            return Elements(held, "", "", "", rows, around, named=value, unsure=(said,))
        said = f"the columns of {held} have no names, and are called by their numbers: rename names them"
        return Elements(held, "", "", "", rows, around, unsure=(said,))
    return None


def _titled(row: Row, columns: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name, each in row.value.items() if each == list(columns))


def _is_names(each: Any) -> bool:  # noqa: ANN401  # a message is any value
    return (
        isinstance(each, list)
        and bool(each)
        and all(isinstance(one, str) and one for one in each)
        and len(set(each)) == len(each)
    )


def _is_values(each: Any) -> bool:  # noqa: ANN401  # likewise
    return (
        isinstance(each, list)
        and any(type(one) in {int, float, bool} for one in each)
        and not any(isinstance(one, dict | list) for one in each)
    )


def _fit(names: Any, values: Any) -> bool:  # noqa: ANN401  # likewise
    return _is_names(names) and _is_values(values) and len(names) == len(values)


def _is_table(each: Any) -> bool:  # noqa: ANN401  # likewise
    return (
        isinstance(each, list)
        and bool(each)
        and all(isinstance(row, list) and len(row) == len(each[0]) > 1 for row in each)
        and not any(isinstance(cell, dict | list) for row in each for cell in row)
    )
