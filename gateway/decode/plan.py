"""What a route says of its messages, made ready to be asked for each of them.

A path is a name, or names with dots between them for what is nested; `a | b` is the first that is there
(`paths`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from gateway.decode.paths import alternatives
from gateway.decode.times import TimeReader
from runtime.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from runtime.settings import Route

METRICS: Final = "metrics"
"""The object whose members are metrics by their own names, unless a route names another."""

_NOWHERE: Final = "\ud800"  # half a character: no field can be called so


class Plan(msgspec.Struct, frozen=True, gc=False):
    """A route's settings.

    Attributes:
        key_name: the first of the names of the key; those of time and region likewise.
        others: the names that are rare, and so looked for together.
        keys: all names, in the order in which they count; those of device, time and region likewise.
        metrics: path of the object that holds the metrics; empty when they are what is left.
        nested: whether a name may be a path.
        drop: whether a field that cannot be stored is left out.
        clock: see `runtime.settings.Route`.
        timed: whether device time is part of the identity.
        reader: reads device times, by `read_time`.
    """

    key_name: str
    time_name: str
    region_name: str
    others: frozenset[str]
    keys: tuple[str, ...]
    times: tuple[str, ...]
    devices: tuple[str, ...]
    regions: tuple[str, ...]
    metrics: str
    nested: bool
    drop: bool
    clock: str
    timed: bool
    reader: TimeReader
    read_time: Callable[[object, datetime, str], datetime]


def plan_of(route: Route, where: str) -> Plan:
    """Make a route's settings ready.

    Raises:
        ConfigurationError: they contradict each other, or a time zone or format means nothing.
    """
    keys, times, devices, regions = (
        alternatives(path) for path in (route.key, route.time, route.device, route.region)
    )
    taken: dict[str, str] = {}
    for setting, names in (("key", keys), ("time", times), ("device", devices), ("region", regions)):
        for name in names:
            if not name:
                raise ConfigurationError(f"{where}.{setting}: a name is missing beside |")
            if name in taken:
                raise ConfigurationError(f"{where}.{setting}: {name!r} is named by {taken[name]} already")
            taken[name] = f"{where}.{setting}"
    if route.metrics in taken:
        raise ConfigurationError(
            f"{where}.metrics: {route.metrics!r} is named by {taken[route.metrics]} already"
        )
    reader = TimeReader(route.time_format, route.timezone, where, relative=route.format == "senml")
    return Plan(
        key_name=keys[0] if keys else _NOWHERE,
        time_name=times[0] if times else _NOWHERE,
        region_name=regions[0] if regions else _NOWHERE,
        others=frozenset({*keys[1:], *times[1:], *devices, *regions[1:]}),
        keys=keys,
        times=times,
        devices=devices,
        regions=regions,
        metrics=route.metrics,
        nested=bool(route.metrics) or any("." in name for name in taken),
        drop=route.on_bad_field == "drop",
        clock=route.clock,
        timed=route.identity == "key+time",
        reader=reader,
        read_time=reader.read,
    )
