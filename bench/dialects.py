"""Formats and dialects: what decoding a message of each costs, beside a default JSON message of like content.

A message of each is one reading: a device and two numbers (of the format `value` one: it has no more), with a
time, and a key where that is usual. The message beside it says the same in default JSON: the same numbers, a
time written likewise, as text or as a number, and a key or none, as a key that is not sent is made. What many
readings in one message cost is not measured here: each less than one by itself. Sparkplug says of each number
its time and its type, ChirpStack of each device two names that become tags, line protocol one: that is what
they are, and the default message has nothing like it. Only the decoder runs, in one process, without broker
and servers. Beside that: what the worst payloads cost (`bench.hostile`).
"""

from __future__ import annotations

import json
import struct
import tempfile
import time
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import cbor2
import msgspec
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from bench.hostile import hostile
from bench.scenario import Scenario, check, run_alone
from bench.tables import Line
from gateway.decode import Decoder, Limits, Reading, Received
from gateway.decode.dialects import complete_routes
from gateway.decode.examples import Message
from gateway.decode.routes import compile_routes
from runtime.settings import Route

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.hostile import Hostile

DEFAULT: Final = "json, the default message"
_NUMBER: Final = "json, its time a number"
_KEYLESS: Final = "json, no key"
_KEYLESS_NUMBER: Final = "json, no key, its time a number"
_ALONE: Final = "json, one number alone"
_NOW: Final = datetime(2026, 11, 23, 9, tzinfo=UTC)
_NOW_MS: Final = int(_NOW.timestamp() * 1000)
_LIMITS: Final = Limits()
_MOST: Final = 3.0  # times the default message
_MOST_MS: Final = 50.0
_US: Final = 1e6
_MS: Final = 1e3


class Options(msgspec.Struct, frozen=True):
    """How often each takes its turn, and how long that is.

    Attributes:
        turns: of which the best counts.
        messages: the default ones in a turn; of others so many that they take about as long.
        hostile: how often each of the worst payloads is decoded; the best counts.
    """

    turns: int = 100
    messages: int = 1000
    hostile: int = 5


class Figures(msgspec.Struct, frozen=True):
    """One round, by case.

    Attributes:
        us: µs of CPU a message.
        ratio: the same to that of the default message of like content.
        hostile_ms: ms of CPU of each of the worst payloads.
    """

    us: dict[str, float]
    ratio: dict[str, float]
    hostile_ms: dict[str, float]


class Case(NamedTuple):
    """A route and its messages.

    Attributes:
        route: as a configuration has it.
        topic: that they come by.
        payload: of the i-th.
        like: the message in default JSON that says the same; empty of those themselves.
    """

    route: dict[str, Any]
    topic: str
    payload: Callable[[int], bytes]
    like: str = ""


def _ms(i: int) -> int:
    return _NOW_MS - i


def _iso(i: int) -> str:
    return (_NOW - timedelta(milliseconds=i)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _t(i: int) -> float:
    return i % 400 / 10


def _object(i: int) -> dict[str, Any]:
    return {"id": f"r0-{i:08d}", "ts": _ms(i), "temperature": _t(i), "humidity": 40.5}


def _json(i: int) -> bytes:
    return json.dumps({**_object(i), "ts": _iso(i)}).encode()


def _number(i: int) -> bytes:
    return json.dumps(_object(i)).encode()


def _keyless(i: int) -> bytes:
    return json.dumps({"ts": _iso(i), "temperature": _t(i), "humidity": 40.5}).encode()


def _keyless_number(i: int) -> bytes:
    return json.dumps({"ts": _ms(i), "temperature": _t(i), "humidity": 40.5}).encode()


def _alone(i: int) -> bytes:
    return json.dumps({"temperature": _t(i)}).encode()


def _senml(i: int) -> bytes:
    base = {"bn": "d1:", "bt": _ms(i) / 1000, "n": "temperature", "v": _t(i)}
    return json.dumps([base, {"n": "humidity", "v": 40.5}]).encode()


def _tasmota(i: int) -> bytes:
    return json.dumps({"Time": _iso(i)[:19], "AM2301": {"Temperature": _t(i), "Humidity": 40.5}}).encode()


def _zigbee2mqtt(i: int) -> bytes:
    return json.dumps({"temperature": _t(i), "humidity": 40.5, "last_seen": _iso(i)}).encode()


def _chirpstack(i: int) -> bytes:
    info = {"deviceName": "d1", "applicationName": "a1"}
    values = {"temperature": _t(i), "humidity": 40.5}
    return json.dumps(
        {"deduplicationId": f"r0-{i:08d}", "time": _iso(i), "deviceInfo": info, "object": values}
    ).encode()


def varint(value: int) -> bytes:
    """An integer as Protobuf has it."""
    found = bytearray()
    while value > 127:  # noqa: PLR2004  # seven bits a byte
        found.append(value & 127 | 128)
        value >>= 7
    return bytes((*found, value))


def _sparkplug(i: int) -> bytes:
    """A payload with its time and two metrics of datatype 10, which is Double (Sparkplug 3.0.0 §6.4.1)."""
    when = varint(_ms(i))
    metrics = b""
    for name, value in ((b"temperature", _t(i)), (b"humidity", 40.5)):
        metric = (
            b"\x0a" + varint(len(name)) + name + b"\x18" + when + b"\x20\x0a\x69" + struct.pack("<d", value)
        )
        metrics += b"\x12" + varint(len(metric)) + metric
    return b"\x08" + when + metrics + b"\x18" + varint(i % 256)


def _layout(i: int) -> bytes:
    return struct.pack(">IhH", int(_NOW.timestamp()) - i, i % 400, 405)


_DEVICES: Final = "devices/{device_id}/telemetry"
_TOPIC: Final = "devices/d1/telemetry"
_FIELDS: Final = [
    {"name": "ts", "type": "uint32"},
    {"name": "temperature", "type": "int16", "at": 4, "scale": 0.1},
    {"name": "humidity", "type": "uint16", "at": 6, "scale": 0.1},
]


def cases(folder: Path) -> dict[str, Case]:
    """What is measured.

    Args:
        folder: where a descriptor set is written.
    """
    descriptor, proto = _protobuf(folder / "telemetry.desc")
    return {
        DEFAULT: Case({}, _TOPIC, _json),
        _NUMBER: Case({}, _TOPIC, _number),
        _KEYLESS: Case({}, _TOPIC, _keyless),
        _KEYLESS_NUMBER: Case({}, _TOPIC, _keyless_number),
        _ALONE: Case({}, _TOPIC, _alone),
        "ndjson": Case({"format": "ndjson"}, _TOPIC, _json, DEFAULT),
        "value": Case(
            {"topic": "devices/{device_id}/{metric}", "format": "value"},
            "devices/d1/temperature",
            lambda i: str(_t(i)).encode(),
            _ALONE,
        ),
        "csv": Case(
            {"format": "csv", "csv": {"columns": ["id", "ts", "temperature", "humidity"]}},
            _TOPIC,
            lambda i: ",".join(map(str, _object(i).values())).encode(),
            _NUMBER,
        ),
        "influx": Case(
            {"dialect": "influx/telegraf"},
            "telegraf/d1/air",
            lambda i: f"air,room=hall temperature={_t(i)},humidity=40.5 {_ms(i)}000000".encode(),
            _KEYLESS_NUMBER,
        ),
        "senml": Case({"dialect": "senml/device"}, "senml/d1", _senml, _KEYLESS_NUMBER),
        "cbor": Case({"format": "cbor"}, _TOPIC, lambda i: cbor2.dumps(_object(i)), _NUMBER),
        "msgpack": Case({"format": "msgpack"}, _TOPIC, lambda i: msgspec.msgpack.encode(_object(i)), _NUMBER),
        "protobuf": Case(
            {"format": "protobuf", "protobuf": {"descriptor": str(descriptor), "message": "Telemetry"}},
            _TOPIC,
            lambda i: bytes(proto(**_object(i)).SerializeToString()),
            _NUMBER,
        ),
        "sparkplug": Case(
            {"dialect": "ignition/device-data"}, "spBv1.0/north/DDATA/d1", _sparkplug, _KEYLESS_NUMBER
        ),
        "bytes": Case({"format": "bytes", "bytes": {"field": _FIELDS}}, _TOPIC, _layout, _KEYLESS_NUMBER),
        "tasmota": Case({"dialect": "tasmota/sensor"}, "tele/d1/SENSOR", _tasmota, _KEYLESS),
        "zigbee2mqtt": Case({"dialect": "zigbee2mqtt"}, "zigbee2mqtt/d1", _zigbee2mqtt, _KEYLESS),
        "chirpstack v4": Case(
            {"dialect": "chirpstack-v4/up"}, "application/a1/device/d1/event/up", _chirpstack, DEFAULT
        ),
    }


def _protobuf(path: Path) -> tuple[Path, Any]:
    """A descriptor set of one message, and its class."""
    file = descriptor_pb2.FileDescriptorProto(name="telemetry.proto", syntax="proto3")
    message = file.message_type.add(name="Telemetry")
    kinds = {"id": 9, "ts": 3, "temperature": 1, "humidity": 1}  # string, int64 and doubles
    for number, (name, kind) in enumerate(kinds.items(), 1):
        message.field.add(name=name, number=number, type=kind, label=1)
    path.write_bytes(descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return path, message_factory.GetMessageClass(pool.FindMessageTypeByName("Telemetry"))


def decoder_of(route: dict[str, Any], limits: Limits = _LIMITS) -> Decoder:
    """The decoder of a route, with those of its dialect."""
    raw: dict[str, Any] = {"route": [route]}
    complete_routes(raw)
    return Decoder(compile_routes(msgspec.convert(raw["route"], list[Route])), limits)


async def measure(_number: int, options: Options) -> Figures:
    """Decode messages of each, by turns of one length, and the worst payloads.

    In turns of one length each has the same luck with a machine that does other things, too.
    """
    best: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as folder:
        like = {name: case.like for name, case in cases(Path(folder)).items() if case.like}
        played = {
            name: (
                decoder_of(case.route),
                [Message(case.topic, case.payload(i)) for i in range(options.messages)],
            )
            for name, case in cases(Path(folder)).items()
        }
    for turn in range(options.turns):
        for name, (decoder, messages) in played.items():
            share = best[DEFAULT] / best[name] if turn else 1
            some = messages[: max(1, min(len(messages), round(share * len(messages))))]
            best[name] = min(_spent(name, decoder, some), best.get(name, inf))
    return Figures(
        best,
        {name: best[name] / best[other] for name, other in like.items()},
        {each.name: min(_spent_on(each) for _ in range(options.hostile)) for each in hostile()},
    )


def _spent(name: str, decoder: Decoder, messages: list[Message]) -> float:
    """The µs of CPU that each took, all of them to one reading each and nothing else."""
    received, found = Received.of(_NOW), 0
    begun = time.process_time()
    for message in messages:
        found += [type(each) for each in decoder.decode(message, received)] == [Reading]
    spent = time.process_time() - begun
    check(f"readings of {name}", found, len(messages))
    return spent / len(messages) * _US


def _spent_on(of: Hostile) -> float:
    """The ms of CPU that a payload took."""
    decoder, received = decoder_of(of.route), Received.of(_NOW)
    begun = time.process_time()
    decoder.decode(Message(of.topic, of.payload), received)
    return (time.process_time() - begun) * _MS


def lines(median: Figures) -> Sequence[Line]:
    """The table."""
    return [
        Line(name, f"{us:.1f} µs a message")
        if name not in median.ratio
        else Line(
            name,
            f"{us:.1f} µs a message, {median.ratio[name]:.2f} times default JSON of like content",
            f"{_MOST:g} times that at most",
            median.ratio[name] <= _MOST,
        )
        for name, us in median.us.items()
    ] + [
        Line(f"worst payload: {name}", f"{ms:.0f} ms", f"{_MOST_MS:g} ms at most", ms <= _MOST_MS)
        for name, ms in median.hostile_ms.items()
    ]


SCENARIO: Scenario[Any] = Scenario(
    name="dialects",
    title="Formats and dialects",
    text="The decoder alone, in one process: messages of every format and of three dialects, each a device, "
    "a time and two numbers, decoded by turns with default JSON that says the same; of all turns the best. "
    "And the worst payloads of 262,144 bytes: as long as one is decoded, nothing else is done.",
    options=Options(),
    quick=Options(turns=1, messages=200, hostile=1),
    figures=Figures,
    measure=measure,
    lines=lines,
)

if __name__ == "__main__":
    run_alone(SCENARIO)
