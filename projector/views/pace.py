"""How much is applied to the views in one run, and how long rows may gather before the next. Pure.

A message costs little and a device's view costs much, however many messages of a run are about it: working
out its fields here, and writing them in Redis (`python -m bench.views`). So a run takes all rows that are
there, part by part, as long as what it changes has room and others may wait for it; Redis is given what comes
of it in pieces (`setting.py`). A row is never split, because the cursor counts rows, and one of a megabyte,
which is the most that a gateway makes, may have a hundred thousand metrics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from contract.events import EventBatch

PART: Final = 4000  # events and values: 20 ms
RUN_METRICS: Final = (
    250_000  # of views: a hundred thousand devices with two, some 40 MB in Redis until it is set
)
RUN_WIDEST: Final = 1000  # metrics of one view, and those of the last part: it is worked out without a pause
RUN_ROWS: Final = 10_000  # and those of the last part: each is noted without a pause
RUN_S: Final = 4.0  # the views stand still meanwhile
RUN_SHARED_S: Final = 1.0  # while other streams wait for their turn
LINGER_S: Final = 0.25
LEAST_S: Final = 0.001
BUSY_EVENTS: Final = 6000  # in a run, came within `LINGER_S`, and
SHARED_BY: Final = 12  # messages a view in it: from here on rows gather for `LINGER_S`


def first_part(rows: Iterable[EventBatch], most: int = PART) -> list[EventBatch]:
    """The first of consecutive rows, all of one epoch.

    Args:
        rows: in order; no more of them are taken than are looked at.
        most: events and values of all of them, unless the first row has more.
    """
    part: list[EventBatch] = []
    size = 0
    for row in rows:
        size += len(row.events) + sum([len(event.metrics) for event in row.events])
        if part and (size > most or row.epoch != part[0].epoch):
            break
        part.append(row)
    return part


def is_enough(metrics: int, widest: int, rows: int, seconds: float, *, others: bool) -> bool:
    """Whether a run is to be written before more rows are added to it.

    Args:
        metrics: of views that it has changed so far.
        widest: most metrics of one view.
        rows: in it.
        seconds: since it began.
        others: whether other streams wait for their turn.
    """
    is_much = metrics >= RUN_METRICS or widest >= RUN_WIDEST or rows >= RUN_ROWS
    return is_much or seconds >= (RUN_SHARED_S if others else RUN_S)


def linger_s(events: int, views: int, seconds: float) -> float:
    """How long to let rows gather after a run, in seconds.

    Gathering makes runs rarer, and what a view costs in each is shared by more messages. So it pays when many
    came of the same devices: where each is of another one, they only wait. It grows with the square, so that
    few hardly wait and many are folded together. Many that came in a long time are no flood: after a stall
    everybody has waited enough. Less than a millisecond is none: waking up for it costs more than it spares.

    Args:
        events: in the run.
        views: that it changed.
        seconds: in which they came: since the run before was over.
    """
    shared = events / (SHARED_BY * max(1, views))
    rate = events * LINGER_S / max(seconds, LINGER_S)
    pause_s = float(LINGER_S * min(1.0, rate / BUSY_EVENTS, shared) ** 2)
    return pause_s if pause_s >= LEAST_S else 0.0
