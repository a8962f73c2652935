"""What commands that list things share: a table on a terminal, rows of tabs or lines of JSON for others."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

import click
import msgspec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

T = TypeVar("T")

_ROWS: Final = 500  # laid out together


@contextmanager
def until_nobody_reads() -> Iterator[None]:
    """End the block without a word when whoever reads stdout has enough."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def show(
    items: AsyncIterator[T],
    *,
    columns: Sequence[str],
    cells: Callable[[T], Sequence[str]],
    limit: int | None,
    as_json: bool,
    nothing: str,
) -> None:
    """List items as they come.

    Args:
        items: a structure each.
        columns: heads of the table.
        cells: an item's row of it.
        limit: how many are shown; None for all.
        as_json: a line of JSON for each instead.
        nothing: what is said when there is none; not to programs.
    """
    found: list[T] = []
    shown = 0
    async for item in items:
        if as_json:
            click.echo(msgspec.json.encode(item))
            shown += 1
        else:
            found.append(item)
        if len(found) == _ROWS:
            _table(columns, list(map(cells, found)), is_first=not shown)
            shown += len(found)
            found = []
        if shown + len(found) == limit:
            break
    if found:
        _table(columns, list(map(cells, found)), is_first=not shown)
    elif not shown and not as_json:
        click.echo(nothing)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, is_first: bool) -> None:
    if not sys.stdout.isatty():
        for row in [columns, *rows] if is_first else rows:
            click.echo("\t".join(row))
        return
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    for n, row in enumerate([columns, *rows]):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        click.echo(click.style(line, bold=True) if n == 0 else line)
