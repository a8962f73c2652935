"""What a route makes of words that say whether a device is online."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.decode import Decoder, Limits, Reading, Received
from gateway.decode.examples import as_object
from gateway.decode.routes import compile_routes
from runtime.errors import ConfigurationError
from runtime.settings import Route, load
from tests.support.write_side import NOW, Delivered

VALUE: dict[str, Any] = {"format": "value", "metric": "online", "presence": "@"}


def decoded(payload: str, **words: Any) -> list[dict[str, Any]]:  # noqa: ANN401  # of any key
    """What a message of a device `a1` becomes; of a dead letter its reason and text."""
    route = Route(topic="tele/{device_id}/LWT", device="", key="", time="", region="", **words)
    found = Decoder(compile_routes([route]), Limits()).decode(
        Delivered("tele/a1/LWT", payload.encode()), Received.of(NOW)
    )
    return [
        as_object(each) if isinstance(each, Reading) else {"reason": each.reason, "error": each.error}
        for each in found
    ]


@pytest.mark.parametrize(
    ("payload", "online"),
    [
        *((word, True) for word in ("Online", "online", "ONLINE", "true", "1", " connected\n", '"online"')),
        *((word, True) for word in ("init", "ready", "alert", "sleeping")),
        *((word, False) for word in ("Offline", "offline", "false", "0", "disconnected", "lost")),
    ],
)
def test_words_that_are_known(payload: str, online: bool) -> None:  # noqa: FBT001  # of a table
    """Those of devices and brokers, in any case; the metric says it, and the event."""
    (reading,) = decoded(payload, **VALUE)
    assert (reading["metrics"], reading["online"]) == ({"online": online}, online)


def test_words_of_a_site() -> None:
    """What `presence_words` names is known beside the others, and may say otherwise."""
    words = {"Running": True, "stopped": False, "sleeping": False}
    assert [
        decoded(each, **VALUE, presence_words=words)[0]["online"]
        for each in ("running", "STOPPED", "sleeping", "online")
    ] == [True, False, False, True]


@pytest.mark.parametrize("payload", ["gone", "2", "on line", '{"state": "x"}', '{"online": {}}'])
def test_a_word_that_is_not_known_is_a_dead_letter(payload: str) -> None:
    """It says what stands there, what is known, and how to name another."""
    (letter,) = decoded(payload, **{**VALUE, "presence": "state | online | @"})
    assert letter["reason"] == "unknown_presence"
    assert "presence" in letter["error"] or "whether the device is online" in letter["error"]


def test_a_word_that_is_not_known_may_be_left_out() -> None:
    """With on_bad_field = "drop" the message is stored as what it is, and says nothing."""
    (reading,) = decoded("gone", **VALUE, on_bad_field="drop")
    assert reading["metrics"] == {"online": "gone"}
    assert "online" not in reading


@pytest.mark.parametrize(
    ("payload", "words", "metrics", "online"),
    [
        ("ready", VALUE | {"metric": "state"}, {"state": "ready", "online": True}, True),
        ('{"s": "lost", "t": 4}', {"presence": "s"}, {"s": "lost", "t": 4, "online": False}, False),
        ('{"net": {"up": 1}}', {"presence": "net.up"}, {"net.up": 1, "online": True}, True),
        ('{"online": false, "t": 4}', {"presence": "online"}, {"online": False, "t": 4}, False),
        ('{"t": 4}', {"presence": "`false`"}, {"t": 4, "online": False}, False),
        ('{"t": 4}', {"presence": "s"}, {"t": 4}, None),
        ('{"s": null, "t": 4}', {"presence": "s"}, {"t": 4}, None),
        (
            '{"state": "online"}',
            VALUE | {"presence": "state | @", "rename": {"online.state": "online"}},
            {"online": True},
            True,
        ),
    ],
)
def test_where_the_word_stands(
    payload: str, words: dict[str, Any], metrics: dict[str, Any], *, online: bool | None
) -> None:
    """Under a name of its own it stays a metric as well; a message without it says nothing."""
    (reading,) = decoded(payload, **words)
    assert (reading["metrics"], reading.get("online")) == (metrics, online)


def test_each_reading_says_its_own() -> None:
    """Of an array each element is looked into, and those without a word say nothing."""
    found = decoded('[{"s": "online"}, {"t": 1}, {"s": "bad"}]', presence="s")
    assert [each.get("online", each.get("reason")) for each in found] == [True, None, "unknown_presence"]


def test_another_field_of_that_name() -> None:
    """What is called `online` and says another thing is not written over."""
    (letter,) = decoded('{"s": "online", "online": 17}', presence="s")
    assert letter["reason"] == "duplicate_key"


def test_routes_that_mean_nothing(tmp_path: Any) -> None:  # noqa: ANN401  # pytest's
    """Words without a path, and a path where an element is one metric."""
    file = tmp_path / "edge.toml"
    file.write_text("[[route]]\npresence_words = { up = true }\n")
    with pytest.raises(ConfigurationError, match=r"route\[0\]\.presence_words: has no effect"):
        load(file, {})
    listed = Route(each="m", name="n", value="v", presence="s")
    with pytest.raises(ConfigurationError, match="presence: with name and value"):
        Decoder(compile_routes([listed]), Limits())


def test_a_route_for_wills_changes_no_identity() -> None:
    """The route after it has its topic in the identity of its messages only as it had before."""
    wills = Route(topic="home/{device_id}/LWT", **VALUE)
    both = compile_routes([wills, Route(topic="home/{device_id}/x")])
    assert [each.scoped for each in both] == [True, False]
