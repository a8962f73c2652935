"""The progress bar of a replay, with log lines scrolling by above it."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gateway.dead_letters.tally import Tally


@contextmanager
def progress_bar(*, shown: bool) -> Iterator[Callable[[Tally], None]]:
    """Draw on stderr while the body runs, which calls what it is given as the replay proceeds."""
    if not shown:
        yield lambda _tally: None
        return
    bar = Progress(
        TextColumn("replaying"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failing]}", style="yellow"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    direct = structlog.get_config()["logger_factory"]
    with bar:
        structlog.configure(logger_factory=structlog.WriteLoggerFactory(file=sys.stderr))
        task = bar.add_task("", total=None, failing="")

        def draw(tally: Tally) -> None:
            failing = f"{tally.failing.total():,} still fail" if tally.failing else ""
            bar.update(task, total=tally.selected, completed=tally.done, failing=failing)

        try:
            yield draw
        finally:
            structlog.configure(logger_factory=direct)
