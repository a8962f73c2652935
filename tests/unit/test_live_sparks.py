from __future__ import annotations

from projector.history.sparklines import Sparkline
from projector.live.sparks import spark

MINUTE_MS = 60_000
NOW_MINUTE = 29_916_666
NOW_MS = NOW_MINUTE * MINUTE_MS + 30_000


def line(*means: float | None, newest: int = NOW_MINUTE) -> Sparkline:
    """A line that ends at a minute."""
    return Sparkline(newest * MINUTE_MS, list(means))


def test_the_metric_that_moves_is_shown() -> None:
    """One that moves is drawn before one that is steady; of two that move as often, the first by name."""
    steady, moving = line(5, 5, 5, 5, 5), line(1, 2, 3, 4, None)
    found = spark({"battery": steady, "temperature": line(1, 2, 3, 4, 5), "humidity": moving}, NOW_MS)
    assert found is not None
    assert (found.metric, found.means) == ("humidity", [1, 2, 3, 4, None])


def test_a_line_ends_now() -> None:
    """Who fell silent three minutes ago has three empty minutes at the end, and after an hour no line."""
    quiet = spark({"t": line(1, 2, 3, 4, 5, newest=NOW_MINUTE - 3)}, NOW_MS)
    assert quiet is not None
    assert quiet.means == [4, 5, None, None, None]
    assert spark({"t": line(1, 2, newest=NOW_MINUTE - 2)}, NOW_MS) is None
    assert spark({}, NOW_MS) is None


def test_a_clock_that_is_ahead_moves_nothing() -> None:
    """A line that ends in the future is shown as it is."""
    ahead = spark({"t": line(1, 2, newest=NOW_MINUTE + 5)}, NOW_MS)
    assert ahead is not None
    assert ahead.means == [1, 2]
