"""What people found when they let it listen to brokers of their own."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from gateway.decode import Decoder, Limits, Reading, Received
from gateway.discover import report
from gateway.discover.block import routes_of
from gateway.discover.discovery import Discovery, discover
from gateway.discover.heard import Heard, Sample
from gateway.discover.sniff import Sniffer
from runtime.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)


def found_in(*makers: Callable[[int], tuple[str, Any]], count: int = 6) -> Discovery:
    """What is found when each of these speaks so many times, ten seconds apart."""
    heard = Heard()
    for i in range(count):
        for make in makers:
            topic, payload = make(i)
            raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
            heard.add(Sample(topic, raw, NOW + timedelta(seconds=10 * i)))
    return discover(heard, Settings())


def readings_of(discovery: Discovery) -> dict[str, dict[str, Any]]:
    """By topic, the metrics of the first reading of what was tried."""
    return {
        tried.topic: tried.readings[0]["metrics"]
        for block in discovery.blocks
        for tried in block.tried
        if tried.readings
    }


def clock(i: int) -> int:
    """When a message with this number is sent, in seconds since 1970."""
    return int(NOW.timestamp()) + 10 * i


def test_a_decimal_comma_with_a_unit() -> None:
    """`21,5 °C` is a number with its unit, and no two columns."""
    discovery = found_in(
        lambda i: ("hall/temp", f"2{i},5 °C".encode()),
        lambda i: ("hall/hum", f"5{i},5 %".encode()),
        lambda i: ("hall/press", f"101{i},2 hPa".encode()),
    )
    [block] = discovery.blocks
    assert {name: block.words[name] for name in ("topic", "format", "numbers")} == {
        "topic": "hall/{metric}",
        "format": "value",
        "numbers": "from_text_with_unit",
    }
    assert readings_of(discovery)["hall/hum"]["hum"] == 55.5


@pytest.mark.parametrize(
    "text", ["21,5", "-21,5", "+21,5", " 21,5 ", "\u221221,5 °C", "1015,2hPa", "0,5 m³/h"]
)
def test_one_number_is_no_table(text: str) -> None:
    """One number with a decimal comma is a value, with a sign, blanks and a unit or without."""
    assert Sniffer().sniff(text.encode()).format == "value"


@pytest.mark.parametrize(
    ("text", "delimiter", "columns"),
    [
        ("29.11.2026;23:35:55;21,5;44,0", ";", 4),
        ("21,5;44,0", ";", 2),
        ("21,5\t44,0\t3", "\t", 3),
        ("21,5|44,0", "|", 2),
        ("21.5,44.0", ",", 2),
        ("21,5,7", ",", 3),
    ],
)
def test_a_comma_is_the_last_delimiter(text: str, delimiter: str, columns: int) -> None:
    """Where another sign divides evenly a comma is the decimal one; the sign is said always."""
    words = Sniffer().sniff(text.encode()).words
    assert words["format"] == "csv"
    assert words["csv"]["delimiter"] == delimiter
    assert len(words["csv"]["columns"]) == columns


def test_numbers_that_are_texts_in_elements() -> None:
    """Values of named elements are read as numbers when all of their texts are."""
    discovery = found_in(
        lambda i: (
            "meter/m1",
            {
                "timestamp": clock(i),
                "data": [{"name": name, "value": f"23{i},1"} for name in ("volt_l1", "volt_l2")],
            },
        )
    )
    [block] = discovery.blocks
    assert block.words["numbers"] == "from_text"
    assert readings_of(discovery) == {"meter/m1": {"volt_l1": 235.1, "volt_l2": 235.1}}


def test_texts_of_elements_by_their_names() -> None:
    """Elements with words beside those with numbers do not hide that these are numbers."""
    discovery = found_in(
        lambda i: (
            "meter/m1",
            {
                "timestamp": clock(i),
                "data": [{"name": "volt", "value": f"23{i},1"}, {"name": "firmware", "value": "rev A"}],
            },
        )
    )
    assert readings_of(discovery) == {"meter/m1": {"volt": 235.1, "firmware": "rev A"}}


@pytest.mark.parametrize("prefix", ["", "site/"])
def test_a_shelly_with_another_prefix(prefix: str) -> None:
    """The generic status of a component is enough to know a Shelly, whatever its prefix."""
    discovery = found_in(
        lambda i: (
            f"{prefix}boiler-room/status/switch:0",
            {
                "id": 0,
                "output": True,
                "apower": 41.7 + i,
                "aenergy": {"total": 5120.8 + i, "minute_ts": clock(i)},
            },
        )
    )
    [block] = discovery.blocks
    assert block.words == {
        "dialect": "shelly-gen2",
        **({"prefix": prefix} if prefix else {}),
    }
    assert block.devices == 1


def test_a_nested_stamp_is_of_its_own() -> None:
    """A time within an object whose name only ends in _ts is of that object, not of the message."""
    discovery = found_in(
        lambda i: (f"plug/p{i % 2}", {"power": i, "energy": {"total": i, "minute_ts": clock(i)}})
    )
    [block] = discovery.blocks
    assert block.words["time"] == ""


@pytest.mark.parametrize("stamp", ["ts", "sent_ts"])
def test_a_stamp_of_the_message_counts(stamp: str) -> None:
    """A time of the message itself, and one called ts within an object, is the message's."""
    [block] = found_in(lambda i: (f"plug/p{i % 2}", {"power": i, stamp: clock(i)})).blocks
    assert block.words["time"] == stamp
    [block] = found_in(lambda i: (f"plug/p{i % 2}", {"power": i, "head": {"ts": clock(i)}})).blocks
    assert block.words["time"] == "head.ts"


def test_two_kinds_by_like_topics() -> None:
    """What differs by device in its format has a route of its own, with the topic as it is."""
    discovery = found_in(
        lambda i: ("logger/a", f"2{i}.5;44.0\n".encode()),
        lambda i: ("logger/b", f"temp;hum\n2{i}.5;44.0\n".encode()),
    )
    topics = [block.words["topic"] for block in discovery.blocks]
    assert len(set(topics)) == len(topics) == 2
    assert not discovery.unexplained
    assert readings_of(discovery) == {
        "logger/a": {"column1": 25.5, "column2": 44},
        "logger/b": {"temp": 25.5, "hum": 44},
    }
    devices = {
        tried.topic: tried.readings[0]["device_id"] for block in discovery.blocks for tried in block.tried
    }
    assert devices == {"logger/a": "a", "logger/b": "b"}


def test_dead_letters_are_unexplained_too() -> None:
    """A route whose last message is a dead letter is among what is left over, with the reason."""
    discovery = found_in(
        lambda i: ("plant/d1/up", {"seq": i, "t": i} if i < 11 else b'{"seq": 11, "t"'), count=12
    )
    letters = [tried for block in discovery.blocks for tried in block.tried if tried.letter]
    assert [each.topic for each in letters] == ["plant/d1/up"]
    assert [(each.topic, each.why) for each in discovery.unexplained] == [("plant/d1/up", letters[0].letter)]


@pytest.mark.parametrize(
    ("topics", "field", "values"),
    [
        (["solar/inverter1/ac"], "unit", ["W"]),
        (["solar/inverter1/ac", "solar/inverter1/dc"], "unit", ["W", "V"]),
        (["esp1/state/switch"], "id", [0]),
        (["esp1/state/one", "esp1/state/two"], "id", [0, 1]),
        (["esp1/state/one", "esp1/state/two"], "name", ["kWh", "V"]),
        (["esp1/state/one", "esp1/state/two"], "host", ["server", "server"]),
    ],
)
def test_what_is_no_name_of_a_device(topics: list[str], field: str, values: list[Any]) -> None:
    """A unit, the number of a channel and what all say alike name no device: the topic does."""
    makers = [
        lambda i, topic=topic, value=value: (topic, {"p": i, field: value, "ts": clock(i)})
        for topic, value in zip(topics, values, strict=True)
    ]
    discovery = found_in(*makers)
    for block in discovery.blocks:
        assert block.words["device"] == ""
        assert "{device_id" in block.words["topic"]
        if field != "unit":
            assert any(field in said for said in block.unsure)


@pytest.mark.parametrize(
    ("field", "values"), [("dev", ["box-1", "box-2"]), ("mac", ["aa:bb:cc:00:00:01", "aa:bb:cc:00:00:02"])]
)
def test_a_name_that_does_not_count(field: str, values: list[str]) -> None:
    """Where the topic names the device nothing is said of another name, nor of the same with colons."""
    [block] = found_in(
        *(
            lambda i, d=d: (f"x/AABBCC00000{d}/up", {field: values[d - 1], "t": i, "ts": clock(i)})
            for d in (1, 2)
        )
    ).blocks
    assert (block.words["topic"], block.words["device"], block.unsure) == ("x/{device_id}/up", "", [])


def test_a_weak_name_of_a_device() -> None:
    """A name that differs by topic names the device where the topic is not chosen, and is unsure."""
    [block] = found_in(
        lambda i: ("radio/all", {"name": ("oak", "elm")[i % 2], "p": i, "ts": clock(i)})
    ).blocks
    assert block.words["device"] == "name"
    assert any("name" in said for said in block.unsure)


def test_what_a_dialect_asks_for_is_its_own() -> None:
    """What it leaves out below a level where it reads nothing stays with the dialect that was seen."""
    discovery = found_in(
        lambda i: ("N/c0619ab12345/battery/258/Soc", {"value": 60 + i}),
        lambda _: ("R/c0619ab12345/keepalive", b"[]"),
    )
    assert [block.words for block in discovery.blocks] == [{"dialect": "victron"}]
    assert not discovery.unexplained


def test_changes_that_are_told_at_once_and_differ() -> None:
    """Of two that speak of the same within a second each is stored, when they do not say it together."""
    things = "$aws/things/pump-1/shadow/update"
    heard = Heard()
    for i, (sent, taken) in enumerate([(21.5, 21.6), (21.6, 21.4), (21.4, 21.5)]):
        at = NOW + timedelta(milliseconds=300 * i)
        said = {"state": {"reported": {"t": taken}}, "version": i, "timestamp": int(at.timestamp())}
        heard.add(Sample(things, json.dumps({"state": {"reported": {"t": sent}}}).encode(), at))
        heard.add(Sample(f"{things}/accepted", json.dumps(said).encode(), at + timedelta(milliseconds=50)))
    assert [block.words for block in discover(heard, Settings()).blocks] == [{"dialect": "aws-shadow"}]


def test_a_day_is_no_time() -> None:
    """A column with the date alone is not when a message was sent: all of a day would be of one moment."""
    [block] = found_in(lambda i: ("lg/x", f"29.11.2026;21,5;44,{i}".encode())).blocks
    assert block.words["time"] == ""
    assert "timezone" not in block.words


def test_a_change_that_is_told_twice() -> None:
    """What a shadow says as it was sent and as it was taken is stored once; what says more is told."""
    state = {"reported": {"pressure": 4.5, "valve": {"open": True}}}
    things = "$aws/things/pump-1/shadow/update"
    discovery = found_in(
        lambda _: (things, {"state": state}),
        lambda i: (f"{things}/accepted", {"state": state, "version": 300 + i, "timestamp": clock(i)}),
        lambda i: (
            f"{things}/documents",
            {
                "current": {"state": {"reported": {**state["reported"], "mode": "eco"}}, "version": 300 + i},
                "timestamp": clock(i),
            },
        ),
    )
    assert [block.words for block in discovery.blocks] == [
        {"dialect": "aws-shadow/update", "ignore": True},
        {"dialect": "aws-shadow"},
    ]
    assert "update says the same as accepted" in discovery.blocks[0].unsure[0]
    assert "documents says what accepted says" in discovery.blocks[1].unsure[0]
    assert not discovery.unexplained


def test_a_gateway_at_home_takes_what_is_its_own() -> None:
    """Where others speak below its level too, only what was seen of the dialect is written."""
    sensor = {"id": "A4:C1:38:1A:2B:3C", "name": "ATC", "rssi": -71, "tempc": 21.4, "hum": 40.1}
    discovery = found_in(
        lambda i: ("home/OpenMQTTGateway/BTtoMQTT/A4C1381A2B3C", sensor | {"rssi": -70 - i}),
        lambda _: ("home/OpenMQTTGateway/log", b"started"),
        lambda i: ("home/kitchen/temp", f"2{i}.5".encode()),
        lambda i: ("home/cam", b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes([i])),
    )
    assert readings_of(discovery)["home/kitchen/temp"] == {"temp": 25.5}
    words = [block.words for block in discovery.blocks]
    assert {"topic": "home/OpenMQTTGateway/#", "ignore": True} in words
    assert {"dialect": "openmqttgateway"} not in words
    assert [each.topic for each in discovery.unexplained] == ["home/cam"]


def test_what_a_dialect_leaves_out_by_a_word_of_its_own() -> None:
    """What no one but the dialect sends below a word is left out with it, though nobody reads it."""
    discovery = found_in(
        lambda i: (
            "msh/EU_868/2/json/LongFast/!a1b2c3d4",
            {
                "channel": 0, "from": 2713908180, "id": 1190853519 + i, "to": 4294967295,
                "sender": "!a1b2c3d4", "timestamp": clock(i), "type": "telemetry",
                "payload": {"battery_level": 92, "voltage": 4.1},
            },
        ),
        lambda i: ("msh/US/2/e/LongFast/!a1b2c3d4", bytes([0x0A, 0x4F, i])),
        lambda i: ("msh/US/2/unheard/of", bytes([0x0A, 0x4F, i])),
    )  # fmt: skip
    assert [block.words for block in discovery.blocks] == [{"dialect": "meshtastic"}]
    assert not discovery.unexplained


def test_a_status_of_others_is_not_a_dialects() -> None:
    """A word about being online by a topic that many use is no dialect's without a device that it reads."""
    discovery = found_in(
        lambda i: ("greenhouse/sensor/temp/state", f"2{i}.5".encode()),
        lambda _: ("greenhouse/status", b"online"),
        lambda i: ("greenhouse/light/bench/state", {"state": "ON", "brightness": 100 + i}),
        lambda _: ("billing/status", b"running late"),
    )
    by_topic = {topic: block.words for block in discovery.blocks for topic in block.topics}
    assert by_topic["greenhouse/light/bench/state"]["dialect"].startswith("esphome")
    assert "dialect" not in by_topic["billing/status"]
    assert readings_of(discovery)["billing/status"] == {"status": "running late"}
    assert readings_of(discovery).get("greenhouse/status", {}).keys() <= {"online"}


def test_where_the_words_of_kinds_differ() -> None:
    """Topics alike but for the last level, whose messages have their time by other names, stay apart."""
    discovery = found_in(
        lambda i: (f"shop/till{i % 2}/a", {"t": clock(i), "v": i}),
        lambda i: (f"shop/till{i % 2}/b", {"sent": clock(i), "v": i}),
    )
    assert {(block.words["topic"], block.words["time"]) for block in discovery.blocks} == {
        ("shop/{device_id}/a", "t"),
        ("shop/{device_id}/b", "sent"),
    }


@pytest.mark.parametrize(
    ("topics", "template"),
    [
        (["arch/2026-11-29/logger7/x"], "arch/{date}/{device_id}/x"),
        (["arch/20261129/logger7/x"], "arch/{date}/{device_id}/x"),
        (["arch/2026/11/29/logger7/x"], "arch/{year}/{month}/{day}/{device_id}/x"),
        (["plant/2026/logger/x"], "plant/{device_id}/logger/x"),
    ],
)
def test_a_date_in_a_topic_is_another_one_tomorrow(topics: list[str], template: str) -> None:
    """A level that is a day varies, though all that was heard was of one; a number alone is none."""
    makers = [lambda i, topic=topic: (topic, {"t": i, "ts": clock(i)}) for topic in topics]
    [block] = found_in(*makers).blocks
    assert block.words["topic"] == template


def test_what_the_report_says() -> None:
    """People see what each route makes of a message, how old its time is, and what to look at."""
    discovery = found_in(
        lambda i: (f"site/d{i % 2}/up", {"ts": clock(i) - 30, "t": i}),
        lambda i: (f"raw/d{i % 2}/up", bytes([0xF1, 0x80, i, 0xFF])),
        lambda i: (f"bare/d{i % 2}/up", {"x": i}),
    )
    discovery.heard.retained = 3
    file = StringIO()
    Console(width=140, file=file).print(report.render(discovery, 60.0))
    said = file.getvalue()
    assert "18 messages (3 kept by the broker) by 6 topics in 60 s" in said
    assert "30.0s ago t=4" in said
    assert "    f1 80 0" in said
    assert "2 routes, 1 of them to be looked at, for what is unsure. --write FILE" in said


def test_what_programs_are_told() -> None:
    """`--json` counts all that was heard, and says of each route what is unsure."""
    discovery = found_in(lambda i: (f"bare/d{i % 2}/up", {"x": i} if i else b""))
    said = json.loads(report.encode(discovery, 1.0))
    counts = {"messages": 6, "retained": 0, "empty": 1, "not_looked_at": 0, "topics": 2, "beyond": 0}
    assert {name: said[name] for name in counts} == counts
    [route] = said["routes"]
    assert route["unsure"] == ["without key and time each delivery is stored, a repeated one too"]
    assert route["tried"][0]["at"] == "2026-11-29T12:00:40Z"


def test_messages_stay_out_of_a_configuration() -> None:
    """What devices sent is written beside the routes only when somebody asked for it."""
    discovery = found_in(lambda i: (f"a/d{i % 2}/up", {"secret": f"word {i}", "ts": clock(i)}))
    assert "word" not in report.configuration(discovery, Settings())
    assert "word 4" in report.configuration(discovery, Settings(), examples=True)


def test_what_nobody_reads_is_left_out_together() -> None:
    """Pictures below the level of each machine are one route, and the machines are read."""
    discovery = found_in(
        *(lambda i, d=d: (f"plant/m{d}/up", {"t": i, "ts": clock(i)}) for d in range(60)),
        *(lambda i, d=d: (f"plant/m{d}/log", f"{i}".encode()) for d in range(60)),
        *(lambda i, d=d: (f"plant/m{d}/jpg", b"\xff\xd8\xff" + bytes([d, i])) for d in range(60)),
        count=2,
    )
    left_out = [block.words["topic"] for block in discovery.blocks if block.words.get("ignore")]
    assert left_out == ["plant/+/jpg"]
    decoder = Decoder(routes_of(discovery.blocks)[0], Limits())
    for topic, payload in (("plant/m7/up", b'{"t": 1}'), ("plant/m7/log", b"1")):
        [reading] = decoder.decode(Sample(topic, payload, NOW), Received.of(NOW))
        assert isinstance(reading, Reading)
        assert reading.event.device_id == "m7"


@pytest.mark.parametrize("camera", ["a/cam/up", "a/b/cam/x", "b/cam", "ab/m1/pic"])
def test_a_filter_brings_others_along(camera: str) -> None:
    """What a filter with # brings and no route reads is no dead letter; that it brings all is said."""
    discovery = found_in(
        *(
            lambda i, site=site, d=d: (f"{site}/m{d}/up", {"t": i, "ts": clock(i)})
            for site in ("a", "aa", "ab")
            for d in (1, 2)
        ),
        lambda i: (camera, b"\xff\xd8\xff" + bytes([i])),
    )
    [left_out, route] = discovery.blocks
    assert left_out.words == {"topic": camera, "ignore": True}
    assert route.words["topic"] == "{device_id...}/up"
    assert any("subscribes #" in said for said in route.unsure)
    decoder = Decoder(routes_of(discovery.blocks)[0], Limits())
    assert decoder.decode(Sample(camera, b"\xff\xd8", NOW), Received.of(NOW)) == []


def test_an_agent_that_speaks_for_several_devices() -> None:
    """Names of channel, device and tag are of several devices, and the quality stays beside each value."""
    discovery = found_in(
        lambda i: (
            "iotgateway",
            {
                "timestamp": clock(i) * 1000,
                "values": [
                    {"id": f"Press.PLC{d}.{tag}", "v": 70 + i + d, "q": True, "t": clock(i) * 1000}
                    for d in (1, 2)
                    for tag in ("Temperature", "Force")
                ],
            },
        ),
    )
    [block] = discovery.blocks
    assert block.words["dialect"] == "kepware/agent"
    assert any("'Press.PLC1' and" in said for said in block.unsure)
    readings = {reading["device_id"]: reading["metrics"] for reading in block.tried[0].readings}
    assert readings == {
        f"Press.PLC{d}": {
            "Temperature": 75 + d, "Temperature.q": True, "Force": 75 + d, "Force.q": True,
        }
        for d in (1, 2)
    }  # fmt: skip
