"""What the demo shows while it runs: a live picture on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

from rich.columns import Columns
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploy.local.figures import Figures, Region

_RATE_WINDOW_S = 5.0
_LINE_INTERVAL_S = 2.0
_REJECTIONS = 3


@dataclass(frozen=True, slots=True)
class Picture:
    """One moment of the demo.

    Attributes:
        phase: what is going on, in a few words.
        elapsed_s: since the devices started.
        rejections: the gateway's last `message_rejected` events, newest last.
    """

    phase: str
    elapsed_s: float
    figures: Figures
    regions: Sequence[Region]
    rejections: Sequence[dict[str, Any]]


class View(Protocol):
    """Shows pictures between entering and leaving."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(self, *exc: object) -> None:
        """End; the last picture stays."""

    def show(self, picture: Picture) -> None:
        """Show the newest picture."""


class Rates:
    """Rates over the last few seconds of pictures."""

    def __init__(self) -> None:
        self._figures: deque[Figures] = deque()

    def add(self, figures: Figures) -> None:
        """Note the newest figures."""
        self._figures.append(figures)
        while figures.at - self._figures[0].at > _RATE_WINDOW_S:
            self._figures.popleft()

    def per_s(self, name: str) -> float:
        """How fast a figure has grown."""
        first, last = self._figures[0], self._figures[-1]
        grown: int = getattr(last, name) - getattr(first, name)
        return grown / (last.at - first.at) if last.at > first.at else 0.0


class LiveView:
    """A picture that changes in place.

    Args:
        seconds: when it will end by itself, or None.
        hints: lines to try or to look at, below the picture.
    """

    def __init__(self, console: Console, seconds: float | None, hints: Sequence[str]) -> None:
        self._seconds = seconds
        self._hints = Text("\n".join(hints))
        self._rates = Rates()
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="crop")

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def show(self, picture: Picture) -> None:
        """Draw it."""
        self._rates.add(picture.figures)
        end = f" of {self._seconds:.0f}" if self._seconds is not None else ""
        elapsed_s = min(picture.elapsed_s, self._seconds or picture.elapsed_s)
        title = Text(f"MQTT edge gateway   {elapsed_s:.0f}{end} s   {picture.phase}", style="bold")
        tables = Columns([self._path(picture.figures), _regions(picture.regions)], padding=(0, 1))
        self._live.update(Group(title, tables, _dead_letters(picture), self._hints), refresh=True)

    def _path(self, figures: Figures) -> Panel:
        table = _table("", "total", "per s")
        for name, label in (
            ("received", "received"),
            ("committed", "committed"),
            ("duplicate", "duplicates"),
            ("dead_lettered", "dead letters"),
            ("projected", "projected"),
        ):
            table.add_row(label, f"{getattr(figures, name):,}", f"{self._rates.per_s(name):,.0f}")
        table.add_row("in flight", f"{figures.in_flight:,}", "")
        for step, seconds in figures.lag_s.items():
            table.add_row(f"lag, {step}", f"{seconds * 1000:,.0f} ms", "")
        return Panel(table, title="path", title_align="left")


class LineView:
    """A line every two seconds, for whoever reads a log."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rates = Rates()
        self._shown_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def show(self, picture: Picture) -> None:
        """Print it, if it is time."""
        self._rates.add(picture.figures)
        if time.monotonic() - self._shown_at < _LINE_INTERVAL_S:
            return
        self._shown_at = time.monotonic()
        lags = " ".join(
            f"{step}_lag_ms={seconds * 1000:.0f}" for step, seconds in picture.figures.lag_s.items()
        )
        regions = " ".join(f"{region.name}={region.messages}" for region in picture.regions)
        self._console.print(
            f"{picture.elapsed_s:5.1f} s  {picture.figures.line()} "
            f"committed_per_s={self._rates.per_s('committed'):.0f} {lags} {regions}",
            soft_wrap=True,
            highlight=False,
        )


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _regions(regions: Sequence[Region]) -> Panel:
    table = _table("region", "devices", "messages", "mean °C")
    for region in regions:
        mean = "" if region.mean_temperature is None else f"{region.mean_temperature:.1f}"
        table.add_row(region.name, f"{region.devices:,}", f"{region.messages:,}", mean)
    return Panel(table, title="regions, as Redis has them", title_align="left")


def _dead_letters(picture: Picture) -> Panel:
    counts = sorted(picture.figures.dead_letters.items(), key=lambda item: -item[1])
    lines = [Text(", ".join(f"{reason} {count}" for reason, count in counts) or "none yet")]
    for event in list(picture.rejections)[-_REJECTIONS:]:
        line = Text(f"{event['topic']}  ", overflow="ellipsis", no_wrap=True)
        line.append(str(event["reason"]), style="yellow")
        line.append(f"  {event['detail']}", style="dim")
        lines.append(line)
    return Panel(Group(*lines), title="dead letters, and the last of them", title_align="left")
