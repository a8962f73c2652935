"""Times that are numbers: seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by size.

Seconds stay below 1e11 until the year 5138, milliseconds are above it from 1973 on; and so for the next
units. Pure.
"""

from __future__ import annotations

from typing import Final

_UNITS: Final = ((10**11, 1_000_000), (10**14, 1_000), (10**17, 1))
_NS_LIMIT: Final = 10**20


def epoch_microseconds(value: float) -> int:
    """Microseconds since 1970 of a number in any of the units.

    Raises:
        ValueError: it is negative, or too large for all of them.
    """
    if not 0 <= value < _NS_LIMIT:
        raise ValueError("the number is no epoch time in s, ms, µs or ns")
    for limit, microseconds in _UNITS:
        if value < limit:
            return round(value * microseconds)
    return int(value) // 1000
