"""What messages of some formats mean by themselves: the words of a route that says no more than the format.

Line protocol, SenML and Sparkplug say what in them is a name, a value and a time, so a route need not. What
it says wins: of `rename` name by name, and what it ignores is added. One that says of its own where the
readings are, or what they are called, gets the time, the tags and the device alone; `name = ""` is enough for
that. In line protocol a device, key, time or region is called as its tag or field is, `host`, and
`time_format = "s"` is its precision. Pure.
"""

from __future__ import annotations

from typing import Any, Final

from gateway.decode.paths import alternatives, is_plain
from runtime.settings import Route

_SHAPE: Final = frozenset({"each", "name", "value", "metrics"})
_UNSAID: Final = (
    ("each", ""),
    ("metrics", ""),
    ("ignore", False),
    *((word, getattr(Route(), word)) for word in ("time", "device", "region")),
)
"""What stands there without a word: who writes it down says no more."""
_ALWAYS: Final = ("time", "tags", "device", "region")
_LINE: Final = frozenset({"measurement", "tags", "fields", "time"})
"""What a line of line protocol has, and a path of a route can begin with."""
_UNITS: Final = ("s", "ms", "us", "ns")
_USUAL: Final[dict[str, dict[str, Any]]] = {
    "influx": {
        "name": "measurement",
        "value": "fields",
        "tags": ["tags"],
        "time": "time",
        "device": "tags.device_id | tags.device | tags.host",
        "region": "tags.region",
    },
    "senml": {
        "name": "n | name",
        "value": "v | vb | vs | vd",
        "tags": ["bn"],
        "time": "t",
        "device": "bn",
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
    said = {word: each for word, each in route.items() if (word, each) not in _UNSAID}
    if chosen == "influx":
        said |= {word: _in_line(said[word]) for word in ("device", "key", "time", "region") if word in said}
    if "{device_id" in str(route.get("topic", Route().topic)):  # which needs none beside
        usual = {word: each for word, each in usual.items() if word != "device"}
    if not all(said[word] in _ways(usual.get(word, "")) for word in _SHAPE & said.keys()):
        return {**{word: usual[word] for word in _ALWAYS if word in usual}, **said}
    merged = {**usual, **said}
    if isinstance(route.get("rename"), dict) and "rename" in usual:
        merged["rename"] = {**usual["rename"], **route["rename"]}
    if isinstance(route.get("ignore"), list) and "ignore" in usual:
        merged["ignore"] = [*usual["ignore"], *route["ignore"]]
    return merged


def with_precision(route: dict[str, Any]) -> dict[str, Any]:
    """The same, where it says in what timestamps of line protocol count as of any other time."""
    unit, table = route.get("time_format"), route.get("influx", {})
    if route.get("format") != "influx" or unit not in _UNITS or not isinstance(table, dict):
        return route
    rest = {word: said for word, said in route.items() if word != "time_format"}
    return rest if "precision" in table else {**rest, "influx": {**table, "precision": unit}}


def _in_line(path: Any) -> Any:  # noqa: ANN401  # unchecked
    """A path as a person says it, as one into a line: what has no place in it is a tag or a field."""
    if not isinstance(path, str) or not is_plain(path):
        return path
    ways = [
        name if name.partition(".")[0] in _LINE else f"tags.{name} | fields.{name}"
        for name in alternatives(path)
    ]
    return " | ".join(ways)


def _ways(path: str) -> list[str]:
    """A path, and the paths of which it is the first that is there; of none there is none."""
    return [path, *path.split(" | ")] if path else []
