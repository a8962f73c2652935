"""Dialects: each file does what it says, and a configuration gets what it names."""

from __future__ import annotations

import json
import tomllib
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.decode import Decoder, Limits, Reading, Received
from gateway.decode.dialects import complete_routes, names, read
from gateway.decode.examples import Message, as_object
from gateway.decode.examples import play as play_examples
from gateway.decode.routes import compile_routes, match
from gateway.dialects import page
from gateway.dialects.played import Part, Played, compiled, play
from gateway.explain.others import suggestion
from runtime.errors import ConfigurationError
from runtime.settings import Route, load

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
MADE_UP = ("auto:", "uuid:")


@cache
def parts(name: str) -> list[Part]:
    """What the examples of a dialect become."""
    return play(read(name), NOW)


def arrived(played: Played) -> str:
    """When an example's message came, as a reading says it."""
    moment = datetime.fromisoformat(played.example.at) if played.example.at else NOW
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def unsaid(expect: dict[str, Any], reading: dict[str, Any], arrival: str) -> list[str]:
    """Fields of a reading that its example does not say though there is something to be said."""
    found = []
    if "ts" not in expect and not reading["ts"].startswith(arrival[:19]):
        found.append("ts")
    if "key" not in expect and not reading["key"].startswith(MADE_UP):
        found.append("key")
    found += [name for name in ("region", "tags") if name not in expect and reading[name]]
    return found


@pytest.mark.parametrize("name", names())
def test_examples_become_what_their_file_says(name: str) -> None:
    """Each example is taken by its own route, among all of its dialect, and becomes what is expected."""
    routes = compiled(read(name))
    outcomes = play_examples(routes, Decoder(routes, Limits()), NOW)
    assert {outcome.topic: outcome.faults for outcome in outcomes if outcome.faults} == {}


@pytest.mark.parametrize("name", names())
def test_examples_say_all_of_a_reading(name: str) -> None:
    """Device and metrics are in each `expect`; a time, key, region or tag that it leaves out is not there."""
    for part in parts(name):
        for played in part.played:
            readings = [as_object(item) for item in played.found if isinstance(item, Reading)]
            assert len(readings) == len(played.example.expect)
            for expect, reading in zip(played.example.expect, readings, strict=True):
                assert {"device_id", "metrics"} <= expect.keys(), played.example.topic
                assert unsaid(expect, reading, arrived(played)) == [], played.example.topic


@pytest.mark.parametrize("name", names())
def test_a_file_is_whole(name: str) -> None:
    """It has a title, a text that fits a page, the addresses of its sources, and an example of each route."""
    dialect = read(name)
    assert dialect.title
    assert 40 < len(dialect.about) < 500
    assert dialect.source
    assert all(address.startswith("https://") for address in dialect.source)
    assert [part for part, words in dialect.routes.items() if not words.get("example")] == []


@pytest.mark.parametrize("name", names())
def test_examples_are_of_the_telemetry_they_stand_by(name: str) -> None:
    """A route that is not ignored has an example that becomes a reading, and one that is ignored has none."""
    for part in parts(name):
        became = [item for played in part.played for item in played.found]
        assert bool(became) is not part.ignored, part.name


@pytest.mark.parametrize("name", names())
def test_a_dialect_by_its_name_alone_is_a_configuration(name: str, tmp_path: Path) -> None:
    """`dialect = "…"` loads, is all routes of the file in their order, and compiles."""
    routes = loaded(tmp_path, f'[[route]]\ndialect = "{name}"\n')
    assert [route.dialect for route in routes] == [f"{name}/{part}" for part in read(name).routes]
    assert all(not route.example for route in routes)
    compile_routes(routes)


def loaded(folder: Path, text: str) -> tuple[Route, ...]:
    """The routes of a configuration."""
    file = folder / "edge.toml"
    file.write_text(text, encoding="utf-8")
    return load(file, {}, complete_routes).route


def test_a_part_is_one_route(tmp_path: Path) -> None:
    """`dialect = "tasmota/sensor"` is that route of it alone, where it stands among others."""
    before, sensor, after = loaded(
        tmp_path,
        '[[route]]\ntopic = "a/{device_id}"\n'
        '[[route]]\ndialect = "tasmota/sensor"\n'
        '[[route]]\ntopic = "b/{device_id}"\n',
    )
    assert (before.topic, sensor.topic, after.topic) == (
        "a/{device_id}",
        "tele/{device_id}/SENSOR",
        "b/{device_id}",
    )
    assert (sensor.dialect, sensor.time, sensor.clock) == ("tasmota/sensor", "Epoch | Time", "prefer")
    assert (before.dialect, after.dialect) == ("", "")


def test_a_prefix_may_name_the_device(tmp_path: Path) -> None:
    """Then the dialect's own topics do not, and a topic that is of no device has none in front."""
    routes = loaded(tmp_path, '[[route]]\ndialect = "tasmota"\nprefix = "site/{device_id}/"\n')
    topics = [route.topic for route in routes]
    assert topics[0] == "site/{device_id}/tele/SENSOR"
    assert topics[-1] == "site/tasmota/discovery/#"


@pytest.mark.parametrize(
    ("prefix", "topic", "device"),
    [
        ("", "tele/hall/plug/STATE", "hall/plug"),
        ("", "stat/hall/plug/POWER2", "hall/plug"),
        ("", "tele/hall/plug/SENSOR", "hall/plug"),
        ("site/{device_id}/", "site/plug/tele/STATE", "plug"),
        ("site/{device_id...}/", "site/hall/plug/tele/STATE", "hall/plug"),
        ("{device_id...}/", "hall/plug/stat/POWER2", "hall/plug"),
        ("{region...}/", "a/b/tele/plug/STATE", "plug"),
        ("{region...}/", "a/b/stat/plug/POWER2", "plug"),
        ("{region...}/{device_id}/", "a/b/plug/tele/SENSOR", "plug"),
    ],
)
def test_a_device_of_several_levels(prefix: str, topic: str, device: str, tmp_path: Path) -> None:
    """A dialect's device may have levels in its topic, also below a prefix where a template can tell them."""
    routes = compile_routes(loaded(tmp_path, f'[[route]]\ndialect = "tasmota"\nprefix = "{prefix}"\n'))
    found = match(routes, topic)
    assert (found.device_id, found.ignore) == (device, False)
    assert len({route.pattern.pattern for route in routes}) == len(routes)


def test_a_prefix_that_does_not_go_with_a_dialect_is_named(tmp_path: Path) -> None:
    """What is wrong is told of the prefix, which is what stands in the file."""
    with pytest.raises(ConfigurationError) as refused:
        loaded(tmp_path, '[[route]]\ndialect = "ignition"\nprefix = "a/{region}/"\n')
    assert str(refused.value) == (
        "route[0].prefix: of a topic of 'ignition' it makes 'a/{region}/spBv1.0/{region}/NDATA/{device_id}': "
        "{region} appears twice; name its levels otherwise"
    )


def test_a_prefix_goes_before_all_topics(tmp_path: Path) -> None:
    """Levels of a site, with names of their own, stand in front of each topic."""
    routes = loaded(tmp_path, '[[route]]\ndialect = "tasmota"\nprefix = "{region}/line-{line}/"\n')
    assert {route.topic.partition("/line-{line}/")[0] for route in routes} == {"{region}"}
    assert routes[0].topic == "{region}/line-{line}/tele/{device_id}/SENSOR"


def test_what_stands_beside_wins(tmp_path: Path) -> None:
    """A word beside the name replaces the dialect's, in every part of it."""
    routes = loaded(
        tmp_path, '[[route]]\ndialect = "tasmota"\ntimezone = "Europe/Berlin"\nclock = "received"\n'
    )
    assert {(route.timezone, route.clock) for route in routes} == {("Europe/Berlin", "received")}
    (route,) = loaded(tmp_path, '[[route]]\ndialect = "tasmota/sensor"\ntopic = "x/{device_id}"\n')
    assert route.topic == "x/{device_id}"


@pytest.mark.parametrize(
    ("before", "topic", "part"),
    [
        ("", "homeassistant/sensor/outdoor/state", "home-assistant-statestream/state"),
        ("", "shellies/shellydw2-1A2B40/sensor/state", "shelly-gen1/value"),
        ("", "kitchen/sensor/outdoor/state", "esphome/state"),
        ("", "shellyplus1-1a/status/switch:0", "shelly-gen2/status"),
        ("$share/edge/", "homeassistant/sensor/outdoor/state", "home-assistant-statestream/state"),
    ],
)
def test_what_begins_with_any_device_is_tried_last(
    before: str, topic: str, part: str, tmp_path: Path
) -> None:
    """Of dialects in any order the one with a level of its own has its topics, however wide another is."""
    dialects = ["esphome", "shelly-gen2", "home-assistant-statestream", "shelly-gen1"]
    for order in (dialects, dialects[::-1]):
        text = "".join(f'[[route]]\ndialect = "{name}"\nprefix = "{before}"\n' for name in order)
        routes = compile_routes(loaded(tmp_path, text))
        assert match(routes, topic).route.dialect == part
        assert {route.route.where(at) for at, route in enumerate(routes)} == {f"route[{n}]" for n in range(4)}


def test_a_route_of_a_site_stays_between_dialects(tmp_path: Path) -> None:
    """What stands in front of it is tried before it, and what comes behind it after it."""
    own = '[[route]]\ntopic = "hall/sensor/{device_id}/state"\n'
    esphome, other = ('[[route]]\ndialect = "esphome"\n', '[[route]]\ndialect = "shelly-gen1"\n')
    orders = (esphome + other + own, own + esphome + other, other + own + esphome)
    found = [match(compile_routes(loaded(tmp_path, text)), "hall/sensor/a/state") for text in orders]
    assert [each.route.dialect for each in found] == ["esphome/state", "", ""]


LINE = "weather,host=edge-7,site=hall,region=north temp=21.5,seq=5i 1795424400000000000"
PACK = '[{"bn":"node-9","bt":1795424400,"n":"temp","v":21.5}]'


@pytest.mark.parametrize(
    ("words", "payload", "expected"),
    [
        ('format = "influx"', LINE, ("edge-7", "north", {"site": "hall"}, {"weather.temp", "weather.seq"})),
        (
            'format = "influx"\ndevice = "host"\nregion = "site"',
            LINE,
            ("edge-7", "hall", {"region": "north"}, {"weather.temp", "weather.seq"}),
        ),
        (
            'format = "influx"\ndevice = "node | tags.host"\nkey = "seq"',
            LINE,
            ("edge-7", "north", {"site": "hall"}, {"weather.temp"}),
        ),
        (
            'format = "influx"\ndevice = "host"\nregion = ""\nmetrics = "fields"',
            LINE,
            ("edge-7", None, {"site": "hall", "region": "north"}, {"temp", "seq"}),
        ),
        (
            'format = "influx"\ntopic = "x/{device_id}"',
            LINE,
            ("d", "north", {"host": "edge-7", "site": "hall"}, {"weather.temp", "weather.seq"}),
        ),
        ('format = "senml"', PACK, ("node-9", None, {"bn": "node-9"}, {"temp"})),
        ('format = "senml"\ntopic = "x/{device_id}"', PACK, ("d", None, {"bn": "node-9"}, {"temp"})),
    ],
)
def test_a_format_says_where_its_device_is(
    words: str, payload: str, expected: tuple[str, str | None, dict[str, str], set[str]], tmp_path: Path
) -> None:
    """Device and region are found where the format has them, a tag or a base name; a topic counts more."""
    topic = "" if "topic" in words else 'topic = "x/+"\n'
    routes = compile_routes(loaded(tmp_path, f"[[route]]\n{topic}{words}\n"))
    (found,) = Decoder(routes, Limits()).decode(Message("x/d", payload.encode()), Received.of(NOW))
    assert isinstance(found, Reading)
    reading = as_object(found)
    assert (reading["device_id"], reading["region"], reading["tags"], reading["metrics"].keys()) == expected
    assert ("seq" in words) == (reading["key"] == "5")


@pytest.mark.parametrize(
    ("dialect", "topic", "part"),
    [
        ("tasmota", "tele/{device_id}/SENSOR", "sensor"),
        ("tasmota", "site/{region}/tele/{device_id}/STATE", "state"),
        ("zigbee2mqtt", "z2m/{device_id}", "device"),
        ("zigbee2mqtt", "zigbee2mqtt/{device_id}/availability", "availability"),
        ("chirpstack-v4", "application/+/device/{device_id}/event/up", "up"),
        ("ttn", "v3/{application}/devices/{device_id}/up", "up"),
        ("shelly-gen1", "shellies/{device_id}/relay/{metric...}", "value"),
        ("shelly-gen2", "{device_id}/events/rpc", "notify"),
        ("homie", "homie/{device_id}/{node}/{metric}", "property"),
        ("openmqttgateway", "omg/{gateway}/BTtoMQTT/{device_id}", "bluetooth"),
        ("aws-shadow", "$aws/things/{device_id}/shadow/update/accepted", "accepted"),
        ("azure-iot", "devices/{device_id}/messages/events/#", "events"),
        ("ignition", "spBv1.0/{region}/DDATA/{node}/{device_id}", "device-data"),
        ("victron", "N/{device_id}/{metric...}", "value"),
        ("influx", "metrics/+", "lines"),
        ("kepware", "kep/{device_id}", "device"),
    ],
)
def test_a_topic_says_which_part_is_meant(dialect: str, topic: str, part: str, tmp_path: Path) -> None:
    """A topic beside a dialect stands for the part whose topics are like it, with names of a site's own."""
    (route,) = loaded(tmp_path, f'[[route]]\ndialect = "{dialect}"\ntopic = "{topic}"\n')
    assert (route.dialect, route.topic) == (f"{dialect}/{part}", topic)
    compile_routes([route])


@pytest.mark.parametrize(
    "topic",
    ["application/+/device/+/event/up", "lora/{device_id}", "application/{a}/device/{device_id}/rx/x"],
)
def test_a_topic_that_is_for_no_part(topic: str, tmp_path: Path) -> None:
    """One that is like none of them, or without the device where the part has it, is refused."""
    with pytest.raises(ConfigurationError, match="has 6 topics"):
        loaded(tmp_path, f'[[route]]\ndialect = "chirpstack-v4"\ntopic = "{topic}"\n')


def test_tables_beside_are_added(tmp_path: Path) -> None:
    """Of `states` and `rename` those names are replaced that stand beside, and the others stay."""
    (route,) = loaded(tmp_path, '[[route]]\ndialect = "tasmota/sensor"\nstates = { OFF = -1, TOGGLE = 2 }\n')
    assert route.states == {"ON": 1, "OFF": -1, "TOGGLE": 2}
    (route,) = loaded(tmp_path, '[[route]]\ndialect = "meshtastic/packet"\nrename = { snr = "noise" }\n')
    assert route.rename == {"payload.*": "*", "snr": "noise"}


def test_examples_beside_are_the_configurations_own(tmp_path: Path) -> None:
    """The file's examples do not come along; those that stand beside stay."""
    (route,) = loaded(
        tmp_path,
        '[[route]]\ndialect = "tasmota/sensor"\n[[route.example]]\ntopic = "tele/a/SENSOR"\npayload = "{}"\n',
    )
    assert [example.topic for example in route.example] == ["tele/a/SENSOR"]


@pytest.mark.parametrize(
    ("called", "name"),
    [
        ("rtl_433", "rtl-433"),
        ("rtl_433/event", "rtl-433/event"),
        ("shelly_gen2", "shelly-gen2"),
        ("ignition/sparkplug", "ignition"),
        ("sparkplug", "ignition"),
        ("sparkplug/node-data", "ignition/node-data"),
        ("chirpstack", "chirpstack-v4"),
        ("chirpstack/v3", "chirpstack-v3"),
        ("chirpstack/up", "chirpstack-v4/up"),
        ("ttn-v3", "ttn"),
        ("theengs", "openmqttgateway"),
        ("umh", "united-manufacturing-hub"),
    ],
)
def test_dialects_by_what_people_call_them(called: str, name: str, tmp_path: Path) -> None:
    """Another name of a dialect is the dialect, and so is one with `_` for `-`; routes say its own."""
    text = '[[route]]\ndialect = "{}"\n'
    assert loaded(tmp_path, text.format(called)) == loaded(tmp_path, text.format(name))


@pytest.mark.parametrize(
    ("dialect", "topic", "part"),
    [
        ("influx", "x/{device_id}", "telegraf"),
        ("influx", "lines/#", "lines"),
        ("senml", "{region}/{device_id}/up", "device"),
        ("senml", "packs", "pack"),
        ("kepware", "plant/{device_id}", "device"),
        ("milesight", "up/{device_id}", "application"),
        ("milesight", "up/#", "uplink"),
        ("telegraf-json", "t/{device_id}/{metric...}", "field"),
        ("thingsboard-device", "{device_id}/v1/devices/me/telemetry", "telemetry"),
        ("shelly-gen2", "home/{device_id}/events/rpc", "notify"),
        ("shelly-gen2", "home/{device_id}/status/{metric}", "status"),
    ],
)
def test_a_topic_beside_is_for_the_part_that_it_fits(
    dialect: str, topic: str, part: str, tmp_path: Path
) -> None:
    """A site's own topic takes the part that is told as much by its topic, where there is one only."""
    (route,) = loaded(tmp_path, f'[[route]]\ndialect = "{dialect}"\ntopic = "{topic}"\n')
    assert (route.dialect, route.topic) == (f"{dialect}/{part}", topic)


@pytest.mark.parametrize(
    ("words", "payload", "expected"),
    [
        pytest.param(
            'format = "senml"',
            '[{"bn":"urn:dev:ow:1:","bt":1795424400,"bu":"A","n":"voltage","u":"V","v":120.5},'
            '{"n":"current","t":-5,"v":1.5}]',
            [
                (
                    "2026-11-23T09:00:00.000000Z",
                    {"bn": "urn:dev:ow:1:"},
                    {"voltage": 120.5, "voltage.unit": "V"},
                ),
                (
                    "2026-11-23T08:59:55.000000Z",
                    {"bn": "urn:dev:ow:1:"},
                    {"current": 1.5, "current.unit": "A"},
                ),
            ],
            id="senml",
        ),
        pytest.param(
            'format = "senml"\nignore = ["*.unit"]\nrename = { "*.u" = "*.unit", voltage = "volts" }',
            '[{"n":"voltage","u":"V","v":120.5,"t":1795424400}]',
            [("2026-11-23T09:00:00.000000Z", {}, {"volts": 120.5, "voltage.unit": "V"})],
            id="senml-and-more-words",
        ),
        pytest.param(
            'format = "senml"\nname = ""',
            '[{"n":"voltage","u":"V","v":120.5,"t":1795424400}]',
            [
                (
                    "2026-11-23T09:00:00.000000Z",
                    {},
                    {"n": "voltage", "name": "voltage", "u": "V", "v": 120.5},
                )
            ],
            id="senml-as-it-stands",
        ),
        pytest.param(
            'format = "senml"\neach = ""\nmetrics = ""\ntime = "ts | timestamp | time"\nignore = false',
            '[{"n":"voltage","v":120.5,"t":1795424400}]',
            [("2026-11-23T09:00:00.000000Z", {}, {"voltage": 120.5})],
            id="senml-and-what-stands-there-without-a-word",
        ),
        pytest.param(
            'format = "influx"',
            "cpu,core=0 idle=97.5,procs=3i 1795424400000000000\nmem,core=0 used=61.5 1795424400000000000",
            [
                (
                    "2026-11-23T09:00:00.000000Z",
                    {"core": "0"},
                    {"cpu.idle": 97.5, "cpu.procs": 3, "mem.used": 61.5},
                )
            ],
            id="influx",
        ),
        pytest.param(
            'format = "influx"\ntime_format = "s"',
            "cpu idle=97.5 1795424400",
            [("2026-11-23T09:00:00.000000Z", {}, {"cpu.idle": 97.5})],
            id="influx-in-seconds",
        ),
        pytest.param(
            'dialect = "influx/device"\ntopic = "x/{device_id}"\ntime_format = "ms"',
            "cpu idle=97.5 1795424400250",
            [("2026-11-23T09:00:00.250000Z", {}, {"cpu.idle": 97.5})],
            id="influx-dialect-in-milliseconds",
        ),
        pytest.param(
            'format = "influx"\nmetrics = "fields"',
            "cpu,core=0 idle=97.5 1795424400",
            [("2026-11-23T09:00:00.000000Z", {"core": "0"}, {"idle": 97.5})],
            id="influx-in-its-own-way",
        ),
        pytest.param(
            'format = "senml"\nname = "name"\nvalue = "v"\nignore = ["*.n"]',
            '[{"bn":"d1:","n":"voltage","u":"V","v":120.5,"t":1795424400}]',
            [("2026-11-23T09:00:00.000000Z", {"bn": "d1:"}, {"d1:voltage": 120.5, "d1:voltage.unit": "V"})],
            id="senml-by-the-whole-name",
        ),
        pytest.param(
            'format = "sparkplug"\neach = "metrics"\nname = "name"\nvalue = "value"\nignore = ["Recipe"]',
            bytes.fromhex(
                "08d0f488bda03412190a0b4d6f746f722f537065656418dcf088bda034200350c30b12150a084d6f746f722f4f6e18"
                "dcf088bda034200b700112150a0652656369706518d0f488bda034200c7a0242371803"
            ),
            [
                ("2026-11-23T09:00:01.500000Z", {}, {"Motor/Speed": 1475, "Motor/On": True}),
                ("2026-11-23T09:00:02.000000Z", {}, {}),
            ],
            id="sparkplug",
        ),
    ],
)
def test_a_format_says_what_its_messages_mean(
    words: str,
    payload: str | bytes,
    expected: list[tuple[str, dict[str, str], dict[str, object]]],
    tmp_path: Path,
) -> None:
    """Of a format that has names, values and times of its own a route needs no word but the format."""
    topic = "" if "topic" in words else 'topic = "x/{device_id}"\n'
    routes = compile_routes(loaded(tmp_path, f"[[route]]\n{topic}{words}\n"))
    given = payload.encode() if isinstance(payload, str) else payload
    found = Decoder(routes, Limits()).decode(Message("x/d", given), Received.of(NOW))
    readings = [as_object(item) for item in found if isinstance(item, Reading)]
    assert [(each["ts"], each["tags"], each["metrics"]) for each in readings] == expected


def test_the_environment_has_dialects_too() -> None:
    """`EDGE_ROUTE` may name one."""
    routes = load(None, {"EDGE_ROUTE": '[{"dialect": "victron"}]'}, complete_routes).route
    assert routes[-1].dialect == "victron/value"


@pytest.mark.parametrize(
    ("route", "said"),
    [
        ('dialect = "tasmot"', "route[0].dialect: there is no 'tasmot'; did you mean 'tasmota'?"),
        (
            'dialect = "xyzzy"',
            "route[0].dialect: there is no 'xyzzy'; `gateway dialects` lists those that there are",
        ),
        (
            'dialect = "tasmota/sensr"',
            "route[0].dialect: 'tasmota' has no part 'sensr'; did you mean 'sensor'?",
        ),
        (
            'dialect = "ruuvi-gateway/q"',
            "route[0].dialect: 'ruuvi-gateway' has no part 'q'; it has status, sensor",
        ),
        ('dialect = "Tasmota"', "route[0].dialect: "),
        ('dialect = "tasmota/"', "route[0].dialect: "),
        ('dialect = "../tasmota"', "route[0].dialect: "),
        ("dialect = 7", "route[0].dialect: "),
        ('dialect = "victron"\ntopic = "x/{device_id}"', "route[0].topic: 'victron' has 4 topics; "),
        ('dialect = "tasmota"\ntopic = "x/{device_id}"', "route[0].topic: 'tasmota' has "),
        ('dialect = "senml"\ntopic = 7', "route[0].topic: "),
        ('dialect = "victron"\nprefix = "site"', "route[0].prefix: "),
        ('dialect = "victron"\nprefix = "#/"', "route[0].prefix: "),
        ('dialect = "victron"\nprefix = 7', "route[0].prefix: "),
        (
            'dialect = "tasmota/sensor"\nprefix = "site/"\ntopic = "x/{device_id}"',
            "route[0].prefix: goes before a topic of the dialect, and topic says it all",
        ),
        ('prefix = "site/"', "route[0].prefix: goes before the topics of a dialect; none is named"),
        ('dialect = "victron"\nclock = "mine"', "route[0].clock: "),
        ('format = "senml"\neach = ["x"]', "route[0].each: "),
        ('format = "influx"\ntime_format = ["s"]', "route[0].time_format: "),
        ('format = "influx"\ntime_format = "s"\ninflux = "s"', "route[0].influx: "),
    ],
)
def test_what_cannot_be_is_refused(route: str, said: str, tmp_path: Path) -> None:
    """An error names the place, as the file has it, and what may have been meant."""
    with pytest.raises(ConfigurationError) as refused:
        loaded(tmp_path, f"[[route]]\n{route}\n")
    assert str(refused.value).startswith(said)


def test_places_in_errors_are_those_of_the_file(tmp_path: Path) -> None:
    """A dialect of many routes does not move the numbers of what stands behind it."""
    with pytest.raises(ConfigurationError, match=r"^route\[1\]\.formt: "):
        loaded(tmp_path, '[[route]]\ndialect = "tasmota"\n[[route]]\nformt = "json"\n')


def test_a_whole_dialect_is_shared_among_gateways(tmp_path: Path) -> None:
    """A shared subscription is a prefix."""
    routes = compile_routes(
        loaded(tmp_path, '[[route]]\ndialect = "ruuvi-gateway"\nprefix = "$share/edge/"\n')
    )
    assert [route.topic_filter for route in routes] == [
        "$share/edge/ruuvi/+/gw_status",
        "$share/edge/ruuvi/+/+",
    ]


def test_texts_that_are_no_states_stay_texts(tmp_path: Path) -> None:
    """ON and OFF become numbers where a dialect says so, and nothing else does."""
    routes = compile_routes(loaded(tmp_path, '[[route]]\ndialect = "zigbee2mqtt/device"\n'))
    played = {
        state: zigbee_state(Decoder(routes, Limits()), state)
        for state in ("ON", "OFF", "OPEN", "on", "ON ", "")
    }
    assert played == {"ON": 1, "OFF": 0, "OPEN": "OPEN", "on": "on", "ON ": "ON ", "": ""}
    assert type(played["ON"]) is int  # as the file has it


def zigbee_state(decoder: Decoder, state: str) -> object:
    """What becomes of a state."""
    payload = json.dumps({"state": state}).encode()
    (reading,) = decoder.decode(Message("zigbee2mqtt/lamp", payload), Received.of(NOW))
    assert isinstance(reading, Reading)
    return as_object(reading)["metrics"]["state"]


def test_the_command_lists() -> None:
    """`gateway dialects` has a line each with name, title and topic; `--json` the same for programs."""
    result = CliRunner().invoke(main, ["dialects"])
    assert result.exit_code == 0
    lines = {line.split()[0]: line for line in result.output.splitlines()}
    assert list(lines) == names()
    assert "Victron, Venus OS" in lines["victron"]
    assert "N/{device_id}/{metric...}" in lines["victron"]
    told = json.loads(CliRunner().invoke(main, ["dialects", "--json"]).output)
    assert [each["name"] for each in told] == names()
    assert told[0].keys() == {"name", "title", "about", "source", "parts"}


@pytest.mark.parametrize("name", [*names(), "tasmota/sensor"])
def test_what_the_command_shows_can_be_pasted(name: str) -> None:
    """Its text is TOML with the routes of the dialect; examples are comments."""
    result = CliRunner().invoke(main, ["dialects", name])
    assert result.exit_code == 0
    dialect, _, part = name.partition("/")
    routes = read(dialect).routes
    wanted = [routes[part]] if part else list(routes.values())
    assert tomllib.loads(result.output)["route"] == [
        {word: value for word, value in route.items() if word != "example"} for route in wanted
    ]


def test_the_command_shows_what_examples_become() -> None:
    """The readings stand below each example, and `--json` has them as values."""
    shown = CliRunner().invoke(main, ["dialects", "victron/value"]).output
    assert '#   → {"device_id":"c0619ab1a2b3","ts":"2026-11-23T09:00:12.000000Z"' in shown
    told = json.loads(CliRunner().invoke(main, ["dialects", "victron/value", "--json"]).output)
    (part,) = told["parts"]
    assert part["examples"][0]["readings"][0]["metrics"] == {"battery/256/Dc/0/Voltage": 26.41}


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        ("tele/plug/SENSOR", ['dialect = "tasmota"']),
        ("site/north/tele/plug/SENSOR", ['dialect = "tasmota"', 'prefix = "site/north/"']),
        ("application/1/device/a8/event/up", ['"chirpstack-v3" or dialect = "chirpstack-v4"']),
        ("shellyplus1-1a/events/rpc", ['dialect = "shelly-gen2"']),
        ("plant/press", []),
        ("", []),
    ],
)
def test_a_topic_of_no_route_leads_to_a_dialect(topic: str, words: list[str]) -> None:
    """Where dialects read such topics, `gateway decode` says what to write."""
    said = suggestion(topic)
    assert bool(said) is bool(words)
    assert [each for each in words if each not in said] == []
    result = CliRunner().invoke(main, ["decode", topic or "a", "-"], input="{}", env={"COLUMNS": "500"})
    assert (said in result.stdout, result.exit_code) == (True, 1)


def test_the_command_says_what_may_have_been_meant() -> None:
    """A name that there is not is wrong usage, with the one that is close."""
    result = CliRunner().invoke(main, ["dialects", "shelly-gen5"])
    assert result.exit_code == 2
    assert "did you mean 'shelly-gen" in result.stderr


def test_the_page_is_up_to_date() -> None:
    """docs/dialects.md is what `make dialects` writes."""
    written = (Path(__file__).parents[2] / page.PAGE).read_text(encoding="utf-8")
    assert written == page.page(), "run `make dialects`"
