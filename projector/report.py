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

    from projector.history.audit import Audit
    from projector.repair.compare import Difference
    from projector.repair.rebuild import Rebuilt
    from projector.repair.verify import Verification

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


def verified(views: Verification | None, history: Audit | None, *, as_json: bool) -> str:
    """The result of a verification as text or as one line of JSON; None for what was not asked for."""
    if as_json:
        return _json(views, history)
    lines = []
    if views is not None:
        compared = f"{views.devices:,} devices and {views.regions:,} regions, {views.events:,} events"
        if views.expired:
            compared += f", {views.expired:,} devices expired once and compared in part"
        lines += _found(views, compared)
    if history is not None:
        lines += _found(history, f"history: {history.rows:,} minutes and hours of {history.days:,} days")
    return "\n".join(lines)


def rebuilt(views: Rebuilt | None, history: Audit | None, *, as_json: bool) -> str:
    """The result of a rebuild as text or as one line of JSON; None for what was not asked for."""
    if as_json:
        return _json(views, history)
    lines = []
    if views is not None:
        lines.append(
            f"rebuilt: {views.views:,} views from {views.events:,} events "
            f"({views.settled:,} of settled days) in {views.seconds:g} s, "
            f"put in place in {views.swap_ms:g} ms, {_rows(views.cursors)}"
        )
    if history is not None:
        lines.append(
            f"history: {history.differing:,} differing, {history.missing:,} missing, {history.extra:,} extra "
            f"put right, of {history.rows:,} minutes and hours in {history.seconds:g} s, "
            f"{_rows(history.cursors)}"
        )
    return "\n".join(lines)


def _found(result: Verification | Audit, compared: str) -> list[str]:
    lines = [_line(difference) for difference in result.differences]
    found = result.differing + result.missing + result.extra
    if found > len(lines):
        lines.append(f"… and {found - len(lines):,} more")
    if result.equal:
        return [*lines, f"equal: {compared}, {_rows(result.cursors)}"]
    counts = f"{result.differing:,} differing, {result.missing:,} missing, {result.extra:,} extra"
    return [*lines, f"{counts}, in {compared}"]


def _line(difference: Difference) -> str:
    name = difference.key if difference.field is None else f"{difference.key} {difference.field}"
    expected = "nothing" if difference.expected is None else difference.expected
    found = "nothing" if difference.found is None else difference.found
    return f"{difference.kind:<8} {name}: expected {expected}, found {found}"


def _rows(cursors: dict[int, int]) -> str:
    return ", ".join(f"stream {stream} at row {n:,}" for stream, n in cursors.items()) or "no streams"


def _json(views: msgspec.Struct | None, history: Audit | None) -> str:
    """What was found of the views, and under `history` what was found of it."""
    members = msgspec.structs.asdict(views) if views is not None else {}
    return msgspec.json.encode(members | ({"history": history} if history is not None else {})).decode()
