"""Layouts of sites that are of no dialect, and what becomes of the last message by some of their topics.

Each speaks in rounds, ten seconds apart. What a message becomes is written out by hand; `unsure` is what has
to be said about its routes, and `unexplained` the topics that no route may read. Each has a first level of
its own, so that all of them may share a broker.
"""

from __future__ import annotations

import base64
import gzip
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from gateway.decode import Decoder, Reading, Received
from gateway.decode.dialects import complete_routes
from runtime.settings import load

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from gateway.discover.heard import Sample
    from runtime.settings import Settings

ROUNDS: Final = 8
LAST: Final = ROUNDS - 1
SPACING: Final = timedelta(seconds=10)
DELAY: Final = timedelta(milliseconds=250)
"""After which what is sent in a round arrives."""


class Becomes(NamedTuple):
    """A reading.

    Attributes:
        ts: seconds after the round began; None is arrival.
        key: None is none.
    """

    device: str
    metrics: dict[str, Any]
    ts: float | None = None
    key: str | None = None
    region: str | None = None
    tags: dict[str, str] = {}  # noqa: RUF012  # nobody changes it


class Layout(NamedTuple):
    """What a site sends.

    Attributes:
        says: the messages of a round, given its number and when it is.
        becomes: by topic, the readings of the message of the last round.
        unsure: words that what is said about the routes of these topics has in it.
        unexplained: topics, and a word of why.
        retained: whether the broker had kept the messages.
    """

    name: str
    says: Callable[[int, datetime], Sequence[tuple[str, Any]]]
    becomes: dict[str, list[Becomes]]
    unsure: tuple[str, ...] = ()
    unexplained: dict[str, str] = {}  # noqa: RUF012  # likewise
    retained: bool = False


def iso(at: datetime, form: str = "%Y-%m-%dT%H:%M:%SZ", hours: float = 0) -> str:
    """A time as a text, in a zone that is so many hours ahead."""
    return (at + timedelta(hours=hours)).strftime(form)


def epoch(at: datetime, per_second: int = 1) -> int:
    """Counted since 1970."""
    return int(at.timestamp()) * per_second


def raw(payload: Any) -> bytes:  # noqa: ANN401  # a message is any value
    """As it is sent: JSON, unless it is bytes already."""
    return payload if isinstance(payload, bytes) else json.dumps(payload, ensure_ascii=False).encode()


LAYOUTS: Final = [
    Layout(
        "one topic a metric",
        lambda i, _: [
            (f"works/hall1/press{d}/{metric}", f"{base + i}.5".encode())
            for d in (1, 2)
            for metric, base in (("temperature", 20), ("pressure", 100))
        ],
        {
            "works/hall1/press1/temperature": [Becomes("press1", {"temperature": 27.5})],
            "works/hall1/press2/pressure": [Becomes("press2", {"pressure": 107.5})],
        },
    ),
    Layout(
        "nested readings",
        lambda i, at: [
            (
                f"farm/st{d}/data",
                {"meta": {"fw": "1.2"}, "air": {"t": 20 + i, "h": 40}, "soil": {"m": 0.5}, "time": iso(at)},
            )
            for d in (1, 2, 3)
        ],
        {
            "farm/st2/data": [
                Becomes("st2", {"meta.fw": "1.2", "air.t": 27, "air.h": 40, "soil.m": 0.5}, ts=0)
            ]
        },
    ),
    Layout(
        "an array with times",
        lambda i, at: [
            (
                f"batch/gw{d}/up",
                {"samples": [{"at": epoch(at) - 5, "t": 20 + i}, {"at": epoch(at), "t": 21 + i}]},
            )
            for d in (1, 2)
        ],
        {"batch/gw1/up": [Becomes("gw1", {"t": 27}, ts=-5), Becomes("gw1", {"t": 28}, ts=0)]},
    ),
    Layout(
        "an array without times",
        lambda i, _: [(f"scan/rig{d}/out", {"values": [1.5 + i, 2.5, 3.5]}) for d in (1, 2)],
        {"scan/rig1/out": [Becomes("rig1", {"values.0": 8.5, "values.1": 2.5, "values.2": 3.5})]},
        unsure=("without key and time",),
    ),
    Layout(
        "CSV with semicolons, decimal commas, and date and time apart",
        lambda i, at: [
            (f"csva/l{d}/row", f"{iso(at, '%d.%m.%Y;%H:%M:%S')};2{i},5;44,0".encode()) for d in (1, 2)
        ],
        {"csva/l1/row": [Becomes("l1", {"column3": 27.5, "column4": 44.0}, ts=0)]},
        unsure=("column1 and column2",),
    ),
    Layout(
        "CSV with a header, and date and time apart, the day first",
        lambda i, at: [
            (f"csvb/l{d}/row", f"Date;Time;Temp\n{iso(at, '%d/%m/%Y;%H:%M:%S')};2{i},5\n".encode())
            for d in (1, 2)
        ],
        {"csvb/l1/row": [Becomes("l1", {"Temp": 27.5}, ts=0)]},
        unsure=("Date and Time",),
    ),
    Layout(
        "CSV with counts since 1970",
        lambda i, at: [(f"csvc/l{d}/row", f"{epoch(at)},2{i}.5,44".encode()) for d in (1, 2)],
        {"csvc/l1/row": [Becomes("l1", {"column2": 27.5, "column3": 44}, ts=0)]},
        unsure=("columns have no names",),
    ),
    Layout(
        "date and time apart in JSON",
        lambda i, at: [
            (f"apart/apart-{d}/x", {"date": iso(at, "%Y-%m-%d"), "time": iso(at, "%H:%M:%S"), "t": i})
            for d in (1, 2)
        ],
        {"apart/apart-1/x": [Becomes("apart-1", {"t": 7}, ts=0)]},
        unsure=("date and time",),
    ),
    Layout(
        "names and values with equals signs",
        lambda i, _: [(f"pairs/pairs-{d}/x", f"temp=2{i}.5;hum=40".encode()) for d in (1, 2)],
        {},
        unexplained={"pairs/pairs-1/x": "names and values"},
    ),
    Layout(
        "XML",
        lambda i, _: [
            (f"xml/xml-{d}/x", f'<?xml version="1.0"?><m><t>2{i}</t></m>'.encode()) for d in (1, 2)
        ],
        {},
        unexplained={"xml/xml-1/x": "XML"},
    ),
    Layout(
        "hex in JSON",
        lambda i, at: [
            (f"hexin/n{d}/up", {"port": 2, "raw": f"0a1b2c3d4e5f{i:02x}", "ts": epoch(at)}) for d in (1, 2)
        ],
        {"hexin/n1/up": [Becomes("n1", {"port": 2, "raw": "0a1b2c3d4e5f07"}, ts=0)]},
        unsure=("raw",),
    ),
    Layout(
        "base64 in JSON",
        lambda i, at: [
            (
                f"basein/n{d}/up",
                {"payload": base64.b64encode(bytes([9, 200, i, 0, 1, 255, 77, 3])).decode(), "ts": epoch(at)},
            )
            for d in (1, 2)
        ],
        {
            "basein/n1/up": [
                Becomes(
                    "n1",
                    {"payload": base64.b64encode(bytes([9, 200, 7, 0, 1, 255, 77, 3])).decode()},
                    ts=0,
                )
            ]
        },
        unsure=("payload",),
    ),
    Layout(
        "fixed layouts",
        lambda i, _: [(f"lora/raw/node{d}", bytes([0xF1, 0x80, i, 0xFF, 0x02, 0x9A])) for d in (1, 2)],
        {},
        unexplained={"lora/raw/node1": "bytes"},
    ),
    Layout(
        "several shapes below one level",
        lambda i, at: [
            message
            for d in (1, 2)
            for message in (
                (f"mixed/a{d}/status", b"online"),
                (f"mixed/a{d}/temp", f"2{i}.5".encode()),
                (f"mixed/a{d}/info", {"uptime": 1000 + i, "ts": epoch(at)}),
            )
        ],
        {
            "mixed/a1/status": [Becomes("a1", {"online": True})],
            "mixed/a1/temp": [Becomes("a1", {"temp": 27.5})],
            "mixed/a2/info": [Becomes("a2", {"uptime": 1007}, ts=0)],
        },
    ),
    Layout(
        "the device in the payload only",
        lambda i, at: [("bus/all", {"device": f"pump-{d}", "p": i + d, "ts": iso(at)}) for d in (1, 2, 3)],
        {"bus/all": [Becomes("pump-3", {"p": 10}, ts=0)]},
    ),
    Layout(
        "a date in the topic",
        lambda i, at: [(f"arch/{at:%Y-%m-%d}/dev-{d}/x", {"t": i, "ts": epoch(at)}) for d in (1, 2)],
        {
            f"arch/{date}/dev-1/x": [Becomes("dev-1", {"t": 7}, ts=0, tags={"date": date})]
            for date in ("2026-11-29",)
        },
    ),
    Layout(
        "configurations that were kept",
        lambda i, _: [(f"conf/dev{d}/config", {"interval": 60, "mode": "eco"}) for d in (1, 2) if not i],
        {"conf/dev1/config": [Becomes("dev1", {"interval": 60, "mode": "eco"})]},
        unsure=("kept",),
        retained=True,
    ),
    Layout(
        "two sites alike, with other names",
        lambda i, at: [
            (f"corp/{site}/{machine}/state", {"rpm": 900 + i, "ts": epoch(at)})
            for site, machine in (("ulm", "m1"), ("ulm", "m2"), ("trier", "m3"), ("trier", "m4"))
        ],
        {"corp/trier/m3/state": [Becomes("m3", {"rpm": 907}, ts=0, region="trier")]},
        unsure=("region",),
    ),
    Layout(
        "two sites alike, with the same names",
        lambda i, at: [
            (f"{site}/machine/m{d}/state", {"rpm": 900 + i, "ts": epoch(at)})
            for site in ("north7", "south7")
            for d in (1, 2, 3)
        ],
        {"north7/machine/m1/state": [Becomes("north7/machine/m1", {"rpm": 907}, ts=0)]},
        unsure=("several",),
    ),
    Layout(
        "names with blanks and umlauts",
        lambda i, _: [
            (f"büro/{name}/temp", f"2{i}.5".encode()) for name in ("Gerät 1", "Gerät 2", "Küche groß")
        ],
        {"büro/Gerät 1/temp": [Becomes("Gerät 1", {"temp": 27.5})]},
    ),
    Layout(
        "a counter that begins anew",
        lambda i, _: [(f"wrap/wr{d}/up", {"seq": (252 + i) % 256, "t": 20 + i}) for d in (1, 2)],
        {"wrap/wr1/up": [Becomes("wr1", {"seq": 3, "t": 27})]},
        unsure=("seq counts and begins anew",),
    ),
    Layout(
        "a counter without a time",
        lambda i, _: [(f"count/n{d}/up", {"seq": 400 + i, "t": 20 + i}) for d in (1, 2)],
        {"count/n1/up": [Becomes("n1", {"t": 27}, key="407")]},
        unsure=("seq",),
    ),
    Layout(
        "a counter that begins anew, and a time",
        lambda i, at: [
            (f"wrapt/n{d}/up", {"fcnt": (252 + i) % 256, "t": 20 + i, "ts": iso(at)}) for d in (1, 2)
        ],
        {"wrapt/n1/up": [Becomes("n1", {"t": 27}, ts=0, key="3")]},
    ),
    Layout(
        "seconds, milliseconds and microseconds",
        lambda i, at: [
            message
            for d in (1, 2)
            for message in (
                (f"epoch/epoch-{d}/s", {"t": epoch(at), "v": i}),
                (f"epoch/epoch-{d}/ms", {"time": epoch(at, 1000), "v": i}),
                (f"epoch/epoch-{d}/us", {"stamp_us": epoch(at, 10**6), "v": i}),
            )
        ],
        {
            "epoch/epoch-1/s": [Becomes("epoch-1", {"v": 7}, ts=0)],
            "epoch/epoch-1/ms": [Becomes("epoch-1", {"v": 7}, ts=0)],
            "epoch/epoch-2/us": [Becomes("epoch-2", {"v": 7}, ts=0)],
        },
    ),
    Layout(
        "on and off",
        lambda i, _: [(f"relays/r{d}/out", b"on" if i % 2 else b"off") for d in (1, 2)],
        {"relays/r1/out": [Becomes("r1", {"out": 1})]},
    ),
    Layout(
        "texts that say there is no number",
        lambda i, at: [
            (f"nans/nans-{d}/x", {"t": "NaN" if i == 3 else f"2{i}.5", "ts": epoch(at)}) for d in (1, 2)
        ],
        {"nans/nans-1/x": [Becomes("nans-1", {"t": 27.5}, ts=0)]},
        unsure=("NaN",),
    ),
    Layout(
        "payloads that are no number now and then",
        lambda i, _: [(f"nanp/np{d}/temp", b"nan" if i == 3 else f"2{i}.5".encode()) for d in (1, 2)],
        {"nanp/np1/temp": [Becomes("np1", {"temp": 27.5})]},
        unsure=("nan",),
    ),
    Layout("empty payloads", lambda _, __: [("hollow/d1/x", b""), ("hollow/d2/x", b"")], {}),
    Layout(
        "gzip",
        lambda i, at: [
            (f"packed/packed-{d}/x", gzip.compress(raw({"t": i, "ts": epoch(at), "pad": "x" * 40}), mtime=0))
            for d in (1, 2)
        ],
        {"packed/packed-1/x": [Becomes("packed-1", {"t": 7, "pad": "x" * 40}, ts=0)]},
    ),
    Layout(
        "a line a reading",
        lambda i, at: [
            (
                f"lines/lines-{d}/x",
                raw({"t": i, "ts": epoch(at) - 1}) + b"\n" + raw({"t": i + 1, "ts": epoch(at)}),
            )
            for d in (1, 2)
        ],
        {"lines/lines-1/x": [Becomes("lines-1", {"t": 7}, ts=-1), Becomes("lines-1", {"t": 8}, ts=0)]},
    ),
    Layout(
        "names and values in two lists",
        lambda i, at: [
            (f"lists/lists-{d}/x", {"ts": epoch(at), "names": ["temp", "hum"], "values": [20.5 + i, 40]})
            for d in (1, 2)
        ],
        {"lists/lists-1/x": [Becomes("lists-1", {"temp": 27.5, "hum": 40}, ts=0)]},
        unsure=("names and values",),
    ),
    Layout(
        "rows of a table",
        lambda i, at: [
            (
                f"rows/rows-{d}/x",
                {
                    "columns": ["time", "temp", "hum"],
                    "rows": [[epoch(at) - 5, 20 + i, 40], [epoch(at), 21 + i, 41]],
                },
            )
            for d in (1, 2)
        ],
        {
            "rows/rows-1/x": [
                Becomes("rows-1", {"temp": 27, "hum": 40}, ts=-5),
                Becomes("rows-1", {"temp": 28, "hum": 41}, ts=0),
            ]
        },
        unsure=("columns",),
    ),
    Layout(
        "pairs of time and value",
        lambda i, at: [
            (f"series/series-{d}/temp", {"points": [[epoch(at) - 5, 20.5 + i], [epoch(at), 21.5 + i]]})
            for d in (1, 2)
        ],
        {
            "series/series-1/temp": [
                Becomes("series-1", {"temp": 27.5}, ts=-5),
                Becomes("series-1", {"temp": 28.5}, ts=0),
            ]
        },
        unsure=("points",),
    ),
    Layout(
        "names of devices and metrics in one",
        lambda i, at: [
            (
                "opc/out",
                {
                    "time": epoch(at, 1000),
                    "values": [
                        {"tag": f"Line1.Press{d}.{metric}", "val": base + i}
                        for d in (1, 2)
                        for metric, base in (("Temp", 20), ("Force", 100))
                    ],
                },
            )
        ],
        {
            "opc/out": [
                Becomes("Line1.Press1", {"Temp": 27, "Force": 107}, ts=0),
                Becomes("Line1.Press2", {"Temp": 27, "Force": 107}, ts=0),
            ]
        },
        unsure=("Line1.Press1",),
    ),
    Layout(
        "ids with slashes in the payload",
        lambda i, at: [
            ("slashes/every", {"device": f"north/pump{d}", "p": i, "ts": epoch(at)}) for d in (1, 2, 3)
        ],
        {"slashes/every": [Becomes("north.pump3", {"p": 7}, ts=0)]},
        unsure=("slash",),
    ),
    Layout(
        "one reading or several",
        lambda i, at: [
            (
                f"oneormore/oneormore-{d}/up",
                {"metrics": [{"t": i, "ts": epoch(at) - 1}, {"t": i + 1, "ts": epoch(at)}]}
                if i % 2
                else {"t": i, "ts": epoch(at)},
            )
            for d in (1, 2)
        ],
        {
            "oneormore/oneormore-1/up": [
                Becomes("oneormore-1", {"t": 7}, ts=-1),
                Becomes("oneormore-1", {"t": 8}, ts=0),
            ]
        },
        unsure=("metrics",),
    ),
    Layout(
        "Tasmota with its topic first",
        lambda i, at: [
            message
            for d in (1, 2)
            for message in (
                (
                    f"tasmotas/plug{d}/tele/SENSOR",
                    {"Time": iso(at, "%Y-%m-%dT%H:%M:%S"), "ENERGY": {"Power": 12 + i}},
                ),
                (f"tasmotas/plug{d}/tele/LWT", b"Online"),
                (f"tasmotas/plug{d}/stat/POWER", b"ON"),
            )
        ],
        {
            "tasmotas/plug1/tele/SENSOR": [Becomes("plug1", {"ENERGY.Power": 19}, ts=0)],
            "tasmotas/plug1/stat/POWER": [Becomes("plug1", {"POWER": 1})],
        },
    ),
    Layout(
        "times of Dutch meters",
        lambda i, at: [
            (
                f"dsmr/home{d}/meter",
                {"timestamp": iso(at, "%y%m%d%H%M%SW", 1), "power": 300 + i},
            )
            for d in (1, 2)
        ],
        {"dsmr/home1/meter": [Becomes("home1", {"power": 307}, ts=0)]},
    ),
    Layout(
        "local times",
        lambda i, at: [
            (f"local/local-{d}/x", {"when": iso(at, "%Y-%m-%d %H:%M:%S", 2), "t": i}) for d in (1, 2)
        ],
        {"local/local-1/x": [Becomes("local-1", {"t": 7}, ts=0)]},
        unsure=("2 h ahead of UTC",),
    ),
    Layout(
        "local times of India",
        lambda i, at: [
            (f"india/india-{d}/x", {"when": iso(at, "%Y-%m-%d %H:%M:%S", 5.5), "t": i}) for d in (1, 2)
        ],
        {"india/india-1/x": [Becomes("india-1", {"t": 7}, ts=0)]},
        unsure=("5 h 30 min ahead of UTC",),
    ),
    Layout(
        "thousands in numbers",
        lambda i, at: [(f"grouped/grouped-{d}/x", {"kwh": f"12.34{i},5", "ts": epoch(at)}) for d in (1, 2)],
        {"grouped/grouped-1/x": [Becomes("grouped-1", {"kwh": "12.347,5"}, ts=0)]},
        unsure=("kwh",),
    ),
    Layout(
        "numbers of three decimals that may be thousands",
        lambda i, at: [(f"thousand/thousand-{d}/x", {"kwh": f"1.23{i}", "ts": epoch(at)}) for d in (1, 2)],
        {"thousand/thousand-1/x": [Becomes("thousand-1", {"kwh": 1.237}, ts=0)]},
        unsure=("thousands",),
    ),
    Layout(
        "an object a metric",
        lambda i, at: [
            (
                f"units/units-{d}/x",
                {"ts": epoch(at), "t": {"value": 20 + i, "unit": "°C"}, "h": {"value": 40, "unit": "%"}},
            )
            for d in (1, 2)
        ],
        {
            "units/units-1/x": [
                Becomes("units-1", {"t.value": 27, "t.unit": "°C", "h.value": 40, "h.unit": "%"}, ts=0)
            ]
        },
    ),
    Layout(
        "a header and a body",
        lambda i, at: [
            (
                f"envelope/envelope-{d}/x",
                {
                    "header": {
                        "messageId": f"{i:08x}-000{d}-4000-8000-000000000000",
                        "timestamp": iso(at),
                    },
                    "body": {"t": i},
                },
            )
            for d in (1, 2)
        ],
        {
            "envelope/envelope-1/x": [
                Becomes("envelope-1", {"body.t": 7}, ts=0, key="00000007-0001-4000-8000-000000000000")
            ]
        },
    ),
    Layout(
        "a counter a topic",
        lambda i, at: [(f"numbered/dev{d}/{100 + i}", {"t": i, "ts": epoch(at)}) for d in (1, 2)],
        {"numbered/dev1/107": [Becomes("dev1", {"t": 7}, ts=0, tags={"number": "107"})]},
    ),
    Layout(
        "pictures",
        lambda i, _: [("cams/door/jpg", b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes([i]) * 50)],
        {},
        unexplained={"cams/door/jpg": "JPEG"},
    ),
    Layout(
        "a slash in front",
        lambda i, _: [(f"/slash/sl{d}/temp", f"2{i}.5".encode()) for d in (1, 2)],
        {"/slash/sl1/temp": [Becomes("sl1", {"temp": 27.5})]},
    ),
    Layout(
        "one device and one topic",
        lambda i, at: [("garage", {"door": "open", "t": i, "ts": epoch(at)})],
        {"garage": [Becomes("garage", {"door": 1, "t": 7}, ts=0)]},
    ),
    Layout(
        "clocks that are not set",
        lambda i, at: [
            (f"clocks/clocks-{d}/x", {"ts": 17 + 10 * i if d == 2 else epoch(at), "t": i}) for d in (1, 2, 3)
        ],
        {
            "clocks/clocks-1/x": [Becomes("clocks-1", {"t": 7}, ts=0)],
            "clocks/clocks-2/x": [Becomes("clocks-2", {"t": 7}, tags={"claimed_ts": "87"})],
        },
        unsure=("clock",),
    ),
    Layout(
        "an array at the root",
        lambda i, at: [
            ("rootlist/up", [{"sensor": f"s{d}", "t": 20 + i + d, "ts": epoch(at)} for d in (1, 2)])
        ],
        {"rootlist/up": [Becomes("s1", {"t": 28}, ts=0), Becomes("s2", {"t": 29}, ts=0)]},
        unsure=("sensor",),
    ),
    Layout(
        "Watson",
        lambda i, _: [
            (f"iot-2/type/pump/id/p{d}/evt/status/fmt/json", {"d": {"t": i, "rpm": 900}}) for d in (1, 2)
        ],
        {"iot-2/type/pump/id/p1/evt/status/fmt/json": [Becomes("p1", {"t": 7, "rpm": 900})]},
    ),
    Layout(
        "an id that never changes",
        lambda i, at: [(f"same/same-{d}/x", {"id": "gw-7", "t": i, "ts": epoch(at)}) for d in (1, 2)],
        {"same/same-1/x": [Becomes("same-1", {"id": "gw-7", "t": 7}, ts=0)]},
        unsure=("id",),
    ),
    Layout(
        "quoted numbers and words",
        lambda i, _: [(f"quoted/qu{d}/level", f'"2{i},5"'.encode()) for d in (1, 2)],
        {"quoted/qu1/level": [Becomes("qu1", {"level": 27.5})]},
    ),
    Layout(
        "numbers with units",
        lambda i, at: [
            (f"withunit/withunit-{d}/x", {"t": f"2{i},5 °C", "p": f"101{i} hPa", "ts": epoch(at)})
            for d in (1, 2)
        ],
        {
            "withunit/withunit-1/x": [
                Becomes("withunit-1", {"t": 27.5, "t.unit": "°C", "p": 1017, "p.unit": "hPa"}, ts=0)
            ]
        },
        unsure=("become numbers",),
    ),
    Layout(
        "what is of nobody beside a gateway at home",
        lambda i, _: [
            (
                "home/OpenMQTTGateway/BTtoMQTT/A4C1381A2B3C",
                {"id": "A4:C1:38:1A:2B:3C", "name": "ATC", "rssi": -70 - i, "tempc": 21.5, "hum": 40.1},
            ),
            ("home/OpenMQTTGateway/LWT", b"online"),
            ("home/OpenMQTTGateway/log", b"started"),
            ("home/kitchen/temp", f"2{i}.5".encode()),
            ("home/bath/temp", f"2{i}.0".encode()),
            ("home/kitchen/air/co2", f"42{i}".encode()),
        ],
        {
            "home/OpenMQTTGateway/BTtoMQTT/A4C1381A2B3C": [
                Becomes(
                    "A4C1381A2B3C",
                    {"rssi": -77, "tempc": 21.5, "hum": 40.1},
                    tags={"gateway": "OpenMQTTGateway", "id": "A4:C1:38:1A:2B:3C", "name": "ATC"},
                )
            ],
            "home/OpenMQTTGateway/LWT": [Becomes("OpenMQTTGateway", {"online": True})],
            "home/OpenMQTTGateway/log": [],
            "home/kitchen/temp": [Becomes("kitchen", {"temp": 27.5})],
            "home/kitchen/air/co2": [Becomes("air", {"co2": 427})],
        },
        unsure=("'air' of the topic",),
    ),
    Layout(
        "a word about the connection by the same topic",
        lambda i, at: [
            (f"words/wo{d}/x", b"offline" if i == 5 else {"t": i, "ts": epoch(at)}) for d in (1, 2)
        ],
        {"words/wo1/x": [Becomes("wo1", {"t": 7}, ts=0)]},
        unsure=("2 of 16 messages would be dead letters",),
    ),
    Layout(
        "arrays in the elements of an array",
        lambda i, at: [
            (
                "hub/up",
                {
                    "gw": "g1",
                    "sensors": [
                        {"id": "s1", "readings": [{"ts": epoch(at), "t": 20 + i}]},
                        {"id": "s2", "readings": [{"ts": epoch(at) - 5, "t": i}, {"ts": epoch(at), "t": i}]},
                    ],
                },
            )
        ],
        {
            "hub/up": [
                Becomes("s1", {"t": 27}, ts=0, tags={"gw": "g1"}),
                Becomes("s2", {"t": 7}, ts=-5, tags={"gw": "g1"}),
                Becomes("s2", {"t": 7}, ts=0, tags={"gw": "g1"}),
            ]
        },
        unsure=("id is taken for the device's name",),
    ),
    Layout(
        "times of two forms",
        lambda i, at: [
            ("twoforms/tf1/x", {"time": epoch(at), "t": i}),
            ("twoforms/tf2/x", {"time": iso(at, "%d/%m/%Y %H:%M:%S"), "t": i}),
        ],
        {},
        unsure=("time is no time",),
    ),
    Layout(
        "CSV in quotation marks",
        lambda i, at: [
            (f"csvq/cq{d}/x", f'"Time","Temp (°C)","Note"\n"{iso(at)}","2{i}.5","a,b"\n'.encode())
            for d in (1, 2)
        ],
        {"csvq/cq1/x": [Becomes("cq1", {"Temp (°C)": 27.5, "Note": "a,b"}, ts=0)]},
    ),
    Layout(
        "JSON in a text",
        lambda i, at: [
            (f"intext/jt{d}/x", {"ts": epoch(at), "payload": json.dumps({"t": i})}) for d in (1, 2)
        ],
        {"intext/jt1/x": [Becomes("jt1", {"payload": '{"t": 7}'}, ts=0)]},
        unsure=("from_json(payload)",),
    ),
    Layout(
        "who heard a message",
        lambda i, at: [
            (
                f"hearers/lr{d}/up",
                {"fcnt": i, "time": iso(at), "gws": [{"gw": "a", "rssi": -70 - i}], "data": {"t": i}},
            )
            for d in (1, 2)
        ],
        {
            "hearers/lr1/up": [
                Becomes("lr1", {"gws.0.gw": "a", "gws.0.rssi": -77, "data.t": 7}, ts=0, key="7")
            ]
        },
    ),
    Layout(
        "an id that comes again",
        lambda i, _: [(f"modes/mo{d}/x", {"id": i % 3, "mode": i % 3, "v": 1.5}) for d in (1, 2)],
        {"modes/mo1/x": [Becomes("mo1", {"id": 1, "mode": 1, "v": 1.5})]},
        unsure=("without key and time",),
    ),
    Layout(
        "a count of pieces",
        lambda i, at: [(f"pieces/pc{d}/x", {"count": 100 + i, "ts": epoch(at)}) for d in (1, 2)],
        {},
        unsure=("count goes up by one",),
    ),
    Layout(
        "ids of devices and of messages",
        lambda i, _: [("ids/all", {"id": f"pump{d}", "msgId": f"{i}-{d}-af", "v": i}) for d in (1, 2, 3)],
        {"ids/all": [Becomes("pump3", {"v": 7}, key="7-3-af")]},
        unsure=("id is taken for the device's name",),
    ),
    Layout(
        "base64 alone",
        lambda i, _: [
            (f"alone/ba{d}/x", base64.b64encode(bytes([1, 200, i, 0, 255, 3, 9, 8, 7]))) for d in (1, 2)
        ],
        {},
        unsure=("bytes in base64",),
    ),
    Layout(
        "addresses with colons and without",
        lambda i, at: [
            (f"tags/AABBCC00000{d}/adv", {"mac": f"aa:bb:cc:00:00:0{d}", "rssi": -60 - i, "ts": epoch(at)})
            for d in (1, 2)
        ],
        {"tags/AABBCC000001/adv": [Becomes("AABBCC000001", {"mac": "aa:bb:cc:00:00:01", "rssi": -67}, ts=0)]},
    ),
    Layout(
        "nanoseconds, a counter and decimal commas",
        lambda i, at: [
            (f"home/esp{d}/data", {"n": 10 * d + i, "t_ns": epoch(at, 10**9), "temp": f"21,{i}"})
            for d in (1, 2)
        ],
        {"home/esp1/data": [Becomes("esp1", {"temp": 21.7}, ts=0, key="17")]},
        unsure=("n goes up by one", "texts that are numbers"),
    ),
    Layout(
        "local times with the month first, behind UTC",
        lambda i, at: [
            (f"us/us-{d}/x", {"local": iso(at, "%m/%d/%Y %H:%M:%S", -5), "kw": 1.5 + i}) for d in (1, 2)
        ],
        {"us/us-1/x": [Becomes("us-1", {"kw": 8.5}, ts=0)]},
        unsure=("5 h behind UTC",),
    ),
    Layout(
        "addresses in the payload only, at the time of the place",
        lambda i, at: [
            (
                "ble/scan",
                {"mac": f"AA:BB:CC:00:00:0{d}", "t": 21.5 + i, "when": iso(at, "%Y-%m-%dT%H:%M:%S", 1)},
            )
            for d in (1, 2, 3)
        ],
        {"ble/scan": [Becomes("AA:BB:CC:00:00:03", {"t": 28.5}, ts=0)]},
        unsure=("1 h ahead of UTC",),
    ),
    Layout(
        "readings in an array, and another name of the device around it",
        lambda i, at: [
            (
                f"store/gw{d}/log",
                {
                    "dev": f"box-{d}",
                    "data": [{"ts": epoch(at, 1000) - 1000, "p": i}, {"ts": epoch(at, 1000), "p": i + 1}],
                },
            )
            for d in (1, 2)
        ],
        {
            "store/gw1/log": [
                Becomes("gw1", {"p": 7}, ts=-1, tags={"dev": "box-1"}),
                Becomes("gw1", {"p": 8}, ts=0, tags={"dev": "box-1"}),
            ]
        },
        unsure=("dev beside data",),
    ),
    Layout(
        "microseconds in texts, and a percent sign",
        lambda i, at: [
            (f"rooms/room{d}/s", {"Temp": f"2{i}.5", "Hum": f"4{i} %", "Time": str(epoch(at, 10**6))})
            for d in (1, 2)
        ],
        {"rooms/room1/s": [Becomes("room1", {"Temp": 27.5, "Hum": 47, "Hum.unit": "%"}, ts=0)]},
        unsure=("become numbers",),
    ),
    Layout(
        "thousands with blanks",
        lambda i, _: [(f"blanks/bl{d}/kwh", f"12 34{i},5".encode()) for d in (1, 2)],
        {"blanks/bl1/kwh": [Becomes("bl1", {"kwh": "12 347,5"})]},
        unsure=("marks of thousands",),
    ),
]


def messages(layout: Layout, start: datetime) -> list[tuple[str, bytes, datetime]]:
    """All that a layout sends."""
    return [
        (topic, raw(payload), start + i * SPACING + DELAY)
        for i in range(ROUNDS)
        for topic, payload in layout.says(i, (start + i * SPACING).astimezone(UTC))
    ]


def loaded(text: str, folder: Path) -> Settings:
    """A configuration as a gateway reads it."""
    path = folder / "edge.toml"
    path.write_text(text, encoding="utf-8")
    return load(path, environ={}, complete=complete_routes)


def become(decoder: Decoder, sample: Sample) -> list[Becomes | str]:
    """What becomes of a message; the text of a dead letter."""
    found: list[Becomes | str] = []
    for each in decoder.decode(sample, Received.of(sample.at)):
        if not isinstance(each, Reading):
            found.append(f"{each.reason}: {each.error}")
            continue
        event = each.event
        late = datetime.fromisoformat(event.ts) - sample.at + DELAY
        found.append(
            Becomes(
                event.device_id,
                msgspec.json.decode(event.metrics),
                None if event.ts == event.received_at else late.total_seconds(),
                event.key if each.keyed else None,
                event.region,
                event.tags or {},
            )
        )
    return found
