"""`[[limit]]`: from which value on a metric calls for somebody."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from runtime.errors import ConfigurationError
from runtime.settings.types import Lasting, Number, Pattern, Section, Text, duration_s

if TYPE_CHECKING:
    from collections.abc import Sequence

_NO_LAST_VALUE: Final = {"seen", "seen_ms"}  # `last_seen` is a field of its own
_MOST_LIMITS: Final = 500  # each reading of a metric is looked up among those of that metric
_LONGEST_LASTING_S: Final = 7 * 86_400


class Limit(Section, frozen=True):
    """From which value on a metric calls for somebody; of one metric and `when` the first that fits counts.

    `region` and `device` are patterns with `*`, `?` and `[…]`; "" is any. Beyond is above `warn` or `crit`,
    or below, as `when` says, for as long as `for` by when readings reached the gateway.
    """

    metric: Text
    region: Pattern = ""
    device: Pattern = ""
    when: Literal["above", "below"] = "above"
    warn: Number | None = None
    crit: Number | None = None
    for_: Lasting = msgspec.field(default="", name="for")


def check_limits(limits: Sequence[Limit]) -> None:
    """Refuse limits that mean nothing, and those that are never looked at.

    Raises:
        ConfigurationError: with the limit's position.
    """
    if len(limits) > _MOST_LIMITS:
        raise ConfigurationError(f"limit: more than {_MOST_LIMITS}; patterns let one stand for many devices")
    takes_all: dict[tuple[str, str], str] = {}
    for at, limit in enumerate(limits):
        where = f"limit[{at}]"
        _check_limit(where, limit)
        if earlier := takes_all.get((limit.metric, limit.when)):
            raise ConfigurationError(f"{where}: never looked at, because {earlier} takes every device")
        if not limit.region.strip("*") and not limit.device.strip("*"):
            takes_all[limit.metric, limit.when] = where


def _check_limit(where: str, limit: Limit) -> None:
    values = {"warn": limit.warn, "crit": limit.crit}
    given = {name: value for name, value in values.items() if value is not None}
    if not given:
        raise ConfigurationError(f"{where}: needs warn, crit or both")
    if limit.metric in _NO_LAST_VALUE:
        raise ConfigurationError(f"{where}.metric: {limit.metric} has no last value to begin with")
    for name, value in given.items():
        if not isfinite(value):
            raise ConfigurationError(f"{where}.{name}: expected a finite number")
    warn, *crit = given.values()
    if crit and (warn == crit[0] or (warn > crit[0]) == (limit.when == "above")):
        side = "below" if limit.when == "above" else "above"
        raise ConfigurationError(f"{where}.warn: has to be {side} crit, or it would never show")
    if limit.for_ and duration_s(limit.for_) > _LONGEST_LASTING_S:
        raise ConfigurationError(f'{where}.for: longer than "7d"')
