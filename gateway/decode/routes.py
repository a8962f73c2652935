"""Routes: which configured topic template a topic matches, and the names in it. First match wins.

A template is a topic filter whose wildcards may have names: `sites/{region}/devices/{device_id}/telemetry`
subscribes `sites/+/devices/+/telemetry`. `{device_id}` and `{region}` are the names that mean something; `+`
and a last `#` match without a name (MQTT5 §4.7).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from contract.topics import stream_topic
from gateway.decode.names import check_device_id, check_region
from runtime.errors import ConfigurationError, Reject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runtime.settings import Route, Settings

_NAMES = {"device_id", "region"}


class Matched(NamedTuple):
    """What a topic says by itself.

    Attributes:
        device_id: None when the template does not name it; the payload must then.
        region: None when the template does not name it.
    """

    route: Route
    device_id: str | None
    region: str | None


class CompiledRoute(NamedTuple):
    """A route with its MQTT filter and the expression that takes its names out of a topic."""

    route: Route
    topic_filter: str
    pattern: re.Pattern[str]


def compile_routes(routes: Sequence[Route]) -> list[CompiledRoute]:
    """Check and compile the configured routes.

    Raises:
        ConfigurationError: with the route's position and what is wrong with its template.
    """
    return [_compile(route, f"route[{i}].topic") for i, route in enumerate(routes)]


def refuse_own_events(routes: Sequence[CompiledRoute], settings: Settings) -> None:
    """Refuse routes that would feed the gateway its own events, over and over.

    Raises:
        ConfigurationError: with the route's position.
    """
    events = settings.events_broker("")
    if (events.host, events.port) != (settings.broker.host, settings.broker.port):
        return
    own = stream_topic(settings.events.topic, settings.gateway.stream)
    for i, route in enumerate(routes):
        if route.pattern.fullmatch(own):
            raise ConfigurationError(
                f"route[{i}].topic: covers events.topic, so the gateway would read itself"
            )


def match(routes: Sequence[CompiledRoute], topic: str) -> Matched:
    """Find the first route that a topic matches.

    Raises:
        Reject: `no_route`, or the topic holds an impossible device id or region.
    """
    for route in routes:
        found = route.pattern.fullmatch(topic)
        if found:
            names = found.groupdict()
            device_id, region = names.get("device_id"), names.get("region")
            return Matched(
                route.route,
                None if device_id is None else check_device_id(device_id),
                None if region is None else check_region(region),
            )
    raise Reject("no_route", f"topic {topic[:80]!r} matches no configured route")


def _compile(route: Route, where: str) -> CompiledRoute:
    levels = route.topic.split("/")
    share = levels[:2] if levels[0] == "$share" else []  # names a subscription, and is no part of a topic
    levels = levels[len(share) :] or [""]
    filters: list[str] = []
    patterns: list[str] = []
    seen: set[str] = set()
    for i, level in enumerate(levels):
        if level.startswith("{") and level.endswith("}"):
            name = level[1:-1]
            if name not in _NAMES:
                raise ConfigurationError(
                    f"{where}: {level} is not a known name; use {{device_id}}, {{region}} or +"
                )
            if name in seen:
                raise ConfigurationError(f"{where}: {level} appears twice")
            seen.add(name)
            filters.append("+")
            patterns.append(f"(?P<{name}>[^/]*)")
        elif level == "+":
            filters.append("+")
            patterns.append("[^/]*")
        elif level == "#":
            if i != len(levels) - 1:
                raise ConfigurationError(f"{where}: # is only allowed as the last level")
            filters.append("#")
            patterns.append(".*")
        elif any(sign in level for sign in "+#{}\x00"):
            raise ConfigurationError(f"{where}: level {level!r} mixes a wildcard or a name with other text")
        else:
            filters.append(level)
            patterns.append(re.escape(level))
    body = "/".join(patterns)
    if levels[-1] == "#" and len(levels) > 1:
        body = "/".join(patterns[:-1]) + "(?:/.*)?"  # a filter a/# matches a itself as well
    return CompiledRoute(route, "/".join([*share, *filters]), re.compile(body, re.DOTALL))
