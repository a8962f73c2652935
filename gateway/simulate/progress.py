"""The progress bar of a simulation, with log lines scrolling by above it."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from rich.progress import TaskID

    from gateway.simulate.publisher import Tally

_REFRESH_S = 0.2


@asynccontextmanager
async def progress_bar(tally: Tally, total: int | None) -> AsyncIterator[None]:
    """Draw on stderr while the body runs.

    Loggers that the body makes write through the bar; one that exists already would write across it.

    Args:
        tally: read at each refresh.
        total: how many messages there will be, or None when nobody knows.
    """
    bar = Progress(
        SpinnerColumn(),
        BarColumn(),
        TextColumn("{task.fields[sent]:,} sent  {task.completed:,} acknowledged"),
        TextColumn("{task.fields[behind]}", style="yellow"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )
    direct = structlog.get_config()["logger_factory"]
    with bar:
        structlog.configure(logger_factory=structlog.WriteLoggerFactory(file=sys.stderr))
        task = bar.add_task("", total=total, sent=0, behind="")
        drawing = asyncio.create_task(_draw(bar, task, tally), name="simulate-progress")
        try:
            yield
        finally:
            drawing.cancel()
            _update(bar, task, tally)
            structlog.configure(logger_factory=direct)


async def _draw(bar: Progress, task: TaskID, tally: Tally) -> None:
    while True:
        _update(bar, task, tally)
        await asyncio.sleep(_REFRESH_S)


def _update(bar: Progress, task: TaskID, tally: Tally) -> None:
    behind = f"{tally.behind:,} behind" if tally.behind > tally.sent.total() // 10 else ""
    bar.update(task, completed=tally.acknowledged.total(), sent=tally.sent.total(), behind=behind)
