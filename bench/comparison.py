"""What is promised of one scenario beside another: round by round, of one run, when they took turns."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any, Final

from bench.tables import Line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from bench import floors, ingest, reference
    from bench.scenario import Result

_TARGET_SPEED: Final = 10.0
_TARGET_CPU: Final = 2.0


def compare(results: Mapping[str, Result[Any]]) -> list[Line]:
    """The lines for which there are results of one run.

    Args:
        results: by scenario.
    """
    return [
        *_line(
            results,
            ("ingest", "reference"),
            _speed,
            "end to end into Redis, to the reference",
            (f"≥ {_TARGET_SPEED:g} times", lambda ratio: ratio >= _TARGET_SPEED),
        ),
        *_line(
            results,
            ("ingest", "floors"),
            _cpu,
            "CPU of the gateway a message, to the bare drain",
            (f"≤ {_TARGET_CPU:g} times", lambda ratio: ratio <= _TARGET_CPU),
        ),
    ]


def _speed(ours: ingest.Figures, theirs: reference.Figures) -> float:
    return ours.projected_per_s / theirs.projected_per_s


def _cpu(ours: ingest.Figures, floor: floors.Figures) -> float:
    return ours.cpu_us["gateway"] / floor.drain_cpu_us["drain"]


def _line(
    results: Mapping[str, Result[Any]],
    names: tuple[str, str],
    ratio_of: Callable[[Any, Any], float],
    what: str,
    target: tuple[str, Callable[[float], bool]],
) -> Iterator[Line]:
    """A line, when both results are there and of one run."""
    ours, theirs = (results.get(name) for name in names)
    if ours is None or theirs is None or ours.origin != theirs.origin:
        return
    ratio = statistics.median(map(ratio_of, ours.rounds, theirs.rounds))
    text, meets = target
    yield Line(what, f"{ratio:.1f} times", text, meets(ratio))
