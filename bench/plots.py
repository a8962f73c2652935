"""Plots as SVG: small, without fonts of their own, and readable on light and on dark paper."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from bench.scenario import Result, Scenario

_STYLE: Final = Path(__file__).with_suffix(".mplstyle")


def draw(scenario: Scenario[Any], result: Result[Any], name: str, folder: Path) -> Path:
    """Draw one of a scenario's plots.

    Returns:
        The file, `<scenario>-<name>.svg`.
    """
    from matplotlib import style  # noqa: PLC0415  # a second, that most runs can do without
    from matplotlib.figure import Figure  # noqa: PLC0415  # the same

    path = folder / f"{scenario.name}-{name}.svg"
    with style.context(_STYLE):
        figure = Figure()
        scenario.plots[name](result, figure.subplots())
        figure.savefig(path, metadata={"Date": None})
    return path
