"""The simulated fleet: which device sends what next. Pure: seeded, and told the time.

A fleet takes its devices in turn. Each message is one of four kinds, drawn by the configured shares:

- *good*: the device's reading of now, under a key never used before;
- *late*: the same, measured minutes to hours ago, as a device sends what it kept while its network was away;
- *duplicate*: one of the last messages again, byte for byte, from the device that sent it;
- *garbage*: what the gateway has to reject (`rubbish`).

Keys are `<run>-<counter>`; the run makes two runs within one dedup window different. The same seed, run and
times give the same messages.
"""

from __future__ import annotations

import hashlib
import math
from datetime import UTC, datetime
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING

import msgspec

from gateway.simulate import rubbish

if TYPE_CHECKING:
    from collections.abc import Sequence

_ROUNDING = 1e-9
_DAY_S = 86_400
_LATE_S = (120, 6 * 3600)
_ARRAY_READINGS = (2, 10)
_ARRAY_SPACING_S = 10
_REMEMBERED = 1000
_REGIONS = ("north", "south", "east", "west", "north-east", "south-west", "north-west", "south-east")
_BATTERY_DAYS = 45
_LOW_BATTERY = 20


class Kind(StrEnum):
    """What a simulated message is, seen by who must handle it."""

    GOOD = "good"
    DUPLICATE = "duplicate"
    GARBAGE = "garbage"
    LATE = "late"


class Shares(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much of what is sent is not plainly good, each from 0 to 1.

    `duplicates`, `garbage` and `late` are shares of all messages and exclude each other, so together at
    most 1; `arrays` is the share of the good and late ones that carry several readings.

    Raises:
        ValueError: a share, or the sum of the three, lies outside 0 to 1.
    """

    duplicates: float = 0.05
    garbage: float = 0.02
    late: float = 0.05
    arrays: float = 0.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share from 0 to 1, not {getattr(self, name)}")
        if (total := self.duplicates + self.garbage + self.late) > 1 + _ROUNDING:
            raise ValueError(f"duplicates, garbage and late together are {total:g}, which is more than 1")


class Emission(msgspec.Struct, frozen=True, gc=False):
    """One message as a device sends it.

    Attributes:
        device: index of the device in the fleet.
        readings: how many readings it carries; 0 for garbage.
    """

    device: int
    kind: Kind
    topic: str
    payload: bytes
    readings: int


class Reading(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The default device message. Temperature in °C, humidity and battery in percent."""

    id: str
    ts: str
    region: str
    temperature: float
    humidity: float
    battery: float
    door_open: bool | None = None
    status: str | None = None


_encode = msgspec.json.Encoder().encode


def run_id(seed: int, now: float) -> str:
    """Name a run by its seed and the epoch seconds at which it started: eight hex digits."""
    return hashlib.blake2s(f"{seed}:{now!r}".encode(), digest_size=4).hexdigest()


def region_name(index: int) -> str:
    """Name the region with this index: eight points of the compass, then numbers."""
    return _REGIONS[index] if index < len(_REGIONS) else f"region-{index + 1:02d}"


def device_name(index: int) -> str:
    """Name the device with this index."""
    return f"sim-{index + 1:04d}"


class Device:
    """One sensor with its climate: a day's curve, a slow drift and a little noise.

    Every third device watches a door as well, every second one reports its status.
    """

    def __init__(self, index: int, region: int, run: str, topic: str, rng: Random, *, name: str = "") -> None:
        self.device_id = name or device_name(index)
        self.region = region_name(region)
        self.topic = topic.replace("{device_id}", self.device_id).replace("{region}", self.region)
        self.last_sent: bytes | None = None
        self._run = run
        self._counter = 0
        self._rng = rng
        self._mean = 12 + 3 * (region % 4) + rng.gauss(0, 1.5)
        self._swing = rng.uniform(4, 9)
        self._peak_s = 15 * 3600 - 1800 * (region % 4) + rng.gauss(0, 900)
        self._drift = 0.0
        self._battery_age = rng.uniform(0, _BATTERY_DAYS)
        self._has_door = index % 3 == 0
        self._has_status = index % 2 == 0

    def measure(self, at: float) -> Reading:
        """Take the reading of an instant, in epoch seconds, under the device's next key."""
        rng = self._rng
        self._counter += 1
        self._drift = 0.97 * self._drift + rng.uniform(-0.2, 0.2)
        warmth = math.cos(2 * math.pi * (at - self._peak_s) / _DAY_S)
        temperature = self._mean + self._swing * warmth + self._drift
        humidity = min(100.0, max(5.0, 62 - 22 * warmth - 3 * self._drift + rng.uniform(-1, 1)))
        battery = 100 - 90 * ((at / _DAY_S + self._battery_age) % _BATTERY_DAYS) / _BATTERY_DAYS
        door_open = rng.random() < (0.15 if warmth > 0 else 0.01) if self._has_door else None
        status = None
        if self._has_status:
            status = "low_battery" if battery < _LOW_BATTERY else "door_open" if door_open else "ok"
        return Reading(
            id=f"{self._run}-{self._counter:06d}",
            ts=f"{datetime.fromtimestamp(at, UTC).isoformat(timespec='milliseconds')[:-6]}Z",
            region=self.region,
            temperature=round(temperature, 2),
            humidity=round(humidity, 2),
            battery=round(battery, 1),
            door_open=door_open,
            status=status,
        )


class Fleet:
    """All simulated devices.

    Args:
        topic: where a device publishes; `{device_id}` and `{region}` are filled.
        run: what this run's keys start with (`run_id`).
        names: of the devices; without any they are `sim-0001` and so on.
    """

    def __init__(
        self,
        *,
        devices: int,
        regions: int,
        shares: Shares,
        topic: str,
        run: str,
        seed: int,
        names: Sequence[str] = (),
    ) -> None:
        self._rng = rng = Random(seed)  # noqa: S311  # a simulation has to be repeatable, not unpredictable
        self.devices = [
            Device(index, index % regions, run, topic, rng, name=names[index] if names else "")
            for index in range(devices)
        ]
        self._shares = shares
        self._ways = tuple(rubbish.WAYS.values())
        self._emitted = 0
        self._remembered: list[Emission] = []
        self._oldest = 0

    def emit(self, now: float) -> Emission:
        """Make the next message.

        Args:
            now: the devices' clock, in epoch seconds.
        """
        index = self._emitted % len(self.devices)
        self._emitted += 1
        shares = self._shares
        draw = self._rng.random()
        if draw < shares.garbage:
            return self._spoil(index, now)
        if draw < shares.garbage + shares.duplicates and self._remembered:
            return self._repeat()
        if draw < shares.garbage + shares.duplicates + shares.late:
            return self._measure(index, Kind.LATE, now - self._rng.uniform(*_LATE_S))
        return self._measure(index, Kind.GOOD, now)

    def _measure(self, index: int, kind: Kind, at: float) -> Emission:
        device = self.devices[index]
        if self._shares.arrays and self._rng.random() < self._shares.arrays:
            count = self._rng.randint(*_ARRAY_READINGS)
            readings = [device.measure(at - _ARRAY_SPACING_S * back) for back in reversed(range(count))]
            emission = Emission(index, kind, device.topic, _encode(readings), count)
        else:
            emission = Emission(index, kind, device.topic, _encode(device.measure(at)), 1)
            device.last_sent = emission.payload
        self._remember(emission)
        return emission

    def _remember(self, emission: Emission) -> None:
        if len(self._remembered) < _REMEMBERED:
            self._remembered.append(emission)
        else:
            self._remembered[self._oldest] = emission
            self._oldest = (self._oldest + 1) % _REMEMBERED

    def _repeat(self) -> Emission:
        earlier = self._remembered[int(self._rng.random() * len(self._remembered))]
        return msgspec.structs.replace(earlier, kind=Kind.DUPLICATE)

    def _spoil(self, index: int, now: float) -> Emission:
        device = self.devices[index]
        ways = len(self._ways) + (
            device.last_sent is not None
        )  # whoever has sent something can contradict it
        way = int(self._rng.random() * ways)
        if way < len(self._ways):
            payload = self._ways[way](_encode(device.measure(now)))
        else:
            assert device.last_sent is not None
            payload = rubbish.conflict(device.last_sent)
        return Emission(index, Kind.GARBAGE, device.topic, payload, 0)
