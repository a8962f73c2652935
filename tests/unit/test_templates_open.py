"""Two names of several levels in one topic."""

from __future__ import annotations

import contextlib
import time

import pytest

from gateway.decode.routes import compile_routes, match
from gateway.decode.templates import compile_template
from runtime.errors import ConfigurationError, Reject
from runtime.settings import Route


@pytest.mark.parametrize(
    ("topic", "topic_filter"),
    [
        ("a/{device_id...}/_x/{metric...}", "a/#"),
        ("a/{device_id...}/_{kind}/{metric...}", "a/#"),
        ("a/{device_id...}/{b}/x/{metric...}", "a/#"),
        ("a/{device_id...}/x/#", "a/#"),
    ],
)
def test_two_with_plain_text_between_them(topic: str, topic_filter: str) -> None:
    """Where the template says where the first ends, a second one may follow, or #."""
    assert compile_template(topic, "route[0].topic").topic_filter == topic_filter


@pytest.mark.parametrize(
    ("topic", "advice"),
    [
        ("{a...}/{b...}", "only one name may have"),
        ("x/{a...}/{b}/{c...}", "only one name may have"),
        ("{a...}/+/{b...}", "only one name may have"),
        ("{a...}/x/{b...}/y/{c...}", "no text may follow"),
        ("{a...}/x/{b...}/{y}/{c...}", "only one name may have"),
        ("{a...}/+/#", "both take all"),
        ("{a...}/x/{b...}/y/#", "no text may follow"),
        ("{a...}/x/{b...}/{y}/#", "both take all"),
    ],
)
def test_two_that_could_end_anywhere(topic: str, advice: str) -> None:
    """Two of which nothing says where the first ends are refused, and so are three."""
    with pytest.raises(ConfigurationError, match=advice):
        compile_template(topic, "route[0].topic")


@pytest.mark.parametrize("end", ["end", "m_{kind}", "{kind}/end"])
def test_no_text_after_the_second(end: str) -> None:
    """Text after the second name of several levels is refused: every end of both would have to be tried."""
    with pytest.raises(ConfigurationError, match="no text may follow"):
        compile_template(f"{{device_id...}}/x/{{metric...}}/{end}", "route[0].topic")


def test_names_after_the_second_are_found_at_once() -> None:
    """Whole levels may follow it, and a long topic takes no time."""
    routes = compile_routes([Route(topic="{device_id...}/x/{metric...}/{kind}")])
    start = time.perf_counter()
    for topic in ("x/" * 16_000 + "y", "y/" * 16_000 + "y", "x/" * 16_000 + "x"):
        with contextlib.suppress(Reject):
            match(routes, topic)
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize(
    ("topic", "device_id", "metric"),
    [
        ("a/d/_x/m", "d", "m"),
        ("a/d/e/_x/m/n", "d/e", "m/n"),
        ("a/d/_x/e/_x/m", "d/_x/e", "m"),
    ],
)
def test_what_they_take(topic: str, device_id: str, metric: str) -> None:
    """The first takes as much as it can."""
    matched = match(compile_routes([Route(topic="a/{device_id...}/_x/{metric...}")]), topic)
    assert (matched.device_id, matched.metric) == (device_id, metric)


@pytest.mark.parametrize("topic", ["a/d/_x", "a/_x/m", "a/d/x/m"])
def test_what_is_no_such_topic(topic: str) -> None:
    """Each takes a level at least."""
    with pytest.raises(Reject, match="no configured route"):
        match(compile_routes([Route(topic="a/{device_id...}/_x/{metric...}")]), topic)


@pytest.mark.parametrize(
    "template",
    ["a/{device_id...}/_x/{metric...}", "a/{device_id...}/_{k}/{metric...}", "a/{device_id...}/{b}/x/#"],
)
def test_no_topic_takes_long(template: str) -> None:
    """The longest topic that MQTT allows is matched, or not, in a moment."""
    routes = compile_routes([Route(topic=template)])
    for hostile in (
        "a/" + "_" * 65_000,
        "a/" + "_x/" * 21_000,
        "a/" * 32_000,
        "a/" + "/_" * 32_000,
        "a/" + "x/" * 32_000,
    ):
        before = time.process_time()
        with contextlib.suppress(Reject):
            match(routes, hostile)
        assert time.process_time() - before < 10
