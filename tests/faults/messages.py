"""What the devices of a scenario send: made from a seed, so that a failure can be played again.

Everything that makes accounting hard is in it: late and equal device times, devices that change their region,
metrics that come and go, text and truth values, repeats, conflicts and rubbish; and the shapes of the field,
`shapes.py`.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING

from tests.faults.shapes import reshape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REGIONS = ("north", "south", "east", "west")

Scalar = bool | int | float | str


@dataclass(slots=True)
class Sent:
    """One distinct payload, what must come of it, and what its device knows of it.

    Attributes:
        key: None when the gateway makes one.
        ts: device time, fixed-width UTC; None when the message has none.
        metrics: as they must be stored.
        topic: empty for the default one of its device.
        tags: what the topic says beside the device.
        also: further readings in the same payload.
        shaped: whether it is none of the ordinary messages.
        sound: whether it can be stored; what cannot belongs into the dead letters.
        attempts: how often it was handed to the network.
        acked_at: when the broker first acknowledged it, in seconds of the monotonic clock; None when the
            outcome is unknown, as it always is with QoS 0.
    """

    device: str
    key: str | None
    region: str | None
    ts: str | None
    metrics: dict[str, Scalar]
    payload: bytes
    qos: int
    sound: bool = True
    attempts: int = 0
    acked_at: float | None = None
    topic: str = ""
    tags: dict[str, str] | None = None
    also: list[Sent] = field(default_factory=list)
    shaped: bool = False

    def __post_init__(self) -> None:
        self.topic = self.topic or f"devices/{self.device}/telemetry"


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of what is not an ordinary QoS 1 message."""

    shapes: float = 0.3
    repeats: float = 0.05
    conflicts: float = 0.01
    rubbish: float = 0.02
    qos0: float = 0.05
    qos2: float = 0.05


STORED_ONLY = Mix(shapes=0.0, repeats=0.0, conflicts=0.0, rubbish=0.0, qos0=0.0, qos2=0.0)


@dataclass
class Generator:
    """An endless plant.

    Args:
        seed: makes the same messages again, but for the time they count from.
        devices: how many; each has a home region.
        name: tells the keys and devices of several generators apart.
    """

    seed: int
    devices: int = 20
    mix: Mix = field(default_factory=Mix)
    name: str = "d"

    def __post_init__(self) -> None:
        self._random = Random(f"{self.seed}/{self.name}")  # noqa: S311  # a replayable scenario, no secret
        self._start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)
        self._made = 0
        self._recent: dict[str, Sent] = {}
        self._counters: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Sent]:
        while True:
            yield self._next()

    def shift(self, by: timedelta) -> None:
        """Move the clocks of all devices."""
        self._start += by

    def good(self) -> Sent:
        """Make one ordinary QoS 1 message."""
        return self._message(1)

    def _next(self) -> Sent:
        rng, mix = self._random, self.mix
        dice = rng.random()
        before = self._recent.get(f"{self.name}{rng.randrange(self.devices)}")
        kinds: tuple[tuple[float, Callable[[], Sent | None]], ...] = (
            (mix.repeats, lambda: before),
            (mix.conflicts, lambda: self._conflict(before) if before and not before.shaped else None),
            (mix.rubbish, self._rubbish),
        )
        for share, make in kinds:
            if dice < share and (made := make()):
                return made
            dice -= share
        qos = 0 if rng.random() < mix.qos0 else 2 if rng.random() < mix.qos2 else 1
        sent = self._message(qos)
        if rng.random() < mix.shapes:
            reshape(sent, rng, self._counters)
        return sent

    def _message(self, qos: int) -> Sent:
        rng = self._random
        number = rng.randrange(self.devices)
        device = f"{self.name}{number}"
        self._made += 1
        key = f"{self.name}-{self.seed}-{self._made}"
        region = None if rng.random() < 0.03 else REGIONS[number % len(REGIONS)]
        if rng.random() < 0.02:
            region = rng.choice(REGIONS)
        at = self._start + timedelta(milliseconds=100 * (self._made // 4))
        if rng.random() < 0.1:
            at -= timedelta(seconds=rng.randrange(3600))
        ts = at.isoformat(timespec="microseconds").replace("+00:00", "Z")
        metrics: dict[str, Scalar] = {"temperature": round(rng.uniform(-40, 60), 2)}
        if rng.random() < 0.5:
            metrics["humidity"] = round(rng.uniform(0, 100), 3)
        if rng.random() < 0.3:
            metrics["pulses"] = rng.randrange(-5, 10**6)
        if rng.random() < 0.2:
            metrics["open"] = rng.random() < 0.5
        if rng.random() < 0.1:
            metrics["state"] = rng.choice(("idle", "busy", "über"))
        sent = plain(device, key, region, ts, metrics, qos)
        self._recent[device] = sent
        return sent

    def _conflict(self, before: Sent) -> Sent:
        other: dict[str, Scalar] = {**before.metrics, "temperature": self._random.randrange(1000, 2000)}
        return plain(before.device, before.key, before.region, before.ts, other, 1)

    def _rubbish(self) -> Sent:
        like = self._message(1)
        self._recent.pop(like.device, None)
        like.payload = self._random.choice(
            (
                like.payload[:-1],
                like.payload.replace(b'"temperature":', b'"temperature":NaN,"t":'),
                b'{"ts":"2190-01-01T00:00:00Z",' + like.payload.replace(b'"ts"', b'"was"')[1:],
                like.payload[:-2] + b"\xff}",
            )
        )
        like.sound = False
        return like


def plain(
    device: str, key: str | None, region: str | None, ts: str | None, metrics: dict[str, Scalar], qos: int
) -> Sent:
    """Make a message in the default form."""
    body: dict[str, object] = {"id": key, **({} if ts is None else {"ts": ts}), **metrics}
    if region is not None:
        body["region"] = region
    return Sent(device, key, region, ts, metrics, json.dumps(body, separators=(",", ":")).encode(), qos)
