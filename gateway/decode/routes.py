"""Routes: which of them a topic is for, and what it says by itself. The first that matches counts.

`{device_id}`, `{region}` and `{metric}` in a template mean what they say; any other name is a tag, kept with
the row and its event. Of `{properties&}`, `a=1&b=x%20y`, each is one, by its own name.
"""

from __future__ import annotations

import json
import re
from sys import getsizeof
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote

import msgspec

from contract.topics import stream_topic
from gateway.decode.names import (
    CLAIMED,
    MAX_NAME,
    check_device_id,
    check_region,
    check_tag,
    metric_fault,
    tag_fault,
)
from gateway.decode.plan import Plan, plan_of
from gateway.decode.reading import COPY_ESCAPES
from gateway.decode.templates import MEANT, compile_template
from runtime.errors import ConfigurationError, Reject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runtime.settings import Route, Settings

_encode = msgspec.json.Encoder().encode
_MOST_TAGS: Final = 100  # of a topic that lists some


class Matched(msgspec.Struct, frozen=True, gc=False):
    """What a topic says by itself.

    Attributes:
        device_id: None when the template does not name it; the payload must then.
        region: None when the template does not name it.
        metric: None when the template does not name it.
        tags: what else it names; None when nothing.
        tags_line: the same in COPY text form.
        number: the route's.
        scope: in front of the identity of its messages; empty where a topic is a device and a device a topic.
    """

    topic: str
    route: Route
    plan: Plan
    device_id: str | None
    region: str | None
    metric: str | None
    tags: dict[str, str] | None
    tags_line: str
    number: int
    scope: str
    ignore: bool

    @property
    def size_bytes(self) -> int:
        """What it takes beside its topic and its device, about."""
        tags = sum(getsizeof(tag) for tag in self.tags.values()) if self.tags else 0
        return getsizeof(self.scope) + getsizeof(self.tags) + tags + getsizeof(self.tags_line)

    def with_tag(self, name: str, value: str) -> tuple[dict[str, str], str]:
        """The tags and one more, and all of them in COPY text form."""
        tags = {**(self.tags or {}), name: value.replace("\x00", "\ufffd")}
        return tags, _copy_line(tags)

    def with_tags(self, tags: dict[str, str]) -> Matched:
        """The same with tags that a payload names; those of the topic count more."""
        all_ = {**tags, **(self.tags or {})}
        line = _encode(all_).decode().translate(COPY_ESCAPES)
        return msgspec.structs.replace(self, tags=all_, tags_line=line)


class CompiledRoute(NamedTuple):
    """A route with its MQTT filter and the expression that takes its names out of a topic.

    Attributes:
        scoped: whether the topic is part of the identity of its messages.
        lists: names in its topic that list others.
    """

    route: Route
    topic_filter: str
    pattern: re.Pattern[str]
    plan: Plan
    scoped: bool
    lists: frozenset[str] = frozenset()

    @property
    def identity(self) -> list[str]:
        """What two messages have in common that are one, in words."""
        return [*(["topic"] if self.scoped else []), "device", "key", *(["time"] if self.plan.timed else [])]


def compile_routes(routes: Sequence[Route]) -> list[CompiledRoute]:
    """Check and compile the configured routes.

    Raises:
        ConfigurationError: with the route's position and what is wrong with it.
    """
    compiled: list[CompiledRoute] = []
    scoped = False
    for i, route in enumerate(routes):
        where = route.where(i)
        if route.dialect and "/" not in route.dialect:
            raise ConfigurationError(f"{where}.dialect: {route.dialect!r} was not put in its place")
        template = compile_template(route.topic, f"{where}.topic")
        for name in template.names:
            if name == CLAIMED:
                raise ConfigurationError(f"{where}.topic: {{{name}}} is a tag that the gateway makes itself")
        for setting in ("metrics", "metric") if "metric" in template.names else ():
            if getattr(route, setting):
                raise ConfigurationError(
                    f"{where}.{setting}: the topic names the metric already, by {{metric}}"
                )
        pattern = re.compile(template.pattern, re.DOTALL)
        plan = plan_of(route, where)
        # Topics of one route that differ by the device alone need no topic in the identity, as long as no
        # other route does without it: two topics of one device must not be taken for one. Wills have it in
        # any case, so that a route for them changes no identity of others.
        apart = template.loose or bool(route.presence)
        compiled.append(
            CompiledRoute(route, template.topic_filter, pattern, plan, scoped or apart, template.lists)
        )
        scoped = scoped or not (apart or route.ignore is True)
    if all(route.ignore is True for route in routes):
        raise ConfigurationError("route: every [[route]] has ignore = true; nothing would be stored")
    return compiled


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
            if route.route.ignore is True:
                return
            raise ConfigurationError(
                f"{route.route.where(i)}.topic: covers events.topic, so the gateway would read itself"
            )


class Router:
    """Finds the route of a topic; all are tried in one expression, so that many cost little more than few."""

    def __init__(self, routes: Sequence[CompiledRoute]) -> None:
        self._routes = routes
        bodies = (re.sub(r"\(\?P<\w+>", "(?:", route.pattern.pattern) for route in routes)
        self._first = re.compile("|".join(f"({body})" for body in bodies), re.DOTALL)

    def match(self, topic: str) -> Matched:
        """Find the first route that a topic matches.

        Raises:
            Reject: `no_route`, or the topic holds an impossible name.
        """
        first = self._first.fullmatch(topic)
        if first is None or first.lastindex is None:
            raise Reject(
                "no_route",
                f"topic {topic[:80]!r} matches no configured route; one with ignore = true leaves such out",
            )
        number = first.lastindex - 1
        route = self._routes[number]
        found = route.pattern.fullmatch(topic)
        assert found is not None
        return _matched(route, number, topic, found.groupdict())


def match(routes: Sequence[CompiledRoute], topic: str) -> Matched:
    """The same for one topic only."""
    return Router(routes).match(topic)


def _matched(route: CompiledRoute, number: int, topic: str, names: dict[str, str]) -> Matched:
    device_id, region, metric = map(names.get, MEANT)
    metric = metric or route.route.metric or None
    if device_id is not None:
        check_device_id(device_id)
    if metric is not None and (fault := metric_fault(metric, MAX_NAME)):
        raise Reject("invalid_metric", f"the topic's {fault}")
    others = {name: value for name, value in names.items() if name not in MEANT and name not in route.lists}
    tags = {name: check_tag(name, value) for name, value in others.items()}
    for name in route.lists:
        _add_listed(tags, names[name])
    return Matched(
        topic,
        route.route,
        route.plan,
        device_id,
        check_region(region) if region else None,
        metric,
        tags or None,
        _copy_line(tags) if tags else "\\N",
        number,
        f"\x1e{len(topic)}\x1f{topic}\x1f".replace("\x00", "\ufffd") if route.scoped else "",
        route.route.ignore is True,
    )


def _add_listed(tags: dict[str, str], text: str) -> None:
    """The names and values of a level that lists them, each percent-encoded (RFC 3986 §2.1).

    Raises:
        Reject: one is no tag, or is there already, or there are too many.
    """
    for pair in filter(None, text.split("&")):
        name, value = map(unquote, pair.partition("=")[::2])
        if fault := tag_fault(name, value):
            raise Reject("invalid_tag", f"of the topic: {fault}")
        if name in tags or len(tags) == _MOST_TAGS:
            what = f"{name[:40]!r} is there twice" if name in tags else f"there are more than {_MOST_TAGS}"
            raise Reject("invalid_tag", f"of the topic's tags {what}")
        tags[name] = value


def _copy_line(tags: dict[str, str]) -> str:
    return json.dumps(tags, ensure_ascii=False).translate(COPY_ESCAPES)
