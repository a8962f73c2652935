"""What the benchmarks' figures rest on: messages that are what they say, and medians of whole structures."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import mqtt5
import pytest

from bench.load import Load, Publisher, Sender
from bench.packets import Lap, Shape, fill, timestamp
from bench.scenario import median
from bench.scenarios import GROUPS, SCENARIOS

TS = timestamp(1_795_000_000.25)


def payloads(lap: Lap, number: int = 0) -> list[tuple[str, bytes]]:
    """Topics and payloads of a lap, as the broker would read them."""
    return [message for each in lap.packets for message in published(fill(each, number, TS))]


def published(data: bytes) -> list[tuple[str, bytes]]:
    """Topics and payloads of PUBLISH packets."""
    found = []
    rest = memoryview(data)
    while rest:
        packet, length = mqtt5.read(rest)
        assert isinstance(packet, mqtt5.PublishPacket)
        found.append((packet.topic, bytes(packet.payload or b"")))
        rest = rest[length:]
    return found


def test_every_plain_message_is_new() -> None:
    """No two messages share a key: not in a lap, not in two laps, not on two connections, not in two runs."""
    laps = [Lap(Shape(run=run, devices=7), connection, 16) for run in ("a", "b") for connection in (0, 9)]
    sent = [json.loads(payload) for lap in laps for number in (0, 1) for _, payload in payloads(lap, number)]
    assert len({message["id"] for message in sent}) == len(sent) > 0
    assert {message["ts"] for message in sent} == {TS.decode()}


def test_every_device_is_there() -> None:
    """Over all connections each device has its topic, those of one device on one connection only."""
    topics = [{topic for topic, _ in payloads(Lap(Shape(devices=1000), i, 8))} for i in range(8)]
    assert len(set().union(*topics)) == sum(map(len, topics)) == 1000


@pytest.mark.parametrize("messages", [0, 1, 999, 2500, 10_000, 12_345])
def test_contents_are_what_was_sent(messages: int) -> None:
    """The counts against which books are checked equal what a reader of the packets finds."""
    lap = Lap(Shape(devices=10, readings=4, repeats=0.3, garbage=0.05), 0, 8)
    laps = messages // len(lap.packets) + 1
    sent = [item for number in range(laps) for item in payloads(lap, number)][:messages]
    seen: Counter[str] = Counter()
    garbage = 0
    for topic, payload in sent:
        try:
            seen.update(f"{topic} {item['id']} {item}" for item in json.loads(payload))
        except json.JSONDecodeError:
            garbage += 1
    contents = lap.contents(messages)
    assert (contents.good, contents.repeated) == (len(seen), seen.total() - len(seen))
    assert contents.garbage == garbage


def test_every_scenario_runs_by_its_name() -> None:
    """A scenario is in the module of its name, can be run quickly, and is in one group only."""
    assert sum(map(len, GROUPS)) == len(SCENARIOS)
    for name, scenario in SCENARIOS.items():
        assert scenario.measure.__module__ == f"bench.{name}"
        assert type(scenario.quick) is type(scenario.options)


def test_a_median_is_taken_number_by_number() -> None:
    """Numbers at any depth; what is no number, or differs in shape, is the first round's."""
    rounds = [
        {"per_s": {"a": 3.0, "b": 1}, "course": [1, 2], "met": True},
        {"per_s": {"a": 1.0, "b": 3}, "course": [3], "met": False},
        {"per_s": {"a": 2.0, "b": 2}, "course": [4], "met": False},
    ]
    assert median(rounds) == {"per_s": {"a": 2.0, "b": 2}, "course": [1, 2], "met": True}


class Wire(asyncio.Transport):
    """What is written to a connection, and nothing behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep it."""
        self.written += data

    def pause_reading(self) -> None:
        """Nothing comes."""

    def resume_reading(self) -> None:
        """Nothing comes."""


async def flooded(shape: Shape, laps: int) -> list[tuple[str, bytes]]:
    """Topics and payloads of so many laps as one connection of a flood sends them."""
    lap = Lap(shape, 0, 8)
    wire = Wire()
    messages = laps * len(lap.packets)
    publisher = Publisher(0, lap, window=messages, acked=lambda _: None, failed=pytest.fail)
    publisher.connection_made(wire)
    wire.written.clear()
    publisher.data_received(mqtt5.ConnAckPacket(receive_max=65_535).write())
    sent = []
    while publisher.sent < messages:
        assert publisher.send_chunk(messages - publisher.sent)
        sent += published(bytes(wire.written))
        wire.written.clear()
        publisher.unacked = 0
    return sent


async def test_a_device_in_a_flood_sends_no_time_twice() -> None:
    """Device and time tell messages apart, as in a fleet: (device_id, ts) is an index of the product."""
    sent = await flooded(Shape(devices=1000), laps=2)
    pairs = {(topic, json.loads(payload)["ts"]) for topic, payload in sent}
    assert len(pairs) == len(sent) > 10_000


async def test_a_repeat_in_a_flood_is_the_same_byte_for_byte() -> None:
    """What is sent under one key has one content: to the gateway a duplicate, and no conflict."""
    sent = await flooded(Shape(devices=100, repeats=0.3), laps=2)
    keys = {json.loads(payload)["id"] for _, payload in sent}
    assert len(set(sent)) == len(keys) < len(sent)


async def test_a_load_at_a_rate_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a thousand messages a second it sends what is due each millisecond, and does not spin."""
    wire, rest = Wire(), asyncio.sleep
    rests: list[float] = []

    async def record(seconds: float) -> None:
        """Rest, and note for how long."""
        rests.append(seconds)
        publisher.unacked = 0  # the broker takes everything at once
        await rest(seconds)

    monkeypatch.setattr("bench.load.asyncio.sleep", record)
    sender = Sender(0, Load(rate=50_000, messages=1000, connections=1))
    publisher = Publisher(0, Lap(Shape(), 0, 1), window=1000, acked=lambda _: None, failed=pytest.fail)
    publisher.connection_made(wire)
    wire.written.clear()
    publisher.data_received(mqtt5.ConnAckPacket(receive_max=65_535).write())
    sender._publishers.append(publisher)
    sender.go.set()
    sent = await sender.run()
    assert sent.messages == len(published(bytes(wire.written))) == 1000
    assert min(rests) >= 0.001
