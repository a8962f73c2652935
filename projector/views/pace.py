"""How much is applied to the views in one run, and how long rows may gather before the next. Pure.

A message costs little and a device's view costs much, however many messages of a run are about it: working
out its fields here, and writing them in Redis (`python -m bench.views`). So a run takes many rows when there
are many; Redis is given what comes of it in pieces (`setting.py`), of which the first call carries all. A row
is never split, because the cursor counts rows, and one of a megabyte, which is the most that a gateway makes,
may have a hundred thousand metrics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

    from contract.events import EventBatch

RUN_EVENTS: Final = 40_000
RUN_METRICS: Final = 20_000  # of devices: what the first call has to carry, in a dozen milliseconds
RUN_WIDEST: Final = (
    4000  # metrics of one device, unless one row has more: a view is worked out without a pause, in 20 ms
)
LINGER_S: Final = 0.25
BUSY_EVENTS: Final = 6000  # in a run: from here on rows gather for `LINGER_S`


def first_run(
    rows: Iterable[EventBatch],
    max_events: int = RUN_EVENTS,
    max_metrics: int = RUN_METRICS,
    max_widest: int = RUN_WIDEST,
) -> list[EventBatch]:
    """The first of consecutive rows that are to be applied in one run, all of one epoch.

    Args:
        rows: in order; no more of them are taken than are looked at.
        max_events: most events in a run, unless its first row has more.
        max_metrics: most metrics of devices in it, likewise, each counted once however many events have it.
        max_widest: most metrics of a single device, likewise.
    """
    run: list[EventBatch] = []
    events = metrics = widest = 0
    devices: dict[str, AbstractSet[str]] = {}
    for row in rows:
        events += len(row.events)
        if run and (events > max_events or row.epoch != run[0].epoch):
            return run
        for event in row.events:
            known = devices.get(event.device_id)
            if known is None:
                devices[event.device_id] = event.metrics.keys()
                metrics += len(event.metrics) or 1
                widest = max(widest, len(event.metrics))
            elif not event.metrics.keys() <= known:
                names = known if isinstance(known, set) else set(known)
                metrics -= len(names)
                names.update(event.metrics)
                metrics += len(names)
                devices[event.device_id] = names
                widest = max(widest, len(names))
            if run and (metrics > max_metrics or widest > max_widest):
                return run
        run.append(row)
    return run


def linger_s(events: int) -> float:
    """How long to let rows gather after a run of so many events, in seconds.

    Gathering makes runs rarer, and what a device's view costs in each is shared by more messages. It grows
    with the square, so that few hardly wait and many are folded together: 7 ms after 1,000, 62 after 3,000.
    With half as many, 10,000 messages a second made each other wait for the whole time.
    """
    return float(LINGER_S * min(1.0, events / BUSY_EVENTS) ** 2)
