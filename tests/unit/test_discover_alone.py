"""Sites of which one kind of messages is heard: the dialect is known all the same."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest

from gateway.decode.dialects import names, read
from gateway.discover import report
from gateway.discover.discovery import Discovery, discover
from gateway.discover.heard import Heard, Sample
from gateway.simulate.dialects import Speaker
from runtime.settings import Settings
from runtime.settings.route import Example
from tests.support.sparkplug import DOUBLE, bd_seq, metric, payload

if TYPE_CHECKING:
    from collections.abc import Iterable

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
ROUNDS: Final = 4
NOT_BY_ITSELF: Final = {
    "esphome/light", "esphome/climate", "esphome/fan", "esphome/state",  # a word or two that everybody has
    "united-manufacturing-hub/asset",  # the same
    "milesight/application",  # what a ChirpStack sends
}  # fmt: skip
PARTS: Final = [
    f"{name}/{part}"
    for name in names()
    for part, words in read(name).routes.items()
    if words.get("ignore") is not True and "presence" not in words
]


def at(i: int) -> datetime:
    """When a round begins."""
    return NOW + i * timedelta(seconds=10)


def found_in(rounds: Iterable[Iterable[tuple[str, bytes]]]) -> Discovery:
    """What is found in messages that arrive a moment after they were sent."""
    heard = Heard()
    for i, messages in enumerate(rounds):
        for topic, raw in messages:
            heard.add(Sample(topic, raw, at(i) + timedelta(milliseconds=250)))
    return discover(heard, Settings())


def titles(discovery: Discovery) -> list[str]:
    """How the routes are called."""
    return [block.title for block in discovery.blocks]


@pytest.mark.parametrize("which", PARTS)
def test_one_part_of_a_dialect(which: str) -> None:
    """Messages of one of its topics are enough to know a dialect by, but where anybody sends such."""
    name, _, part = which.partition("/")
    speakers = [
        Speaker(msgspec.convert(each, Example), which, Random(1))  # noqa: S311  # it has to be repeatable
        for each in read(name).routes[part]["example"]
        if not each.get("reject")
    ]
    found = found_in([(each.topic, each.say(at(i).timestamp())) for each in speakers] for i in range(ROUNDS))
    assert (titles(found) == [name]) is (which not in NOT_BY_ITSELF)
    assert found.unexplained == []


@pytest.mark.parametrize(
    ("topic", "said", "dialect"),
    [
        (
            "homeassistant/sensor/attic/temp/config",
            {"name": "T", "stat_t": "x"},
            "home-assistant-statestream",
        ),
        ("tasmota/discovery/A1B2C3/config", {"ip": "10.0.0.4", "dn": "plug"}, "tasmota"),
        ("v1/gateway/other", {"t": 21.5}, ""),
        ("N/site/system/0/Soc", {"value": 88.5}, ""),
    ],
)
def test_what_a_dialect_leaves_out(topic: str, said: dict[str, Any], dialect: str) -> None:
    """Topics that nobody else has are left out by their dialect; what may be anybody's is read."""
    [block] = found_in([[(topic, json.dumps(said).encode())]] * ROUNDS).blocks
    assert block.words.get("dialect", "") == dialect


def edge_node(i: int, *, born: bool) -> list[tuple[str, bytes]]:
    """What an edge node and its device say in a round: metrics have numbers after the births."""
    ms = round(at(i).timestamp() * 1000)
    births = [
        ("spBv1.0/Plant A/NBIRTH/edge", payload([bd_seq(0)], ts=ms, seq=0)),
        (
            "spBv1.0/Plant A/DBIRTH/edge/press",
            payload([metric("Temp", 20.5, alias=3, datatype=DOUBLE, ts=ms)], ts=ms, seq=1),
        ),
    ]
    data = payload([metric(None, 21.5 + i, alias=3, ts=ms)], ts=ms, seq=2 + i)
    return [*(births if born and not i else []), ("spBv1.0/Plant A/DDATA/edge/press", data)]


def test_metrics_that_have_numbers() -> None:
    """Without a birth they have no names yet: the dialect is written, and what is missing is said."""
    found = found_in(edge_node(i, born=False) for i in range(ROUNDS))
    assert (titles(found), found.unexplained) == (["ignition"], [])
    [block] = found.blocks
    assert [(each.held, each.readings) for each in block.tried] == [(True, [])]
    [unsure] = block.unsure
    assert unsure.startswith("4 of 4 messages have no names without a birth")
    assert "dead letter" not in str(report.encode(found, 60))


def test_metrics_that_a_birth_names() -> None:
    """A birth that was heard names them, and no example is written, as it would have no birth before it."""
    found = found_in(edge_node(i, born=True) for i in range(ROUNDS))
    assert titles(found) == ["ignition"]
    [block] = found.blocks
    assert block.unsure == []
    shown = {each.part: [reading["metrics"] for reading in each.readings] for each in block.tried}
    assert shown["device-data"] == [{"Temp": 24.5}]
    assert not any("DDATA" in each["topic"] for each in block.examples)


@pytest.mark.parametrize(
    ("topics", "expected"),
    [
        (["hall/events"], {"topic": "hall/events", "device": "'hall'"}),
        (["pump-7/events"], {"topic": "{device_id}/events", "device": ""}),
        (["hall/events", "yard/events"], {"topic": "{device_id}/events", "device": ""}),
    ],
)
def test_a_first_level_that_is_one_word(topics: list[str], expected: dict[str, str]) -> None:
    """It is written as it stands: with a name there a route would subscribe what all others send."""
    found = found_in(
        [(topic, json.dumps({"score": 0.25 + i, "label": "a"}).encode()) for topic in topics]
        for i in range(ROUNDS)
    )
    [block] = found.blocks
    assert {word: block.words[word] for word in expected} == expected
