from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from types import SimpleNamespace

import msgspec
import pytest

from gateway.decode import Decoder, Limits
from gateway.decode.reading import Reading, Received, Rejection
from gateway.decode.routes import compile_routes
from gateway.simulate import rubbish
from gateway.simulate.devices import Emission, Fleet, Kind, Shares, region_name, run_id
from runtime.settings import Route

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC).timestamp()
RECEIVED_AT = "2026-11-23T09:00:00.000000Z"
GOOD = Shares(duplicates=0, garbage=0, late=0)
TOPIC = "devices/{device_id}/telemetry"


def fleet(shares: Shares, *, seed: int = 7, devices: int = 40, topic: str = TOPIC) -> Fleet:
    """A fleet of four regions."""
    return Fleet(devices=devices, regions=4, shares=shares, topic=topic, run="a1", seed=seed)


def emit(source: Fleet, count: int) -> list[Emission]:
    """The fleet's first messages, a hundredth of a second apart."""
    return [source.emit(NOW + index / 100) for index in range(count)]


def decode(emission: Emission) -> list[Reading | Rejection]:
    """What the gateway's own decoder makes of an emission."""
    decoder = Decoder(compile_routes((Route(topic=TOPIC),)), Limits())
    delivery = SimpleNamespace(topic=emission.topic, payload=emission.payload)
    return list(decoder.decode(delivery, Received(datetime.fromtimestamp(NOW, UTC))))


def test_same_seed_same_messages() -> None:
    """The same seed, run and times give the same messages, byte for byte; another seed gives others."""
    shares = Shares(duplicates=0.1, garbage=0.1, late=0.1, arrays=0.1)
    first, again, other = (emit(fleet(shares, seed=seed), 2000) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_shares_are_kept() -> None:
    """Each kind comes up as often as its share says, within four standard deviations."""
    count = 20_000
    kinds = Counter(e.kind for e in emit(fleet(Shares(duplicates=0.05, garbage=0.02, late=0.1)), count))
    for kind, share in ((Kind.DUPLICATE, 0.05), (Kind.GARBAGE, 0.02), (Kind.LATE, 0.1), (Kind.GOOD, 0.83)):
        assert abs(kinds[kind] - share * count) < 4 * (count * share * (1 - share)) ** 0.5, kind


def test_share_of_zero_never_comes_up() -> None:
    """With every share 0 each message is good, a single reading, and no key comes twice."""
    emissions = emit(fleet(GOOD), 5000)
    assert {(e.kind, e.readings) for e in emissions} == {(Kind.GOOD, 1)}
    keys = {(e.topic, msgspec.json.decode(e.payload)["id"]) for e in emissions}
    assert len(keys) == len(emissions)


def test_good_and_late_decode_to_what_they_say() -> None:
    """Good and late messages, arrays included, decode to as many keyed readings as they say."""
    for emission in emit(fleet(Shares(duplicates=0, garbage=0, late=0.5, arrays=0.3)), 1000):
        readings = decode(emission)
        assert len(readings) == emission.readings
        for reading in readings:
            assert isinstance(reading, Reading)
            assert reading.keyed
            assert emission.topic == f"devices/{reading.event.device_id}/telemetry"


def test_duplicates_repeat_an_earlier_message() -> None:
    """A duplicate equals an earlier message of the same device in every byte."""
    seen: set[tuple[str, bytes]] = set()
    for emission in emit(fleet(Shares(duplicates=0.3)), 3000):
        if emission.kind is Kind.DUPLICATE:
            assert (emission.topic, emission.payload) in seen
        seen.add((emission.topic, emission.payload))


def test_late_messages_are_minutes_to_hours_old() -> None:
    """A late message was measured two minutes to six hours ago; a good one just now."""
    for emission in emit(fleet(Shares(duplicates=0, garbage=0, late=0.5)), 500):
        ts = datetime.fromisoformat(msgspec.json.decode(emission.payload)["ts"]).timestamp()
        age = NOW - ts
        if emission.kind is Kind.LATE:
            assert 100 < age < 6 * 3600 + 1
        else:
            assert -10 < age <= 0


@pytest.mark.parametrize("way", rubbish.WAYS)
def test_every_way_to_spoil_is_refused_once(way: str) -> None:
    """Each kind of rubbish ends as exactly one rejection, so that garbage sent = dead letters."""
    [good] = emit(fleet(GOOD), 1)
    spoiled = msgspec.structs.replace(good, payload=rubbish.WAYS[way](good.payload))
    [rejection] = decode(spoiled)
    assert isinstance(rejection, Rejection)


def test_conflict_keeps_the_key_and_changes_the_content() -> None:
    """A conflict has the identity of a message that was sent before, and other content."""
    [good] = emit(fleet(GOOD), 1)
    [before] = decode(good)
    [after] = decode(msgspec.structs.replace(good, payload=rubbish.conflict(good.payload)))
    assert isinstance(before, Reading)
    assert isinstance(after, Reading)
    assert before.identity == after.identity
    assert before.content != after.content


def test_garbage_is_never_stored() -> None:
    """Whatever a fleet calls garbage is rejected, or conflicts with a message that it sent before."""
    stored: dict[str, str] = {}
    for emission in emit(fleet(Shares(duplicates=0.1, garbage=0.5, late=0)), 2000):
        for found in decode(emission):
            if emission.kind is Kind.GARBAGE and isinstance(found, Reading):
                assert found.identity in stored
                assert stored[found.identity] != found.content
            elif isinstance(found, Reading):
                stored[found.identity] = found.content


def test_garbage_counts_one() -> None:
    """The gateway settles something of every piece of garbage, so that the books of a demo can add up."""
    garbage = emit(fleet(Shares(duplicates=0, garbage=1, late=0), devices=400), 400)
    assert [emission for emission in garbage if len(decode(emission)) != 1] == []


def test_values_follow_the_day() -> None:
    """It is warmer and drier in the afternoon than before dawn, and all values are plausible."""

    def measure(hour: int) -> list[dict[str, float]]:
        at = datetime(2026, 11, 23, hour, tzinfo=UTC).timestamp()
        return [msgspec.to_builtins(d.measure(at)) for d in fleet(GOOD).devices]

    day, night = measure(15), measure(3)
    for warm, cold in zip(day, night, strict=True):
        assert warm["temperature"] > cold["temperature"]
        assert warm["humidity"] < cold["humidity"]
        for reading in (warm, cold):
            assert -40 < reading["temperature"] < 60
            assert 5 <= reading["humidity"] <= 100
            assert 10 <= reading["battery"] <= 100


def test_devices_are_spread_over_regions() -> None:
    """Regions have equal shares of the devices, every device its own id, some a door and some a status."""
    devices = fleet(GOOD, devices=48).devices
    assert Counter(d.region for d in devices) == dict.fromkeys(("north", "south", "east", "west"), 12)
    assert len({d.device_id for d in devices}) == 48
    readings = [d.measure(NOW) for d in devices]
    assert {type(r.door_open) for r in readings} == {bool, type(None)}
    assert {type(r.status) for r in readings} == {str, type(None)}


def test_topic_names_device_and_region() -> None:
    """A template's `{device_id}` and `{region}` are filled with what the payload says."""
    [emission] = emit(fleet(GOOD, topic="sites/{region}/{device_id}"), 1)
    assert emission.topic == f"sites/{msgspec.json.decode(emission.payload)['region']}/sim-0001"


def test_runs_do_not_collide() -> None:
    """Two runs of one seed have different names; a run's name depends on its seed and its start alone."""
    assert run_id(1, NOW) == run_id(1, NOW)
    assert len({run_id(1, NOW), run_id(2, NOW), run_id(1, NOW + 0.001)}) == 3


def test_every_region_has_a_name_of_its_own() -> None:
    """However many regions are asked for, no two share a name."""
    assert len({region_name(index) for index in range(40)}) == 40


@pytest.mark.parametrize(
    "shares",
    [{"duplicates": -0.1}, {"garbage": 1.1}, {"arrays": float("nan")}, {"duplicates": 0.5, "late": 0.6}],
)
def test_impossible_shares_are_refused(shares: dict[str, float]) -> None:
    """A share outside 0 to 1, or shares that exceed 1 together, are refused when they are stated."""
    with pytest.raises(ValueError, match=r"share from 0 to 1|more than 1"):
        Shares(**shares)
