"""What was set: from which value on a metric of which devices is beyond. Pure."""

from __future__ import annotations

import re
from fnmatch import translate
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from runtime.settings import duration_s

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runtime.settings import Limit

Level = Literal[0, 1, 2]
State = Literal["ok", "warn", "crit"]

OK: Final = 0
WARN: Final = 1
CRIT: Final = 2
STATES: Final[tuple[State, State, State]] = ("ok", "warn", "crit")


class Rule(NamedTuple):
    """One limit.

    Attributes:
        region: which it is for; None for any. `device` likewise.
        is_upper: whether beyond is above.
        lasting_us: for how long a value has to be beyond.
    """

    region: re.Pattern[str] | None
    device: re.Pattern[str] | None
    is_upper: bool
    warn: float | None
    crit: float | None
    lasting_us: int

    def fits(self, device_id: str, region: str | None) -> bool:
        """Whether it is for this device; one without a region is in none."""
        if self.region is not None and (region is None or not self.region.match(region)):
            return False
        return self.device is None or self.device.match(device_id) is not None

    def level(self, value: float) -> Level:
        """Where a value is: `OK`, beyond `WARN` or beyond `CRIT`."""
        if self._is_beyond(value, self.crit):
            return CRIT
        return WARN if self._is_beyond(value, self.warn) else OK

    def crossed(self, level: Level) -> float | None:
        """The number beyond which values of a level are."""
        return self.crit if level == CRIT else self.warn if level == WARN else None

    def _is_beyond(self, value: float, limit: float | None) -> bool:
        return limit is not None and (value > limit if self.is_upper else value < limit)


class Rules(dict[tuple[str, str], list[Rule]]):
    """Metric and side, `above` or `below` → the limits of it, the first that fits counts."""

    def __init__(self, limits: Sequence[Limit]) -> None:
        for limit in limits:
            self.setdefault((limit.metric, limit.when), []).append(
                Rule(
                    _pattern(limit.region),
                    _pattern(limit.device),
                    limit.when == "above",
                    limit.warn,
                    limit.crit,
                    int(duration_s(limit.for_) * 1_000_000) if limit.for_ else 0,
                )
            )


def _pattern(text: str) -> re.Pattern[str] | None:
    return re.compile(translate(text)) if text.strip("*") else None
