"""What is subscribed for the routes: one delivery for one publish."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.subscriptions import covers, overlap, plan
from runtime.errors import ConfigurationError
from runtime.settings import Events, Route, Settings

levels = st.sampled_from(["a", "b", "$x", "+"])
filters = st.builds(
    lambda parts, rest: "/".join([*parts, *rest]),
    st.lists(levels, min_size=1, max_size=4),
    st.sampled_from([[], ["#"]]),
)
topics = st.lists(st.sampled_from(["a", "b", "$x"]), min_size=1, max_size=5).map("/".join)


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a filter matches a topic, written another way (MQTT5 §4.7)."""
    if topic.startswith("$") and topic_filter[0] in "+#":
        return False
    pattern = re.escape(topic_filter).replace(r"\+", "[^/]*")
    pattern = re.sub(r"(^|/)\\#$", lambda found: "(/.*)?" if found[1] else ".*", pattern)
    return re.fullmatch(pattern, topic) is not None


def settings(*routes: str | Route) -> Settings:
    """Settings with these routes, given whole or as templates."""
    made = tuple(route if isinstance(route, Route) else Route(topic=route) for route in routes)
    return Settings(route=made, events=Events(host="elsewhere"))


@given(filters, filters, topics)
def test_covering_and_overlapping(one: str, other: str, topic: str) -> None:
    """What a covering filter leaves unmatched, and two that do not overlap both match, does not exist."""
    if covers(one, other) and matches(other, topic):
        assert matches(one, topic)
        assert overlap(one, other)
    if matches(one, topic) and matches(other, topic):
        assert overlap(one, other)
        assert overlap(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [("ov/#", "ov/+/up"), ("ov/#", "ov"), ("+/b", "a/b"), ("#", "a"), ("a/+", "a/+"), ("a/+/#", "a/b/#")],
)
def test_covers(one: str, other: str) -> None:
    """A filter covers what it matches all of."""
    assert covers(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("a/b", "a/+"), ("a/+", "a/#"), ("#", "$SYS/x"), ("+/x", "$SYS/x")],
)
def test_does_not_cover(one: str, other: str) -> None:
    """A filter does not cover what it matches some of, nor by a wildcard what begins with a dollar."""
    assert not covers(one, other)


def test_a_covered_filter_is_not_subscribed() -> None:
    """One publish is one delivery: the covering filter stands for the other, with the higher QoS of both."""
    wanted = plan(settings(Route(topic="ov/{device_id}/up", qos=2), Route(topic="ov/#", qos=0)))
    assert [(each.topic_filter, each.qos, each.overlaps) for each in wanted.subscriptions] == [
        ("ov/#", 2, False)
    ]
    assert wanted.covered == {"ov/+/up": "ov/#"}
    assert [route.route.topic for route in wanted.routes] == ["ov/{device_id}/up", "ov/#"]


def test_a_chain_of_covers_ends_at_what_is_subscribed() -> None:
    """However they are ordered, what is covered by something covered is covered by what is subscribed."""
    wanted = plan(settings("a/b/c", "a/b/+", "a/#", "a/b/c"))
    assert [each.topic_filter for each in wanted.subscriptions] == ["a/#"]
    assert wanted.covered == {"a/b/c": "a/#", "a/b/+": "a/#"}


def test_filters_that_overlap_in_part_are_marked() -> None:
    """Neither can stand for the other: both are subscribed, at one QoS, which reaches whatever they meet."""
    wanted = plan(
        settings(
            Route(topic="a/+/x", qos=0), Route(topic="+/b/x/#", qos=0), Route(topic="c/b/+/y", qos=2), "far"
        )
    )
    assert [(each.qos, each.overlaps) for each in wanted.subscriptions] == [
        (2, True),
        (2, True),
        (2, True),
        (1, False),
    ]


def test_shared_subscriptions_are_planned_by_group() -> None:
    """Inside a group a covering filter stands for the other; beside it what does not overlap is fine."""
    wanted = plan(settings("$share/edge/a/{device_id}/up", "$share/edge/a/#", "b/#"))
    assert [each.topic_filter for each in wanted.subscriptions] == ["$share/edge/a/#", "b/#"]


@pytest.mark.parametrize(
    "beside",
    ["a/b", "a/#", "$share/other/a/+", "$share/edge/+/b"],
    ids=["covered", "covering", "group", "part"],
)
def test_what_overlaps_a_shared_subscription_is_refused(beside: str) -> None:
    """It would bring messages twice by design, and both filters are named."""
    with pytest.raises(ConfigurationError, match="twice") as refused:
        plan(settings("$share/edge/a/+", beside))
    assert beside in str(refused.value)


@pytest.mark.parametrize("template", ["$share/edge", "$share//a", "$share/+/a", "$share/edge/"])
def test_malformed_shared_subscriptions_are_refused(template: str) -> None:
    """A share has a group and a filter behind it."""
    with pytest.raises(ConfigurationError, match=r"\$share"):
        plan(settings(template))
