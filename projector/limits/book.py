"""What is known of a metric of a device, and what is to be told of it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from projector.limits.rules import CRIT, OK, WARN

if TYPE_CHECKING:
    from projector.limits.rules import Level, Rule

NEVER: Final = (-1, "")

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
    """

    key: Key
    region: str | None
    level: Level
    value: float | None
    limit: float | None
    at: int
    measured_at: int | None


class State:
    """What is known of a metric of a device, and of one side.

    Attributes:
        rule: its limit.
        value: the newest reading, at `mark` in the order of last values.
        stream: that brought it; None when it was read from the views.
        came: when, microseconds since 1970.
        warned: since when the value has been beyond, microseconds since 1970; None when it is not.
        critical: likewise.
        level: what counts, since `at`; `told` is what was told last.
    """

    __slots__ = (
        *(
            "at",
            "came",
            "critical",
            "key",
            "level",
            "mark",
            "region",
            "rule",
            "stream",
            "told",
            "value",
            "warned",
        ),
    )

    def __init__(self, key: Key, rule: Rule, known: Known | None) -> None:
        self.key = key
        self.rule = rule
        self.region: str | None = None
        self.value = 0.0
        self.mark: Mark = NEVER
        self.stream: int | None = None
        self.came = 0
        self.level = self.told = known.level if known else OK
        self.at = known.at if known else 0
        self.warned = 0 if self.level >= WARN else None
        self.critical = 0 if self.level == CRIT else None

    def level_at(self, now: int) -> Level:
        """What counts at a time, microseconds since 1970, as long as nothing comes."""
        lasting = self.rule.lasting_us
        if self.critical is not None and now - self.critical >= lasting:
            return CRIT
        return WARN if self.warned is not None and now - self.warned >= lasting else OK

    def since(self, level: Level) -> int:
        """From when on a level above `OK` counts, as long as nothing comes."""
        return ((self.critical if level == CRIT else self.warned) or 0) + self.rule.lasting_us

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
    """

    def __init__(self, metric: str, when: str, rules: list[Rule]) -> None:
        self.metric = metric
        self.when = when
        self.states: dict[str, State] = {}
        self.counts = [0, 0, 0]
        self._rules = rules

    def rule(self, device_id: str, region: str | None) -> Rule | None:
        """The limit of a device; None without one."""
        return next((rule for rule in self._rules if rule.fits(device_id, region)), None)
