"""Device time: ISO 8601, or epoch seconds, milliseconds, microseconds or nanoseconds, told apart by size."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from runtime.errors import Reject

EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# Seconds stay below 1e11 until the year 5138, milliseconds are above it from 1973 on; and so for the next
# units.
_UNITS: Final = ((10**11, 1_000_000), (10**14, 1_000), (10**17, 1))
_NS_LIMIT: Final = 10**20


def parse_time(value: object) -> datetime:
    """Read a device time as an aware UTC datetime; a time without an offset is taken as UTC.

    Raises:
        Reject: reason `invalid_time`.
    """
    kind = type(value)
    if kind is str:
        try:
            moment = datetime.fromisoformat(value)  # type: ignore[arg-type]  # kind says str
        except ValueError:
            raise Reject("invalid_time", f"{str(value)[:40]!r} is not an ISO 8601 time") from None
        if moment.tzinfo is UTC:
            return moment
        if moment.tzinfo is None:
            return moment.replace(tzinfo=UTC)
        try:
            return moment.astimezone(UTC)
        except OverflowError:
            raise Reject("invalid_time", f"{str(value)[:40]!r} is outside the calendar") from None
    if kind is int or kind is float:
        return _from_epoch(value)  # type: ignore[arg-type]  # kind says number
    raise Reject("invalid_time", "time is neither a string nor a number")


def check_time(moment: datetime, now: datetime, max_ahead: timedelta) -> None:
    """Refuse a time before 2000 or more than `max_ahead` after now.

    Raises:
        Reject: reason `time_out_of_range`, with the skew.
    """
    if moment < EARLIEST:
        raise Reject(
            "time_out_of_range", f"device time {moment.isoformat()} is before 2000: is its clock set?"
        )
    if moment > now and moment - now > max_ahead:
        raise Reject(
            "time_out_of_range",
            f"device time {moment.isoformat()} is {moment - now} ahead of the gateway, allowed: {max_ahead}",
        )


def _from_epoch(value: float) -> datetime:
    if not 0 <= value < _NS_LIMIT:
        raise Reject("invalid_time", "the number is no epoch time in s, ms, µs or ns")
    for limit, microseconds in _UNITS:
        if value < limit:
            return _EPOCH + timedelta(microseconds=round(value * microseconds))
    return _EPOCH + timedelta(microseconds=int(value) // 1000)
