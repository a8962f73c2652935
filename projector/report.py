"""What `projector verify` and `projector rebuild` show: a progress bar on stderr, the result on stdout."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
import structlog
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from projector.compare import Difference
    from projector.rebuild import Rebuilt
    from projector.verify import Verification

    Bars = Callable[[str], Callable[[int, int], None]]


@contextmanager
def progress_bars() -> Iterator[Bars]:
    """Give a function that adds a bar and returns how to move it; on anything but a terminal nothing shows.

    Loggers that the body makes write through the bars.
    """
    bars = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )

    def add(what: str) -> Callable[[int, int], None]:
        task = bars.add_task(what, total=None, start=False)

        def move(done: int, total: int) -> None:
            bars.start_task(task)
            bars.update(task, completed=done, total=max(done, total) if total else None)

        return move

    direct = structlog.get_config()["logger_factory"]
    with bars:
        structlog.configure(logger_factory=structlog.WriteLoggerFactory(file=sys.stderr))
        try:
            yield add
        finally:
            structlog.configure(logger_factory=direct)


def verified(result: Verification, *, as_json: bool) -> str:
    """The result of a verification as text or as one line of JSON."""
    if as_json:
        return _json(result)
    lines = [_line(difference) for difference in result.differences]
    found = result.differing + result.missing + result.extra
    if found > len(lines):
        lines.append(f"… and {found - len(lines):,} more")
    compared = f"{result.devices:,} devices and {result.regions:,} regions, {result.events:,} events"
    if result.equal:
        lines.append(f"equal: {compared}, {_rows(result.cursors)}")
    else:
        counts = f"{result.differing:,} differing, {result.missing:,} missing, {result.extra:,} extra"
        lines.append(f"{counts}, in {compared}")
    return "\n".join(lines)


def rebuilt(result: Rebuilt, *, as_json: bool) -> str:
    """The result of a rebuild as text or as one line of JSON."""
    if as_json:
        return _json(result)
    return (
        f"rebuilt: {result.views:,} views from {result.events:,} events in {result.seconds:g} s, "
        f"put in place in {result.swap_ms:g} ms, {_rows(result.cursors)}"
    )


def _line(difference: Difference) -> str:
    name = difference.key if difference.field is None else f"{difference.key} {difference.field}"
    expected = "nothing" if difference.expected is None else difference.expected
    found = "nothing" if difference.found is None else difference.found
    return f"{difference.kind:<8} {name}: expected {expected}, found {found}"


def _rows(cursors: dict[int, int]) -> str:
    return ", ".join(f"stream {stream} at row {n:,}" for stream, n in cursors.items()) or "no streams"


def _json(result: msgspec.Struct) -> str:
    return msgspec.json.encode(result).decode()
