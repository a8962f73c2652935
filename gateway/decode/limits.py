"""What a message may hold at most."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from runtime.settings import duration_s

if TYPE_CHECKING:
    from runtime.settings import Gateway

MAX_DEPTH: Final = 32
"""Objects and arrays inside one another."""

MAX_LETTERS: Final = 10
"""Dead letters that one payload can have before all that follows is one."""

MAX_READINGS: Final = 10_000
"""Elements that one payload of a shaped route can have: each costs some ten microseconds."""


class Limits(NamedTuple):
    """Those of `[gateway]`.

    Attributes:
        max_payload_bytes: of a payload.
        max_ahead: by which a device's clock may be ahead of ours.
        max_metrics: of a reading.
        max_metric_name: characters of a metric's name, of a nested one with its whole path.
    """

    max_payload_bytes: int = 262_144
    max_ahead: timedelta = timedelta(days=1)
    max_metrics: int = 256
    max_metric_name: int = 128

    @classmethod
    def of(cls, gateway: Gateway) -> Limits:
        """Those that are configured."""
        return cls(
            gateway.max_payload_bytes,
            timedelta(seconds=duration_s(gateway.max_ahead)),
            gateway.max_metrics,
            gateway.max_metric_name,
        )
