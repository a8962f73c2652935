"""What is subscribed for the configured routes: one delivery for one publish, whatever routes overlap.

A broker may deliver a message once for each filter that matches it (MQTT5 §3.3.4). So a filter that another
covers is not subscribed, and the other has the higher quality of service of the two. Filters that overlap in
part are all subscribed, with one quality of service, and marked: by MQTT 5 the session tells the copies of a
message apart.

The members of a `$share/<group>/` get each message of its filter once among them, beside whatever else is
subscribed. What overlaps such a filter brings the message twice by design, perhaps to two processes, and is
refused. An ignored route is not subscribed: what nobody else subscribes need not come.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.decode import Decoder, Limits
from gateway.decode.routes import compile_routes, refuse_own_events
from gateway.sparkplug.topics import is_spoken, state_topic
from runtime.errors import ConfigurationError
from runtime.mqtt.port import Subscription

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.decode.routes import CompiledRoute
    from runtime.mqtt.port import Qos
    from runtime.settings import Settings

_SHARED: Final = "$share/"


class Plan(NamedTuple):
    """Routes, what reads their messages, and what is subscribed for them.

    Attributes:
        routes: checked, in their order.
        decoder: of their messages.
        subscriptions: none covers another.
        covered: filter → the filter subscribed in its place.
    """

    routes: list[CompiledRoute]
    decoder: Decoder
    subscriptions: list[Subscription]
    covered: dict[str, str]


def plan(settings: Settings) -> Plan:
    """Check the routes and choose what to subscribe. `gateway run` and `gateway check` both begin with it.

    Raises:
        ConfigurationError: a route is impossible, reads the gateway's own events, or overlaps a shared
            subscription; or what it says of its messages means nothing.
    """
    routes = compile_routes(settings.route)
    decoder = Decoder(routes, Limits.of(settings.gateway))
    refuse_own_events(routes, settings)
    asked: dict[str, Qos] = {}
    for route in routes:
        if route.route.ignore is not True:
            asked[route.topic_filter] = max(asked.get(route.topic_filter, 0), route.route.qos)
    if settings.sparkplug.host_id:
        if not is_spoken(settings.route):
            raise ConfigurationError(
                'sparkplug.host_id: no [[route]] has format = "sparkplug"; dialect = "sparkplug" has them all'
            )
        topic = state_topic(settings.sparkplug.host_id)
        asked[topic] = 1  # what others say of us (Sparkplug 3.0.0, tck-id-host-topic-phid-birth-sub-required)
    chosen, covered = _covering(asked)
    marked = [replace(each, overlaps=_overlapped(each, chosen)) for each in _levelled(chosen)]
    return Plan(routes, decoder, marked, covered)


def covers(topic_filter: str, other: str) -> bool:
    """Whether every topic that `other` matches is matched by the filter; neither is shared."""
    mine, theirs = topic_filter.split("/"), other.split("/")
    if theirs[0].startswith("$") and mine[0] in {"+", "#"}:
        return False  # MQTT-4.7.2-1
    for i, level in enumerate(mine):
        if level == "#":
            return True
        if i == len(theirs) or theirs[i] == "#" or level not in {"+", theirs[i]}:
            return False
    return len(mine) == len(theirs)


def overlap(one: str, other: str) -> bool:
    """Whether some topic is matched by both filters; neither is shared."""
    left, right = one.split("/"), other.split("/")
    for mine, theirs in ((left, right), (right, left)):
        if mine[0].startswith("$") and theirs[0] in {"+", "#"}:
            return False
    for a, b in zip(left, right, strict=False):
        if "#" in {a, b}:
            return True
        if a != b and "+" not in {a, b}:
            return False
    longer = max(left, right, key=len)
    shorter = min(len(left), len(right))
    return len(left) == len(right) or longer[shorter:] == ["#"]


def unshared(topic_filter: str) -> tuple[str, str]:
    """The group of a shared subscription, empty for any other, and the filter behind it (MQTT5 §4.8.2)."""
    if not topic_filter.startswith(_SHARED):
        return "", topic_filter
    group, _, rest = topic_filter.removeprefix(_SHARED).partition("/")
    return group, rest


def _covering(asked: dict[str, Qos]) -> tuple[list[Subscription], dict[str, str]]:
    chosen = {mine: qos for mine, qos in asked.items() if not any(_stands_for(each, mine) for each in asked)}
    covered: dict[str, str] = {}
    for topic_filter, qos in asked.items():
        for by, highest in chosen.items():
            if _stands_for(by, topic_filter):
                covered[topic_filter] = by
                chosen[by] = max(highest, qos)
    return [Subscription(topic_filter, qos) for topic_filter, qos in chosen.items()], covered


def _stands_for(topic_filter: str, other: str) -> bool:
    (group, mine), (others, theirs) = unshared(topic_filter), unshared(other)
    return topic_filter != other and group == others and covers(mine, theirs)


def _levelled(chosen: Sequence[Subscription]) -> list[Subscription]:
    """With one quality of service for all that overlap, whichever copy of a message is the one kept."""
    while True:
        levelled = [
            replace(each, qos=max(other.qos for other in chosen if _meet(each, other))) for each in chosen
        ]
        if levelled == chosen:
            return levelled
        chosen = levelled


def _overlapped(one: Subscription, chosen: Sequence[Subscription]) -> bool:
    beside = [each for each in chosen if each.topic_filter != one.topic_filter and _meet(one, each)]
    for each in beside:
        if unshared(one.topic_filter)[0]:
            raise ConfigurationError(
                f"route: {one.topic_filter} and {each.topic_filter} match some of the same topics, so their "
                "messages would come twice: leave one out, or give them filters that do not overlap"
            )
    return bool(beside)


def _meet(one: Subscription, other: Subscription) -> bool:
    return overlap(unshared(one.topic_filter)[1], unshared(other.topic_filter)[1])
