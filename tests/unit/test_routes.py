"""Routes: what is a template, and which one a topic matches."""

from __future__ import annotations

import pytest

from gateway.decode.routes import compile_routes, match, refuse_own_events
from runtime.errors import ConfigurationError, Reject
from runtime.settings import Events, Route, Settings


@pytest.mark.parametrize(
    ("template", "topic_filter"),
    [
        ("devices/{device_id}/telemetry", "devices/+/telemetry"),
        ("sites/{region}/+/{device_id}/#", "sites/+/+/+/#"),
        ("#", "#"),
        ("$share/edge/devices/{device_id}/telemetry", "$share/edge/devices/+/telemetry"),
        ("a", "a"),
    ],
)
def test_filters(template: str, topic_filter: str) -> None:
    """A template subscribes the filter that covers it."""
    assert compile_routes([Route(topic=template)])[0].topic_filter == topic_filter


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("devices/{id}/x", "{id} is not a known name"),
        ("{device_id}/{device_id}", "appears twice"),
        ("a/#/b", "only allowed as the last level"),
        ("a/b+/c", "mixes"),
        ("a/{device_id}x", "mixes"),
    ],
)
def test_impossible_templates(template: str, complaint: str) -> None:
    """A template that means nothing is refused with its place in the file."""
    with pytest.raises(ConfigurationError, match=r"route\[1\].topic: .*") as refused:
        compile_routes([Route(), Route(topic=template)])
    assert complaint in str(refused.value)


@pytest.mark.parametrize("template", ["#", "gateway/events/v1/+", "gateway/#"])
def test_own_events_are_refused(template: str) -> None:
    """A route that covers the internal topic on the same broker is refused: each batch would make another."""
    routes = compile_routes([Route(), Route(topic=template)])
    with pytest.raises(ConfigurationError, match=r"route\[1\].topic: covers events.topic"):
        refuse_own_events(routes, Settings())
    refuse_own_events(routes, Settings(events=Events(host="elsewhere")))


def test_first_match_wins() -> None:
    """Routes are tried in the order of the file."""
    first, second = Route(topic="a/{device_id}", identity="key+time"), Route(topic="a/+")
    routes = compile_routes([first, second])
    assert match(routes, "a/d").route is first


@pytest.mark.parametrize(
    ("template", "topic", "matches"),
    [
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("a/#", "ab", False),
        ("a/+", "a/", True),
        ("a/+", "a", False),
        ("a.b/+", "axb/c", False),
        ("$share/edge/a/+", "a/b", True),
        ("$share/edge/a/+", "$share/edge/a/b", False),
    ],
)
def test_wildcards(template: str, topic: str, *, matches: bool) -> None:
    """Wildcards match as MQTT5 §4.7.1 says."""
    routes = compile_routes([Route(topic=template)])
    if matches:
        match(routes, topic)
    else:
        with pytest.raises(Reject):
            match(routes, topic)
