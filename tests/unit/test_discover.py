"""From messages to routes: what is known, and what is guessed."""

from __future__ import annotations

import gzip
import json
import tomllib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import hypothesis
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.decode import Decoder, Limits, Reading, Received
from gateway.decode.dialects import complete_routes
from gateway.decode.routes import compile_routes
from gateway.discover import report
from gateway.discover.block import routes_of
from gateway.discover.discovery import Discovery, discover
from gateway.discover.heard import Heard, Sample
from gateway.simulate.devices import Fleet, Shares
from runtime.settings import Route, Settings, load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
SPACING = timedelta(seconds=10)

Message = tuple[str, Any]


def at(i: int) -> datetime:
    """When the message with this number comes."""
    return NOW + i * SPACING


def text_at(i: int, form: str = "%Y-%m-%dT%H:%M:%SZ", hours: float = 0) -> str:
    """A time that a message with this number says."""
    return (at(i) + timedelta(hours=hours)).strftime(form)


def hear(messages: Iterable[Message], *, retained: bool = False) -> Heard:
    """What is kept of messages that come by, ten seconds apart."""
    heard = Heard()
    for i, (topic, payload) in enumerate(messages):
        raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        heard.add(Sample(topic, raw, at(i), retained))
    return heard


def found_in(make: Callable[[int], Message], count: int = 12) -> Discovery:
    """What is found in so many messages."""
    return discover(hear(make(i) for i in range(count)), Settings())


def words_of(discovery: Discovery) -> dict[str, Any]:
    """The only route's words, and that none of its messages would be a dead letter."""
    [block] = discovery.blocks
    assert not discovery.unexplained
    assert [tried.letter for tried in block.tried if tried.letter] == []
    return block.words


def readings_of(discovery: Discovery) -> list[dict[str, Any]]:
    """What the last messages become."""
    return [reading for block in discovery.blocks for tried in block.tried for reading in tried.readings]


def test_a_counter_is_a_key_and_the_time_its_own() -> None:
    """A number that goes up with each message is its key; as counters begin anew, so is the time."""
    words = words_of(
        found_in(lambda i: (f"fab/dev-{i % 3}/up", {"seq": i // 3 + 7, "ts": text_at(i), "temp": 20 + i % 4}))
    )
    assert words == {
        "topic": "fab/{device_id}/up",
        "format": "json",
        "device": "",
        "key": "seq",
        "time": "ts",
        "region": "",
        "identity": "key+time",
    }


def test_a_constant_is_no_key() -> None:
    """An `id` that comes again names the device, not a message."""
    discovery = found_in(lambda i: ("radio/all", {"id": f"sensor{i % 3}", "time": text_at(i), "t": i / 4}))
    words = words_of(discovery)
    assert (words["key"], words["device"]) == ("", "id")
    assert discovery.blocks[0].devices == 3


def test_unique_ids_are_keys() -> None:
    """Texts that never come again tell messages apart."""
    words = words_of(
        found_in(
            lambda i: (
                f"a/{'pqr'[i % 3]}",
                {"uuid": f"{i:08x}-0000-4000-8000-000000000000", "t": i, "state": "x"},
            )
        )
    )
    assert words["key"] == "uuid"


@pytest.mark.parametrize(
    ("hours", "zone"), [(2, "Etc/GMT-2"), (-5, "Etc/GMT+5"), (0, None)], ids=["ahead", "behind", "none"]
)
def test_an_offset_of_whole_hours_is_a_time_zone(hours: int, zone: str | None) -> None:
    """Times without an offset that are whole hours from now are local."""
    words = words_of(
        found_in(lambda i: (f"a/d{i % 3}", {"when": text_at(i, "%Y-%m-%d %H:%M:%S", hours), "t": i}))
    )
    assert words["time"] == "when"
    assert words.get("timezone") == zone


def test_old_times_say_nothing_of_a_zone() -> None:
    """A retained message's time is hours ago because the message is old."""
    discovery = discover(
        hear(
            ((f"a/d{i % 3}", {"time": text_at(i, "%Y-%m-%d %H:%M:%S", -3), "t": i}) for i in range(9)),
            retained=True,
        ),
        Settings(),
    )
    assert discovery.blocks[0].words["time"] == "time"
    assert "timezone" not in discovery.blocks[0].words


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ("%d/%m/%Y %H:%M:%S", {"time_format": "%d/%m/%Y %H:%M:%S"}),
        ("%m/%d/%Y %H:%M:%S", {"time_format": "%m/%d/%Y %H:%M:%S"}),
        ("%d.%m.%Y %H:%M:%S", {}),
        ("%y%m%d%H%M%S", {"time_format": "%y%m%d%H%M%S"}),
    ],
)
def test_forms_of_times(form: str, words: dict[str, str]) -> None:
    """The form of a time is found, and that day comes before month."""
    found = words_of(found_in(lambda i: (f"a/d{i % 3}", {"Date": text_at(i, form), "t": i})))
    assert found["time"] == "Date"
    assert {name: each for name, each in found.items() if name == "time_format"} == words


@pytest.mark.parametrize("scale", [1, 1000, 10**6, 10**9], ids=["s", "ms", "us", "ns"])
def test_counts_since_1970(scale: int) -> None:
    """Counts of seconds and of parts of them are times by their size; an uptime is none."""
    words = words_of(
        found_in(lambda i: (f"a/d{i % 3}", {"t": int(at(i).timestamp()) * scale, "uptime": 1000 + i, "x": i}))
    )
    assert words["time"] == "t"


def test_numbers_in_texts_and_states() -> None:
    """A decimal comma with a unit is a number, and ON and OFF are 1 and 0."""
    discovery = found_in(
        lambda i: (
            f"a/d{i % 3}",
            {"temp": f"{20 + i},5 °C", "relay": "ON" if i % 2 else "OFF", "fw": "v1.2.3"},
        )
    )
    words = words_of(discovery)
    assert (words["numbers"], words["states"]) == ("from_text_with_unit", {"ON": 1, "OFF": 0})
    metrics = {"temp": 29.5, "temp.unit": "°C", "relay": 1.0, "fw": "v1.2.3"}
    assert readings_of(discovery)[0]["metrics"] == metrics


def test_one_topic_a_metric() -> None:
    """Of values by themselves the topic names place, device and metric."""
    metrics = ("temperature", "humidity", "running")
    discovery = found_in(
        lambda i: (
            f"plant/line{i % 2}/press-{i % 4}/{metrics[i % 3]}",
            b"ON" if i % 3 == 2 else f"{i}.5".encode(),
        ),
        24,
    )
    words = words_of(discovery)
    assert words["topic"] == "plant/{region}/{device_id}/{metric}"
    assert words["format"] == "value"
    assert words["states"] == {"ON": 1, "OFF": 0}


def test_one_topic_a_metric_in_json() -> None:
    """Objects with one value and a time are metrics that the topic names; `val` is the value."""
    discovery = found_in(
        lambda i: (f"hall/m{i % 3}/{('power', 'voltage')[i % 2]}", {"val": i, "ts": text_at(i), "unit": "W"})
    )
    words = words_of(discovery)
    assert words["topic"] == "hall/{device_id}/{metric}"
    assert readings_of(discovery)[0]["metrics"].keys() in (
        {"power", "power.unit"},
        {"voltage", "voltage.unit"},
    )


def test_elements_of_an_array() -> None:
    """An array of objects is readings; with a name and a value each is a metric, and the rest is kept."""
    discovery = found_in(
        lambda i: (
            f"gw/g{i % 2}",
            {
                "fw": "7.1",
                "readings": [
                    {"name": name, "value": i / 2, "ts": int(at(i).timestamp() * 1000)} for name in ("t", "h")
                ],
            },
        )
    )
    words = words_of(discovery)
    assert {name: words[name] for name in ("each", "name", "value", "time", "tags")} == {
        "each": "readings",
        "name": "name",
        "value": "value",
        "time": "ts",
        "tags": ["fw"],
    }
    assert readings_of(discovery)[0]["metrics"] == {"t": 5.0, "h": 5.0}


def test_an_object_of_devices() -> None:
    """Members that are arrays of readings are devices."""
    discovery = found_in(
        lambda i: ("up/gateway", {f"dev {d}": [{"ts": text_at(i), "values": {"t": i}}] for d in "ab"})
    )
    assert words_of(discovery)["device"] == "$1"
    assert {reading["device_id"] for reading in readings_of(discovery)} == {"dev a", "dev b"}


def test_a_holder_of_metrics() -> None:
    """Metrics in an object keep their own names, and what stands beside it stays."""
    discovery = found_in(lambda i: (f"a/d{i % 3}", {"rssi": -60 - i, "values": {"t": i, "h": 3}}))
    assert words_of(discovery)["rename"] == {"values.*": "*"}
    assert readings_of(discovery)[0]["metrics"].keys() == {"rssi", "t", "h"}


def test_names_that_come_under_several_others() -> None:
    """Where the same names come in several places the place is part of the device."""
    words = words_of(
        found_in(lambda i: (f"s/{'ab'[i % 2]}/unit{i // 2 % 3}/data", {"t": i, "ts": text_at(i)}))
    )
    assert words["topic"] == "s/{device_id...}/data"


def test_a_payload_that_names_device_and_region() -> None:
    """One topic for all: fields say whose it is and where."""
    discovery = found_in(
        lambda i: ("all/telemetry", {"deviceId": f"d{i % 4}", "site": "north", "ts": text_at(i), "t": i})
    )
    words = words_of(discovery)
    assert (words["topic"], words["device"], words["region"]) == ("all/telemetry", "deviceId", "site")


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (lambda i: f"20.{i};3;x{i}\n".encode(), {"format": "csv"}),
        (lambda i: f"time,temp\n{text_at(i)},{i}.5\n".encode(), {"format": "csv", "time": "time"}),
        (lambda _: b'{"a": 1}\n{"a": 2}', {"format": "ndjson"}),
        (
            lambda i: f"weather temp={i}.5 {int(at(i).timestamp())}000000000".encode(),
            {"dialect": "influx/device"},
        ),
        (
            lambda i: [{"bn": "urn:x:", "n": "t", "v": i, "bt": at(i).timestamp()}],
            {"dialect": "senml/device"},
        ),
        (lambda i: bytes.fromhex("a16474656d70") + bytes([i]), {"format": "cbor"}),
        (lambda i: bytes.fromhex("81a474656d70") + bytes([i]), {"format": "msgpack"}),
        (lambda i: gzip.compress(json.dumps({"t": i}).encode()), {"format": "json"}),
    ],
    ids=["csv", "csv with header", "ndjson", "influx", "senml", "cbor", "msgpack", "gzip"],
)
def test_formats(payload: Callable[[int], Any], words: dict[str, str]) -> None:
    """Formats are told by the bytes, and read."""
    found = words_of(found_in(lambda i: (f"x/dev-{i % 3}/data", payload(i))))
    assert words.items() <= found.items()


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"temp=21.5;hum=40", "names and values"),
        (b'{"temp": 21.5', "begins as JSON"),
        (b"\x00\xff\xfe\x91\x07", "bytes of no format"),
    ],
)
def test_what_no_format_reads(payload: bytes, why: str) -> None:
    """What cannot be read has no route, and is said with how it begins."""
    discovery = found_in(lambda i: (f"odd/x{i % 3}/y", payload))
    assert not discovery.blocks
    [unexplained] = discovery.unexplained
    assert (unexplained.topics, unexplained.messages) == (3, 12)
    assert why in unexplained.why


def test_dialects_are_named() -> None:
    """What a dialect sends is named by it, below levels of a site too, and its local time is seen."""
    discovery = found_in(
        lambda i: (
            "north/tele/plug/SENSOR",
            {"Time": text_at(i, "%Y-%m-%dT%H:%M:%S", 1), "ENERGY": {"Power": i}},
        )
    )
    assert words_of(discovery) == {"dialect": "tasmota", "prefix": "north/", "timezone": "Etc/GMT-1"}


def test_what_another_route_would_take_is_left_out() -> None:
    """Topics of no known format become no dead letters of routes that cover them."""
    discovery = found_in(
        lambda i: (f"a/d{i % 3}/up", {"t": i}) if i % 4 else ("a/camera/up", b"\xff\xd8\xff\xe0\x00\x10JFIF")
    )
    assert [block.words.get("ignore") for block in discovery.blocks] == [True, None]
    routes, _ = routes_of(discovery.blocks)
    assert Decoder(routes, Limits()).decode(Sample("a/camera/up", b"\xff", NOW), Received.of(NOW)) == []


def test_the_gateways_own_events_are_left_out() -> None:
    """A route that covers the internal topic does not feed the gateway its own events."""
    discovery = found_in(lambda i: (f"{'xyz'[i % 3]}/events/v1/{i % 2}", {"t": i, "ts": text_at(i)}))
    assert discovery.blocks[0].words == {"topic": "gateway/events/v1/#", "ignore": True}


def test_a_configuration_comes_back(tmp_path: Path) -> None:
    """What is written loads as it was: sections that are given, and the routes, whatever their names."""
    settings = load(
        None,
        environ={
            "EDGE_BROKER_HOST": "broker.example",
            "EDGE_BROKER_PASSWORD": 'p"\\\u00e4',
            "EDGE_GATEWAY_STREAM": "3",
        },
    )
    discovery = found_in(
        lambda i: (f'quo"te/d\\{i % 3}/ü', {"ts": text_at(i), "temp": f"{i} °C", "seq": i // 3, "x": "ON"})
    )
    path = tmp_path / "edge.toml"
    path.write_text(report.configuration(discovery, settings), encoding="utf-8")
    loaded = load(path, environ={}, complete=complete_routes)
    assert msgspec.structs.replace(loaded, route=settings.route) == settings
    assert msgspec.convert(discovery.blocks[0].words, Route) == loaded.route[0]


def test_for_programs() -> None:
    """`--json` has the routes as values and as TOML, and what becomes of a message."""
    discovery = found_in(lambda i: (f"a/d{i % 3}", {"ts": text_at(i), "t": i}))
    said = json.loads(report.encode(discovery, 60.0))
    assert said["messages"] == 12
    assert tomllib.loads(said["toml"])["route"] == [said["routes"][0]["route"]]
    assert said["routes"][0]["tried"][0]["readings"][0]["metrics"] == {"t": 9}


def test_every_message_becomes_what_it_says() -> None:
    """Sites of several kinds at once: each message goes to the route that was made for it."""
    kinds: list[Callable[[int], Message]] = [
        lambda i: (f"fab/dev-{i % 3}/up", {"seq": i, "ts": text_at(i), "temp": i}),
        lambda i: (f"home/{('kitchen', 'bath', 'attic')[i % 3]}/temperature", f"{i}.5".encode()),
        lambda i: ("fab/all/alarms", {"device": f"dev-{i % 3}", "code": 4, "ts": text_at(i)}),
        lambda i: (f"zigbee2mqtt/lamp {i % 2}", {"state": "ON", "brightness": i, "linkquality": 80}),
    ]
    messages = [kinds[i % 4](i) for i in range(48)]
    discovery = discover(hear(messages), Settings())
    decoder = Decoder(routes_of(discovery.blocks)[0], Limits())
    for sample in hear(messages).samples():
        found = decoder.decode(sample, Received.of(sample.at))
        assert found, sample.topic
        assert all(isinstance(each, Reading) for each in found), (sample, found)


def test_no_word_is_left_that_a_route_does_not_know() -> None:
    """A route as it is printed compiles."""
    discovery = found_in(lambda i: (f"a/d{i % 3}", {"ts": text_at(i), "t": i}))
    routes = tomllib.loads(report.routes(discovery))["route"]
    assert compile_routes([msgspec.convert(route, Route) for route in routes])


NAMES = st.sampled_from(
    ["id", "ts", "value", "name", "values", "metrics", "region", "device", "a.b", "", "$x", "*"]
)
TEXTS = st.sampled_from(["ON", "off", "21,5", "12 °C", "2026-11-29T13:00:00", "d1", "x/y", "NaN"]) | st.text(
    max_size=6
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-5, 2**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
JSON = st.recursive(
    SCALARS,
    lambda within: st.lists(within, max_size=3) | st.dictionaries(NAMES, within, max_size=4),
    max_leaves=12,
)
PAYLOADS = JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40)
LEVELS = st.sampled_from(
    ["a", "b", "d1", "d2", "temperature", "region", "{x}", "$aws", "", "tele", "SENSOR", "é", "1"]
)
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)


@given(st.lists(st.tuples(TOPICS, PAYLOADS), min_size=1, max_size=8), st.integers(1, 2))
@hypothesis.settings(max_examples=60)
def test_whatever_comes(messages: list[Message], times: int) -> None:
    """Any messages lead to a configuration that can be used, and to words about the rest."""
    discovery = discover(hear(messages * times), Settings())
    raw = tomllib.loads(report.configuration(discovery, Settings()))
    complete_routes(raw)
    assert not raw or compile_routes(msgspec.convert(raw, Settings).route)
    assert json.loads(report.encode(discovery, 1.0))
    for block in discovery.blocks:
        for topic in block.topics:
            assert topic in {topic for topic, _ in messages}


def test_broken_devices_do_not_mislead() -> None:
    """Repeats, late messages and garbage among good ones change nothing of what the good ones say."""
    fleet = Fleet(
        devices=20, regions=4, shares=Shares(), topic="devices/{device_id}/telemetry", run="ab12", seed=3
    )
    heard = Heard()
    for i in range(600):
        emission = fleet.emit(at(i).timestamp())
        heard.add(Sample(emission.topic, emission.payload, at(i)))
    [block] = discover(heard, Settings()).blocks
    words = {name: block.words[name] for name in ("topic", "device", "key", "time", "region")}
    assert words == {
        "topic": "devices/{device_id}/telemetry",
        "device": "",
        "key": "id",
        "time": "ts",
        "region": "region",
    }
