"""Order of arrival across restarts: it goes on after the newest reading that the stream holds.

A stored time that is far ahead is one of a clock that was wrong then. It is not followed: messages would be
stamped with it until the clock has caught up.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from contract.events import decode_events, format_time
from contract.order import check_times
from gateway.decode import Received

log = structlog.get_logger()

FOLLOWED = timedelta(minutes=5)


def arrivals_after(newest: bytes | None, now: datetime) -> Received:
    """Times of arrival from now on, after those in the stream's newest outbox row."""
    received = Received.of(now)
    try:
        events = decode_events(newest) if newest is not None else []
        check_times(events)
        last = max((datetime.fromisoformat(event.received_at) for event in events), default=now - FOLLOWED)
    except ValueError as error:  # msgspec's errors are ValueErrors too
        log.warning("arrival_unknown", detail=str(error))
        return received
    if last - now > FOLLOWED:
        log.warning("arrival_ahead", by_s=round((last - now).total_seconds(), 1))
    elif last >= now:
        received = Received.of(last + timedelta(microseconds=1))
        received.at, received.last = now, format_time(last)
    return received
