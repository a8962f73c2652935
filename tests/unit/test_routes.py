"""Routes: what is a template, and which one a topic matches."""

from __future__ import annotations

import contextlib
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.decode.routes import compile_routes, match, refuse_own_events
from gateway.decode.templates import compile_template
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
        ("a/sensor_{device_id}/up", "a/+/up"),
        ("{site}/{device_id...}/up", "+/#"),
        ("$share/edge/s/{device_id}", "$share/edge/s/+"),
    ],
)
def test_filters(template: str, topic_filter: str) -> None:
    """A template subscribes the filter that covers it."""
    assert compile_routes([Route(topic=template)])[0].topic_filter == topic_filter


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("devices/{a b}/x", "{a b} is no name"),
        ("devices/{claimed_ts}/{device_id}", "makes itself"),
        ("{a...}/{b...}", "only one name may have"),
        ("{a...}/#", "both take all"),
        ("a/x{b...}", "takes whole levels"),
        ("a/{b}{c}", "does not say where {b} ends"),
        ("a/{b", "a brace is alone"),
        ("$share/g", "a shared subscription is"),
        ("$share/+/a", "plain text"),
        ("{device_id}/{device_id}", "appears twice"),
        ("a/#/b", "only allowed as the last level"),
        ("a/b+/c", "mixes"),
        ("a/{device_id}/x{bag&}", "is a whole level"),
        ("a/{device_id&}", "is a whole level"),
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


@pytest.mark.parametrize(
    ("template", "topic", "names"),
    [
        ("s/sensor_{device_id}/up", "s/sensor_17/up", ("17", None, None, None)),
        ("{site}-{device_id}", "a-b-c", ("b-c", None, None, {"site": "a"})),
        ("s/{device_id...}/up", "s/a/b/up", ("a/b", None, None, None)),
        ("s/{device_id...}", "s/a", ("a", None, None, None)),
        ("s/{device_id}/{metric...}", "s/a/x/y", ("a", None, "x/y", None)),
        ("{region}/{line}/{device_id}/{metric}", "n/7/d/temp", ("d", "n", "temp", {"line": "7"})),
        ("$share/g/s/{device_id}", "s/d", ("d", None, None, None)),
        ("$share/g/#", "s/d", (None, None, None, None)),
        (
            "d/{device_id}/{line}/{bag&}",
            "d/a/7/%24.mid=5&a%20b=c%2Fd%26=&alarm&&ok=",
            ("a", None, None, {"line": "7", "$.mid": "5", "a b": "c/d&=", "alarm": "", "ok": ""}),
        ),
        ("d/{device_id}/{bag&}", "d/a/", ("a", None, None, None)),
    ],
)
def test_what_a_topic_names(
    template: str, topic: str, names: tuple[str | None, str | None, str | None, dict[str, str] | None]
) -> None:
    """Names stand in a level, take several, and are device, region, metric or a tag."""
    found = match(compile_routes([Route(topic=template)]), topic)
    assert (found.device_id, found.region, found.metric, found.tags) == names


@pytest.mark.parametrize(
    ("topic", "complaint"),
    [
        ("d/a/7/x=1&x=2", "'x' is there twice"),
        ("d/a/7/line=8", "'line' is there twice"),
        ("d/a/7/x=%00", "without control characters"),
        ("d/a/7/=1", "should have 1 to 128 characters"),
        (f"d/a/7/x={'y' * 257}", "expected up to 256 characters"),
        ("d/a/7/" + "&".join(f"n{n}=" for n in range(200)), "there are more than 100"),
    ],
)
def test_a_list_of_a_topic_that_cannot_be_tags(topic: str, complaint: str) -> None:
    """What it names twice, or calls as nothing can be called, refuses the message, and so do too many."""
    with pytest.raises(Reject, match="invalid_tag") as refused:
        match(compile_routes([Route(topic="d/{device_id}/{line}/{bag&}")]), topic)
    assert complaint in refused.value.detail


@pytest.mark.parametrize(
    ("route", "complaint"),
    [
        (Route(key="a | b", time="b"), r"route\[0\].time: 'b' is named by route\[0\].key already"),
        (Route(key="a |"), r"route\[0\].key: a name is missing beside \|"),
        (Route(metrics="ts"), r"route\[0\].metrics: 'ts' is named by route\[0\].time already"),
        (Route(topic="{device_id}/{metric}", metrics="m"), r"route\[0\].metrics: the topic names the metric"),
        (Route(ignore=True), "every .* has ignore"),
        (Route(timezone="Nowhere"), r"route\[0\].timezone: "),
    ],
)
def test_settings_that_contradict_each_other(route: Route, complaint: str) -> None:
    """They are refused at start with the key's path."""
    with pytest.raises(ConfigurationError, match=complaint):
        compile_routes([route])


def test_the_topic_is_in_the_identity_where_it_says_more_than_the_device() -> None:
    """One route by which a topic is a device does without: keys claimed before stay known. No other does."""
    templates = ["a/{device_id}", "b/{device_id}", "c/{device_id}/+", "d/{region}/{device_id}", "e/#"]
    routes = compile_routes([Route(topic="x/#", ignore=True), *(Route(topic=each) for each in templates)])
    assert [route.scoped for route in routes[1:]] == [False, True, True, True, True]
    assert match(routes, "a/d").scope == ""
    scopes = {match(routes, topic).scope for topic in ("a/d", "b/d", "c/d/1", "c/d/2", "d/n/d", "e/1")}
    assert len(scopes) == 6


def test_the_first_of_many_routes_wins() -> None:
    """With 200 routes the first that matches counts, and names are its own."""
    routes = compile_routes(
        [Route(topic=f"r{n}/{{device_id}}/{{tag{n}}}") for n in range(200)] + [Route(topic="#")]
    )
    for n in (0, 99, 199):
        assert match(routes, f"r{n}/d/x").tags == {f"tag{n}": "x"}
    assert match(routes, "r200/d/x").route.topic == "#"


@pytest.mark.parametrize(
    "topic",
    ["x/{a}-{b}-{device_id}/y", "x/{a}-{device_id}-/y", "{device_id...}/a/{b}", "{a...}/{b}-{device_id}/x"],
)
def test_no_topic_takes_long(topic: str) -> None:
    """The longest topic that MQTT allows is matched, or not, in a moment: devices choose their topics."""
    routes = compile_routes([Route(topic=topic)])
    for hostile in ("x/" + "-" * 65_000, "x/" + "-" * 65_000 + "/z", "a/" * 32_000, "a-/" * 21_000 + "x"):
        before = time.process_time()
        with contextlib.suppress(Reject):
            match(routes, hostile)
        assert time.process_time() - before < 1


@given(st.text("-ab", max_size=12))
def test_names_in_a_level_take_as_little_as_they_can(level: str) -> None:
    """The expression that does not go back finds what one that does would find."""
    template = compile_template("{a}-{b}-b{device_id}a", "route[0].topic")
    plain = re.fullmatch("(?P<a>[^/]+?)-(?P<b>[^/]+?)-b(?P<device_id>[^/]+?)a", level)
    found = re.fullmatch(template.pattern, level)
    assert (found and found.groupdict()) == (plain and plain.groupdict())
