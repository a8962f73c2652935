"""The messages of the load, as PUBLISH packets made before the clock starts.

A lap is all packets that one connection sends before it starts over. What changes from lap to lap stands in
the packets as placeholders of the same width: the number of the lap, which makes every key new, and the
device time. Filling them in is one `bytes.replace` for many packets. A flood takes the time anew for each 64
messages in a row, which are of different devices when there are many, so that no device sends a time twice.
In a lap with repeats it is one time for the whole lap, since a repeat is the same byte for byte.

A plain message is one reading of about 105 bytes:
`{"id":"r0-00-00000-00017","ts":"2026-11-23T09:00:00.250000Z","region":"r1","temperature":21.5,"humidity":40.5}`.
A dirty lap is shuffled from good messages, exact repeats of earlier ones of the same lap, and garbage that is
no JSON; the shuffle is seeded, so every run sends the same.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime

import msgspec
from mqtt5 import PublishPacket, QoS

_LAP_MESSAGES = 50_000
_LAP = b"@LAP@"
_TS = b"@@@@@@@@@@ts@@@@@@@@@@@@@@@"
_GARBAGE = b'{"id":"garbage","temperature":21.5,'
_LAPS = 10 ** len(_LAP)
_LAP_READINGS = 200_000
_IDS = 65_000  # packet identifiers in use, of 65,535 (MQTT5 §2.2.1)
_REPEATED_WITHIN = 5_000  # messages


class Shape(msgspec.Struct, frozen=True):
    """What the messages are like.

    Attributes:
        run: tells the keys of one load from those of every other.
        devices: topics to publish to, in turn.
        readings: readings a message; more than one are sent as an array.
        repeats: share of messages that were sent before, byte for byte.
        garbage: share of messages that are no JSON.
    """

    run: str = "r0"
    devices: int = 1000
    readings: int = 1
    repeats: float = 0.0
    garbage: float = 0.0

    @property
    def readings_per_message(self) -> float:
        """What the gateway counts for a message, on average."""
        return self.readings * (1 - self.garbage) + self.garbage


class Contents(msgspec.Struct, frozen=True):
    """What messages held, in readings; garbage counts as one.

    Attributes:
        good: sent for the first time.
        repeated: sent once more.
        garbage: not to be decoded.
    """

    good: int = 0
    repeated: int = 0
    garbage: int = 0

    @property
    def readings(self) -> int:
        """All of them, as the gateway counts what it received."""
        return self.good + self.repeated + self.garbage

    def __add__(self, other: Contents) -> Contents:
        return Contents(self.good + other.good, self.repeated + other.repeated, self.garbage + other.garbage)


class Lap:
    """One connection's packets, in the order of sending.

    Args:
        shape: of the messages.
        connection: which one, from 0; it has the devices whose number leaves this remainder.
        connections: how many there are.

    Attributes:
        packets: with placeholders; see `fill`.
        repeats: whether some are sent again later in the lap.
    """

    def __init__(self, shape: Shape, connection: int, connections: int) -> None:
        devices = range(connection % shape.devices, shape.devices, connections)
        messages = max(min(_LAP_MESSAGES, _LAP_READINGS // shape.readings) // connections, len(devices))
        self._plan = _plan(shape, messages)
        self._readings = shape.readings
        self.repeats = shape.repeats > 0
        self.packets = []
        for place, source in enumerate(self._plan):
            device = devices[max(source, 0) % len(devices)]
            payload = (
                _GARBAGE if source < 0 else _payload(shape, f"{shape.run}-{connection:02d}", source, device)
            )
            packet_id = 1 + place % _IDS
            topic = f"devices/d{device:06d}/telemetry"
            packet = PublishPacket(topic, payload, qos=QoS.AT_LEAST_ONCE, packet_id=packet_id)
            self.packets.append(packet.write())

    def contents(self, messages: int) -> Contents:
        """What the first so many messages of this connection held, laps counted through."""
        laps, rest = divmod(messages, len(self._plan))
        whole, part = _count(self._plan), _count(self._plan[:rest])
        good, repeats, garbage = (laps * a + b for a, b in zip(whole, part, strict=True))
        return Contents(good * self._readings, repeats * self._readings, garbage)


def fill(packets: bytes, lap: int, ts: bytes) -> bytes:
    """Make packets ready to send.

    Args:
        packets: one or many, with placeholders.
        lap: how often they were sent before.
        ts: device time, as `timestamp` writes it.
    """
    return packets.replace(_LAP, b"%05d" % (lap % _LAPS)).replace(_TS, ts)


def timestamp(epoch_s: float) -> bytes:
    """A device time, ISO 8601 in UTC with microseconds."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").encode()


def _plan(shape: Shape, messages: int) -> list[int]:
    """For each place the place whose message stands there: its own or an earlier one; -1 is garbage."""
    draw = random.Random(0)  # noqa: S311  # the same every time, on purpose
    plan: list[int] = []
    good: list[int] = []
    for place in range(messages):
        share = draw.random()
        if share < shape.garbage:
            plan.append(-1)
        elif good and share < shape.garbage + shape.repeats:
            plan.append(good[-1 - draw.randrange(min(len(good), _REPEATED_WITHIN))])
        else:
            plan.append(place)
            good.append(place)
    return plan


def _count(plan: list[int]) -> tuple[int, int, int]:
    good = sum(source == place for place, source in enumerate(plan))
    garbage = plan.count(-1)
    return good, len(plan) - good - garbage, garbage


def _payload(shape: Shape, key: str, number: int, device: int) -> bytes:
    values = f'"region":"r{device % 4}","temperature":{number % 400 / 10},"humidity":40.5'
    head = f'"id":"{key}-{_LAP.decode()}-{number:05d}'
    if shape.readings == 1:
        return f'{{{head}","ts":"{_TS.decode()}",{values}}}'.encode()
    items = (f'{{{head}-{i:02d}","ts":"{_TS.decode()}",{values}}}' for i in range(shape.readings))
    return f"[{','.join(items)}]".encode()
