"""What is known of a metric of a device, and what is to be told of it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from projector.limits.clocks import resumed
from projector.limits.rules import CRIT, OK, WARN, Choice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from projector.limits.rules import Level, Rule
    from projector.watch.clock import Clock

NEVER: Final = (-1, "")
SECOND: Final = 1_000_000
EXCUSES: Final = 3

Mark = tuple[int, str]
Key = tuple[str, str, str]
"""Device, metric and side."""


class Known(NamedTuple):
    """What was told of a device and limit: the level, and since when, microseconds since 1970."""

    level: Level
    at: int


class Change(NamedTuple):
    """What is to be told of a device and limit.

    Attributes:
        value: the newest; None when the device or its limit is gone.
        limit: the number beyond which it is; None when it is within.
        at: when that was so, by the gateway's clock, microseconds since 1970.
        measured_at: order time of the newest reading, likewise; None without one.
        told: what this process believes was told before.
    """

    key: Key
    region: str | None
    level: Level
    value: float | None
    limit: float | None
    at: int
    measured_at: int | None
    told: Level = OK


class State:
    """What is known of a metric of a device, and of one side.

    Attributes:
        rule: its limit.
        value: the newest reading, at `mark` in the order of last values.
        stream: that brought it; None when that is not known.
        warned: since when the value has been beyond, microseconds since 1970; None when it is not.
        critical: likewise.
        excused: what was before does not count towards `for`; `excuses` is how often that was so.
        level: what counts, since `at`; `told` is what was told last.
    """

    __slots__ = (
        *("at", "critical", "excused", "excuses", "key", "level", "mark"),
        *("region", "rule", "stream", "told", "value", "warned"),
    )

    def __init__(self, key: Key, rule: Rule, known: Known | None) -> None:
        self.key = key
        self.rule = rule
        self.region: str | None = None
        self.value = 0.0
        self.mark: Mark = NEVER
        self.stream: int | None = None
        self.level = self.told = known.level if known else OK
        self.at = known.at if known else 0
        self.warned = 0 if self.level >= WARN else None
        self.critical = 0 if self.level == CRIT else None
        self.excused = self.excuses = 0

    def read(self, level: Level, at: int) -> None:
        """Take where its newest value is, which came at a time, microseconds since 1970."""
        self.warned = _since(self.warned, at) if level >= WARN else None
        self.critical = _since(self.critical, at) if level == CRIT else None
        self.excused = min(self.excused, at)
        self.excuses = EXCUSES if self.excuses and level >= WARN else 0  # beyond before a pause and after

    def excuse(self, clocks: Sequence[Clock]) -> None:
        """Begin anew where its stream brought nothing for half as long as `for`, a few times in a row."""
        if self.warned is None or not self.rule.lasting_us or self.excuses == EXCUSES:
            return
        end = resumed(clocks, self.rule.lasting_us // SECOND // 2)
        if end is not None and (end - 1) * SECOND > max(self.warned, self.excused):
            self.excused = end * SECOND
            self.excuses += 1

    def level_at(self, now: int) -> Level:
        """What counts at a time, microseconds since 1970, as long as nothing comes."""
        if self.critical is not None and now >= self.since(CRIT):
            return CRIT
        return WARN if self.warned is not None and now >= self.since(WARN) else OK

    def since(self, level: Level) -> int:
        """From when on a level above `OK` counts, as long as nothing comes."""
        since = (self.critical if level == CRIT else self.warned) or 0
        return max(since, self.excused) + self.rule.lasting_us

    @property
    def is_waiting(self) -> bool:
        """Whether time alone may raise it."""
        return (self.critical is not None and self.level < CRIT) or (
            self.warned is not None and self.level < WARN
        )


class Group:
    """All about a metric and a side.

    Attributes:
        states: by device.
        counts: how many are within, beyond `warn` and beyond `crit`.
        choice: says which limit is for which device.
    """

    def __init__(self, metric: str, when: str, rules: list[Rule]) -> None:
        self.metric = metric
        self.when = when
        self.states: dict[str, State] = {}
        self.counts = [0, 0, 0]
        self.choice = Choice(rules)


def _since(since: int | None, at: int) -> int:
    """A clock that was set back makes nobody wait for it."""
    return at if since is None else min(since, at)
