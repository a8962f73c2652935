"""What messages of some formats mean by themselves: the words of a route that says no more than the format.

Line protocol, SenML and Sparkplug say what in them is a name, a value and a time, so a route need not. What
it says wins: of `rename` name by name, and what it ignores is added. One that says itself where the readings
are, or what they are called, gets the time alone; `name = ""` is enough for that. Pure.
"""

from __future__ import annotations

from typing import Any, Final

_SHAPE: Final = frozenset({"each", "name", "value", "metrics"})
_USUAL: Final[dict[str, dict[str, Any]]] = {
    "influx": {"name": "measurement", "value": "fields", "tags": ["tags"], "time": "time"},
    "senml": {
        "name": "n | name",
        "value": "v | vb | vs | vd",
        "tags": ["bn"],
        "time": "t",
        "rename": {"*.u": "*.unit", "*.s": "*.sum", "*.ut": "*.update_time"},
        "ignore": ["*.name", "*.bver"],
    },
    "sparkplug": {
        "each": "metrics",
        "name": "name",
        "value": "value",
        "time": "timestamp",
        "ignore": ["*.datatype", "*.alias", "*.is_null"],
    },
}


def with_usual(route: dict[str, Any]) -> dict[str, Any]:
    """A route as a configuration has it, unchecked, with what its format means where it does not say it."""
    chosen = route.get("format")
    usual = _USUAL.get(chosen) if isinstance(chosen, str) else None
    if usual is None or route.get("ignore") is True:
        return route
    if not _SHAPE.isdisjoint(route):
        return {"time": usual["time"], **route}
    merged = {**usual, **route}
    if isinstance(route.get("rename"), dict) and "rename" in usual:
        merged["rename"] = {**usual["rename"], **route["rename"]}
    if isinstance(route.get("ignore"), list) and "ignore" in usual:
        merged["ignore"] = [*usual["ignore"], *route["ignore"]]
    return merged
