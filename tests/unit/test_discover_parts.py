"""The parts of discovery by themselves; and dialects as they are simulated."""

from __future__ import annotations

import json
import tomllib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decode import Decoder, Limits, Reading, Received
from gateway.decode.dialects import names, read
from gateway.dialects.played import compiled
from gateway.discover import written
from gateway.discover.discovery import discover
from gateway.discover.heard import Heard, Sample
from gateway.discover.known import Dialects as KnownDialects
from gateway.discover.looks import look_of, looks_like_id, words_of
from gateway.discover.shapes import shapes_of
from gateway.discover.sniff import Sniffer
from gateway.simulate.dialects import Dialects
from runtime.settings import Settings

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "look"),
    [
        ("kitchen", "kitchen"),
        ("pump-17", "pump-#"),
        ("17", "{number}"),
        ("0x00158d0001a2b3c4", "{address18}"),
        ("A4:C1:38:1A:2B:3C", "{address17}"),
        ("3b57b952-318e-47b5-b0d7-a14f61ecd03b", "{uuid}"),
    ],
)
def test_looks(name: str, look: str) -> None:
    """Names that nobody would choose as words look alike."""
    assert look_of(name) == look
    assert looks_like_id(name) == look.startswith("{")


def test_words_in_names() -> None:
    """Names of fields are read by their words, however they are written."""
    assert [words_of(name) for name in ("devEUI", "sensor_id", "Temp-C", "")] == [
        ["dev", "eui"],
        ["sensor", "id"],
        ["temp", "c"],
        [],
    ]


@pytest.mark.parametrize(
    ("topics", "shapes"),
    [
        (["a/d1/x", "a/d2/x"], {("a", None, "x"): 2}),
        (["a/oak/x", "a/elm/x"], {("a", None, "x"): 2}),
        (["a/d1/t", "a/d1/h", "a/d2/t"], {("a", None, None): 3}),
        (["home/hall/t", "garage/car/t"], {("home", "hall", "t"): 1, ("garage", "car", "t"): 1}),
        (["a/b", "a/b/c"], {("a", "b"): 1, ("a", "b", "c"): 1}),
        (["/x/1", "/x/2"], {("", "x", None): 2}),
    ],
)
def test_shapes(topics: list[str], shapes: dict[tuple[str | None, ...], int]) -> None:
    """Names vary where they look alike, or where the same follows them."""
    found = shapes_of(dict.fromkeys(topics, ""))
    assert {shape: len(members) for shape, members in found.items()} == shapes


def test_messages_of_two_kinds_by_like_topics() -> None:
    """What the messages are tells apart topics that would vary otherwise."""
    found = shapes_of({"a/d1/up": "1", "a/d2/up": "1", "a/d1/log": "2", "a/d2/log": "2"})
    assert set(found) == {("a", None, "up"), ("a", None, "log")}


@given(st.lists(st.text("ab1/", max_size=8), unique=True, max_size=20))
@settings(max_examples=100)
def test_every_topic_has_one_shape(topics: list[str]) -> None:
    """No topic is lost, and its shape fits it."""
    found = shapes_of(dict.fromkeys(topics, ""))
    assert sorted(topic for members in found.values() for topic in members) == sorted(topics)
    for shape, members in found.items():
        for topic in members:
            levels = topic.split("/")
            assert len(levels) == len(shape)
            assert all(level in {None, own} for level, own in zip(shape, levels, strict=True))


def test_what_is_kept_is_bounded() -> None:
    """However much comes by, what is kept is within the bound, and topics are counted all the same."""
    heard = Heard(max_bytes=100_000)
    for i in range(20_000):
        heard.add(Sample(f"a/d{i % 2000}/x", b"x" * 200, NOW))
    kept = heard.samples()
    assert heard.messages == 20_000
    assert len(heard.topics) == 2000
    assert sum(topic.count for topic in heard.topics.values()) == 20_000
    assert 50_000 < sum(len(sample.payload) + 180 for sample in kept) < 101_000


def test_ten_thousand_topics() -> None:
    """Of sites of several kinds at once what is kept is within its bound, and each kind is one route."""
    heard = Heard()
    for device in range(10_000):
        kinds = (
            (f"plant/hall{device % 12}/machine-{device}/temp", f"{device % 90}.5".encode()),
            (
                f"fab/dev-{device}/up",
                json.dumps({"ts": NOW.timestamp(), "pad": "x" * 900, "t": device}).encode(),
            ),
            (f"log/logger{device}", f"{NOW.timestamp():.0f};2{device % 9},5".encode()),
            (f"raw/n{device}/up", bytes([0xF1, 0x80, device % 256, 0xFF, 0x9A])),
        )
        heard.add(Sample(*kinds[max(0, device - 6999) % 4], NOW))
    assert len(heard.topics) == 10_000
    assert sum(len(sample.payload) + 180 for sample in heard.samples()) <= 15_000_000
    discovery = discover(heard, Settings())
    assert {block.words["topic"]: (len(block.topics), block.messages) for block in discovery.blocks} == {
        "fab/{device_id}/up": (750, 750),
        "log/{device_id}": (750, 750),
        "plant/{region}/{device_id}/{metric}": (7750, 7750),
    }
    assert sum(len(block.tried) + len(block.examples) for block in discovery.blocks) <= 6
    assert [(each.topics, each.messages) for each in discovery.unexplained] == [(750, 750)]


def test_the_last_messages_are_kept() -> None:
    """Of a topic the last eight stay; empty messages are counted and no more."""
    heard = Heard()
    for i in range(20):
        heard.add(Sample("a", str(i).encode(), NOW))
    heard.add(Sample("a", b"", NOW))
    assert [sample.payload for sample in heard.samples()] == [str(i).encode() for i in range(12, 20)]
    assert (heard.messages, heard.empty) == (21, 1)


PLAIN = (
    st.text()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
)


@given(st.dictionaries(st.text(min_size=1), PLAIN | st.lists(PLAIN) | st.dictionaries(st.text(), PLAIN)))
@settings(max_examples=100)
def test_toml_comes_back(values: dict[str, Any]) -> None:
    """Whatever a table holds, TOML reads what was written."""
    assert tomllib.loads("\n".join(written.table(values))) == values


@given(st.text())
@settings(max_examples=100)
def test_comments_stay_comments(said: str) -> None:
    """What strangers send becomes no line of a configuration."""
    assert all(line.startswith("# ") for line in written.comment(said))
    assert tomllib.loads("\n".join(written.comment(said))) == {}


@given(st.binary(max_size=200))
@settings(max_examples=100)
def test_any_bytes_are_sniffed(payload: bytes) -> None:
    """Whatever comes, it is of a format or there is a word why not."""
    sniffed = Sniffer().sniff(payload)
    assert sniffed.format or sniffed.why or not payload.strip()


@pytest.mark.parametrize("name", names())
def test_a_dialect_is_known_by_its_examples(name: str) -> None:
    """Topics of a dialect's examples are of that dialect."""
    fleet = Dialects([name], prefix="", seed=1)
    samples: dict[str, list[Sample]] = {}
    for i in range(2 * len(fleet.speakers)):
        emission = fleet.emit(NOW.timestamp() + i)
        samples.setdefault(emission.topic, []).append(
            Sample(emission.topic, emission.payload, NOW + timedelta(seconds=i))
        )
    known = KnownDialects().know({topic: its for topic, its in samples.items() if its[0].payload})
    topics = {speaker.topic for speaker in fleet.speakers if speaker.expect}
    assert {topic: known[topic].dialect for topic in topics} == dict.fromkeys(topics, name)


def test_examples_are_sent_as_if_measured_now() -> None:
    """Times are those of now in their own form, keys count on, and values move a little."""
    fleet = Dialects(["tasmota"], prefix="north/", seed=1)
    payloads: dict[str, list[bytes]] = {}
    for _ in range(2 * len(fleet.speakers)):
        emission = fleet.emit(NOW.timestamp())
        payloads.setdefault(emission.topic, []).append(emission.payload)
    first, second = (json.loads(payload) for payload in payloads["north/tele/plug-1/SENSOR"])
    assert first["Time"] == second["Time"] == "2026-11-29T12:00:00"
    assert first["ENERGY"]["TotalStartTime"] == "2026-01-04T11:20:31", "long ago: no time of the message"
    assert first["ENERGY"]["Total"] != second["ENERGY"]["Total"]
    assert first["ENERGY"]["Total"] == pytest.approx(38.218, rel=0.02)
    assert first["ENERGY"]["Power"] == 12


@pytest.mark.parametrize("name", names())
def test_simulated_messages_do_not_contradict_each_other(name: str) -> None:
    """No key comes again with other content, and each message becomes the readings of its example."""
    fleet = Dialects([name], prefix="", seed=1)
    decoder = Decoder(compiled(read(name)), Limits())
    seen: dict[str, str] = {}
    for i in range(3 * len(fleet.speakers)):
        at = NOW + timedelta(seconds=i)
        emission = fleet.emit(at.timestamp())
        found = decoder.decode(Sample(emission.topic, emission.payload, at), Received.of(at))
        assert len(found) == emission.readings, (emission.topic, found)
        for each in found:
            assert isinstance(each, Reading)
            assert seen.setdefault(each.identity, each.content) == each.content
