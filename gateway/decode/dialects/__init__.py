"""Dialects: presets of routes for what devices and gateways of a kind send, a TOML file each.

A file says what it is for, where that is documented, and its routes; each route has a name, its `part`, and
examples with the readings that they become, which a test plays. In a configuration `dialect = "tasmota"`
stands for all routes of the file, in their order, and `dialect = "tasmota/sensor"` for one, and so does a
`topic` beside it for the one that it is like. What stands beside it wins, of `rename`, `states` and
`presence_words` name by name, and `prefix` goes before its topics: where that names the device, as
`{device_id}/`, the topics do not. Routes that are ignored are topics that carry no telemetry; they are there
so that their messages are no dead letters.

Of dialects one after the other, those topics that begin with any device's name, as ESPHome's do, are tried
behind the others: `{device_id}/sensor/{metric}/state` is `homeassistant/sensor/outdoor/state` too.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gateway.decode.templates import compile_template
from gateway.decode.usual import with_precision, with_usual
from runtime.errors import ConfigurationError
from runtime.settings.route import PLACE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Raw = dict[str, Any]

_FOLDER: Final = resources.files("gateway.decode.dialects")
_OWN: Final = frozenset({"dialect", "prefix"})
_DEVICE: Final = "{device_id}/"
_DEVICES: Final = re.compile(r"\{device_id(?:\.\.\.)?\}/")
_SHARED: Final = re.compile(r"(?:\$share/[^/]+/)?")
_NAME: Final = re.compile(r"\{[^{}]*\}")
_MEANT: Final = re.compile(r"\{(device_id|metric)(?:\.\.\.)?\}")
ALSO: Final = {
    "aws": "aws-shadow",
    "azure": "azure-iot",
    "chirpstack": "chirpstack-v4",
    "chirpstack/v3": "chirpstack-v3",
    "chirpstack/v4": "chirpstack-v4",
    "home-assistant": "home-assistant-statestream",
    "homeassistant": "home-assistant-statestream",
    "ignition/sparkplug": "ignition",
    "influxdb": "influx",
    "rtl433": "rtl-433",
    "ruuvi": "ruuvi-gateway",
    "shelly-gen3": "shelly-gen2",
    "shelly-gen4": "shelly-gen2",
    "sparkplug": "ignition",
    "sparkplug-b": "ignition",
    "statestream": "home-assistant-statestream",
    "telegraf": "telegraf-json",
    "theengs": "openmqttgateway",
    "thingsboard": "thingsboard-device",
    "ttn/v3": "ttn",
    "ttn-v3": "ttn",
    "umh": "united-manufacturing-hub",
    "z2m": "zigbee2mqtt",
}
"""What else people call some of them; `_` is read as `-` in all."""


class Dialect(NamedTuple):
    """A file.

    Attributes:
        name: of it.
        title: what people call it.
        about: who sends it, and what a site has to know.
        source: addresses of the documents that it follows.
        routes: by part, as a configuration would have them.
    """

    name: str
    title: str
    about: str
    source: tuple[str, ...]
    routes: dict[str, Raw]


def names() -> list[str]:
    """The dialects that there are."""
    return sorted(
        file.name.removesuffix(".toml") for file in _FOLDER.iterdir() if file.name.endswith(".toml")
    )


@cache
def read(name: str) -> Dialect:
    """Read a dialect.

    Raises:
        KeyError: there is none of this name.
    """
    if name not in names():
        raise KeyError(name)
    raw = tomllib.loads(_FOLDER.joinpath(f"{name}.toml").read_text(encoding="utf-8"))
    routes = {}
    for route in raw["route"]:
        part = route.pop("part")
        routes[part] = route
    return Dialect(name, raw["title"], " ".join(raw["about"].split()), tuple(raw["source"]), routes)


def find(dialect: str) -> tuple[Dialect, dict[str, Raw]]:
    """A dialect by its name, and those of its routes that are meant: all, or by `name/part` one.

    Raises:
        ConfigurationError: there is none, and which may have been meant.
    """
    dialect = dialect.replace("_", "-")
    name, slash, part = ALSO.get(dialect, dialect).partition("/")
    name = ALSO.get(name, name)
    try:
        found = read(name)
    except KeyError:
        others = _suggestion(name, names()) or "`gateway dialects` lists those that there are"
        raise ConfigurationError(f"there is no {name!r}; {others}") from None
    if not slash:
        return found, found.routes
    if part not in found.routes:
        others = _suggestion(part, found.routes) or f"it has {', '.join(found.routes)}"
        raise ConfigurationError(f"{name!r} has no part {part!r}; {others}")
    return found, {part: found.routes[part]}


def complete_routes(raw: Raw) -> None:
    """Put the routes of dialects in the places of those that name one; what moves says where it stood.

    Args:
        raw: a configuration as it was read. Its routes are changed.

    Raises:
        ConfigurationError: there is no such dialect, or what stands beside it does not go with it.
    """
    routes = raw.get("route")
    if not isinstance(routes, list):
        return
    completed = [(at, each) for at, route in enumerate(routes) for each in _completed(route, f"route[{at}]")]
    completed = list(_widest_last(completed, routes))
    for now, (at, each) in enumerate(completed):
        if now != at and isinstance(each, dict):
            each[PLACE] = f"route[{at}]"
    raw["route"] = [each for _, each in completed]


def _widest_last(completed: Sequence[tuple[int, Any]], routes: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """Routes with the place of each; those that a site wrote stay where they are, and what is beside them."""
    waiting: list[tuple[int, Any]] = []
    for at, each in completed:
        route = routes[at]
        if not isinstance(route, dict) or not _is_named(route.get("dialect")) or "topic" in route:
            yield from waiting
            waiting.clear()
        elif each["topic"].startswith(_DEVICE, len(_shared(route))):
            waiting.append((at, each))
            continue
        yield at, each
    yield from waiting


def _is_named(dialect: object) -> bool:
    return isinstance(dialect, str) and bool(dialect)


def _shared(route: Raw) -> str:
    """The prefix of a route, when it is nothing but the group of a shared subscription."""
    prefix = route.get("prefix", "")
    return prefix if isinstance(prefix, str) and _SHARED.fullmatch(prefix) else ""


def _completed(route: Any, where: str) -> list[Any]:  # noqa: ANN401  # unchecked
    if not isinstance(route, dict) or not isinstance(dialect := route.get("dialect", ""), str):
        return [route]
    if not dialect:
        if route.get("prefix"):
            raise ConfigurationError(f"{where}.prefix: goes before the topics of a dialect; none is named")
        return [with_precision(with_usual(route))]
    try:
        found, routes = find(dialect)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}.dialect: {error}") from None
    name = found.name
    if "topic" in route and len(routes) > 1:
        part = _part_for(route, routes)
        if not part:
            raise ConfigurationError(
                f"{where}.topic: {name!r} has {len(routes)} topics; put levels before all of them by prefix, "
                f'or name one by dialect = "{name}/{next(iter(routes))}"'
            )
        routes = {part: routes[part]}
    if "topic" in route and route.get("prefix"):
        raise ConfigurationError(f"{where}.prefix: goes before a topic of the dialect, and topic says it all")
    merged = [_merged(preset, route, f"{name}/{each}") for each, preset in routes.items()]
    if not route.get("prefix"):
        return merged
    first: dict[str, Raw] = {}
    for each in merged:  # below a prefix two may come to be one topic
        _check_below(each["topic"], f"{where}.prefix", name)
        first.setdefault(each["topic"], each)
    return list(first.values())


def _part_for(route: Raw, routes: dict[str, Raw]) -> str:
    """Which route of a dialect a topic of a site's own is for; empty when that cannot be told.

    It is the one that reads such topics; or is told the same by its topic, device and metric; or reads them
    with another first level, or below levels of the site.
    """
    topic = route["topic"]
    if not isinstance(topic, str):
        return ""
    wanted = set(_MEANT.findall(topic))
    levels = [_NAME.sub("x", level).replace("+", "x").replace("#", "x") for level in topic.split("/")]
    firsts = {preset["topic"].partition("/")[0] for preset in routes.values()}
    others = [[first, *levels[1:]] for first in firsts if len(firsts) == 1]
    below = [levels[at:] for at in range(1, len(levels))]
    part = (
        _part_reading([levels], routes)
        or _part_like(wanted, routes)
        or _part_reading([*others, *below], routes)
    )
    named = {"device_id"} & set(_MEANT.findall(routes[part]["topic"])) if part else set()
    return part if named <= wanted or "device" in route else ""


def _part_reading(topics: Sequence[Sequence[str]], routes: dict[str, Raw]) -> str:
    """The first route that reads the first of some topics, by their levels."""
    reading = {
        part: re.compile(compile_template(preset["topic"], part).pattern, re.DOTALL)
        for part, preset in routes.items()
        if preset.get("ignore") is not True
    }
    found = (part for topic in topics for part, each in reading.items() if each.fullmatch("/".join(topic)))
    return next(found, "")


def _part_like(wanted: set[str], routes: dict[str, Raw]) -> str:
    """The first route that says as much by its topic and is for more than presence.

    Of several any, when but for their topics they are alike.
    """
    fitting = {
        part: {word: said for word, said in preset.items() if word not in {"topic", "example"}}
        for part, preset in routes.items()
        if preset.get("ignore") is not True
        and "presence" not in preset
        and set(_MEANT.findall(preset["topic"])) == wanted
    }
    first = next(iter(fitting), "")
    return first if all(each == fitting[first] for each in fitting.values()) else ""


def _merged(preset: Raw, route: Raw, dialect: str) -> Raw:
    beside = {key: value for key, value in route.items() if key not in _OWN}
    merged = {**preset, **beside, "dialect": dialect}
    merged.pop("example", None)
    if "example" in beside:
        merged["example"] = beside["example"]
    for key in ("rename", "states", "presence_words"):  # of tables what is not named beside stays
        if isinstance(preset.get(key), dict) and isinstance(beside.get(key), dict):
            merged[key] = {**preset[key], **beside[key]}
    if isinstance(prefix := route.get("prefix", ""), str):
        merged["topic"] = _below(prefix, merged["topic"])
    return with_precision(merged)


def _below(prefix: str, topic: str) -> str:
    """A topic of a dialect below a prefix: one of them names the device."""
    below = f"{prefix}{topic}"
    if named := _DEVICES.search(prefix):
        own = _DEVICES.sub("", topic, count=1)
        below = f"{prefix if own != topic else prefix[: named.start()]}{own}"
    try:
        compile_template(below, "")
    except ConfigurationError:  # where another name takes several levels the device may have to be one
        return below.replace("{device_id...}/", _DEVICE)
    return below


def _check_below(topic: str, where: str, name: str) -> None:
    try:
        compile_template(topic, "")
    except ConfigurationError as error:
        wrong = str(error).removeprefix(": ")
        raise ConfigurationError(
            f"{where}: of a topic of {name!r} it makes {topic!r}: {wrong}; name its levels otherwise"
        ) from None


def _suggestion(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else ""
