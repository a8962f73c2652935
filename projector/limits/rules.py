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

_WILD: Final = re.compile(r"[*?\[]")
_FEW: Final = 4  # patterns to look through each time
_REMEMBERED: Final = 50_000  # devices without a limit: some megabytes

STATES: Final[tuple[State, State, State]] = ("ok", "warn", "crit")


class Rule(NamedTuple):
    """One limit.

    Attributes:
        region: which it is for; None for any. `device` likewise.
        is_upper: whether beyond is above.
        lasting_us: for how long a value has to be beyond.
        name: the one device that it is for; None for one with a pattern, or for any.
    """

    region: re.Pattern[str] | None
    device: re.Pattern[str] | None
    is_upper: bool
    warn: float | None
    crit: float | None
    lasting_us: int
    name: str | None = None

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
                    limit.device if limit.device and not _WILD.search(limit.device) else None,
                )
            )


class Choice:
    """The limits of a metric and side: the first that fits counts, hundreds by name cost as much as one."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._named: dict[str, list[int]] = {}
        self._others: list[int] = []
        for place, rule in enumerate(rules):
            (self._others if rule.name is None else self._named.setdefault(rule.name, [])).append(place)
        self._none: set[tuple[str, str | None]] = set()

    def of(self, device_id: str, region: str | None) -> Rule | None:
        """The limit of a device; None without one, which is remembered where finding it out takes long."""
        if (device_id, region) in self._none:
            return None
        rules, end = self._rules, len(self._rules)
        named = next(
            (place for place in self._named.get(device_id, ()) if rules[place].fits(device_id, region)), end
        )
        for place in self._others:
            if place > named:
                break
            if rules[place].fits(device_id, region):
                return rules[place]
        if named < end:
            return rules[named]
        if len(self._others) > _FEW:
            if len(self._none) >= _REMEMBERED:
                self._none.clear()
            self._none.add((device_id, region))
        return None


def _pattern(text: str) -> re.Pattern[str] | None:
    return re.compile(translate(text)) if text.strip("*") else None
