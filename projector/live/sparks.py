"""Devices' last hour, as the history keeps it in Redis: lines to draw. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from projector.live.state import Spark

if TYPE_CHECKING:
    from collections.abc import Mapping

    from projector.history.sparklines import Sparkline

_MINUTE_MS: Final = 60_000
_DIGITS: Final = 5
_AS_OFTEN: Final = 0.8


def spark(lines: Mapping[str, Sparkline], now_ms: int) -> Spark | None:
    """The course of the metric that moves most often; the first by name of those that move about as often.

    As long as a device was quiet the end of its line is empty; None when that is all of it.

    Args:
        lines: a device's, by metric.
        now_ms: the time.
    """
    moves = {metric: len({mean for mean in each.means if mean is not None}) for metric, each in lines.items()}
    most = max(moves.values(), default=0)
    metric = min((name for name, moved in moves.items() if moved >= _AS_OFTEN * most), default=None)
    if metric is None:
        return None
    means, newest_ms = lines[metric].means, lines[metric].newest_ms
    quiet = max(0, now_ms // _MINUTE_MS - newest_ms // _MINUTE_MS)
    if quiet >= len(means):
        return None
    short = [None if mean is None else float(f"{mean:.{_DIGITS}g}") for mean in means]
    return Spark(metric, short[quiet:] + [None] * quiet)
