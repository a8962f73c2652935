"""Markdown tables of what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

CpuByCase = dict[str, dict[str, float]]
"""µs of CPU by process, for each case worth a row."""

_MET = {True: "✓", False: "✗", None: ""}


class Line(msgspec.Struct, frozen=True):
    """One line of a scenario's table.

    Attributes:
        what: was measured.
        measured: with its unit.
        target: what it is to be; empty when there is none.
        met: whether it is; None without a target.
    """

    what: str
    measured: str
    target: str = ""
    met: bool | None = None


def table_of_lines(lines: Sequence[Line]) -> str:
    """What was measured, beside its target."""
    rows = [[line.what, line.target, line.measured, _MET[line.met]] for line in lines]
    return table(["", "target", "measured", ""], rows)


def table_of_cpu(cases: CpuByCase) -> str:
    """CPU by process, a row a case."""
    processes = list(dict.fromkeys(name for case in cases.values() for name in case))
    rows = [
        [
            name,
            *(f"{case[process]:.1f}" if process in case else "" for process in processes),
            f"{sum(case.values()):.1f}",
        ]
        for name, case in cases.items()
    ]
    return table(["CPU, µs", *processes, "all"], rows, numbers=True)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = False) -> str:
    """A table; with `numbers` all columns but the first are set to the right."""
    rule = ["---", *(["--:" if numbers else "---"] * (len(head) - 1))]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, rule, *rows])
