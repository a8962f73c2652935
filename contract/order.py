"""Which of two messages is the newer one: the one order of last values, for all who keep them or check them.

Device time decides, then arrival: what the devices say they measured when, and where that ties, what came
later (ADR 3). But a clock may be ahead, and its readings would stand for as long as it is. So no message
counts as measured later than `AHEAD` after it was received; that instant is its *order time*. Time of receipt
is strictly increasing within a gateway. Key and device, byte by byte, settle what two gateways received in
the same microsecond, and rows from before that was so.

Times are texts in the contract's form (`contract/events.py`), which compare as times. PostgreSQL has the same
rule as `order_time` (gateway/migrations/0008_order.sql). Pure.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from contract.events import format_time, format_utc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from contract.events import Event

AHEAD: Final = timedelta(minutes=5)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE: Final = len("2026-11-23T09:00")
_SECOND: Final = len("2026-11-23T09:00:00")
_DIGITS: Final = str.maketrans("123456789", "0" * 9)
_SHAPE: Final = "0000-00-00T00:00:00.000000Z"


def order_time(ts: str, received_at: str) -> str:
    """The time by which a message is ordered: its own, unless that is too far ahead of its arrival.

    Raises:
        ValueError: the time of receipt is none; not looked at where `ts` is not after it.
    """
    if ts <= received_at:
        return ts
    return min(ts, _latest(received_at[:_MINUTE]) + received_at[_MINUTE:])


def said_time(ts: str, received_at: str) -> str:
    """The time by which it is ordered what a message says of its device being online.

    Its own, but never later than its arrival: a broker publishes the will of a device whose clock is ahead.
    """
    return min(ts, received_at)


def ahead_ms(ts: str, received_at: str) -> int:
    """By how many milliseconds a device's clock is ahead, seen from a message of it; 0 up to `AHEAD`.

    Raises:
        ValueError: the times are none.
    """
    if ts <= received_at or order_time(ts, received_at) == ts:
        return 0
    return (microseconds(ts) - microseconds(received_at)) // 1000


def microseconds(ts: str) -> int:
    """Convert a time to microseconds since 1970.

    Raises:
        ValueError: it is none.
    """
    return _second(ts[:_SECOND]) + int(ts[_SECOND + 1 : -1])


def format_microseconds(us: int) -> str:
    """The time that so many microseconds since 1970 are.

    Raises:
        OverflowError: it is beyond all calendars.
    """
    return format_utc(_EPOCH + timedelta(microseconds=us))


def seconds(ts: str) -> int:
    """Convert a time to whole seconds since 1970, for half of what microseconds cost.

    Raises:
        ValueError: it is none.
    """
    return _second(ts[:_SECOND]) // 1_000_000


def is_time(text: str) -> bool:
    """Whether a text is a time in the contract's form."""
    try:
        return format_time(datetime.fromisoformat(text)) == text
    except (ValueError, OverflowError):
        return False


def check_times(events: Sequence[Event]) -> None:
    """Look at all times of a row once, so that nobody behind has to.

    Raises:
        ValueError: one is none of the contract's.
    """
    times = [time for event in events for time in (event.ts, event.received_at)]
    times += [since for event in events if (since := event.online_since) is not None]
    if "".join(times).translate(_DIGITS) != _SHAPE * len(times):
        raise ValueError("a time is not in the form 2026-11-23T09:00:00.250000Z")
    for second in {time[:_SECOND] for time in times}:
        datetime.fromisoformat(second)


@lru_cache(maxsize=4096)  # messages that come together were measured together
def _second(text: str) -> int:
    since = datetime.fromisoformat(f"{text}Z") - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000


@lru_cache(maxsize=4096)
def _latest(minute: str) -> str:
    try:
        return (datetime.fromisoformat(minute) + AHEAD).isoformat(timespec="minutes")
    except OverflowError:
        return "9999-12-31T24"  # as a text after all times
