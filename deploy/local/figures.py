"""The demo's numbers: read from the processes, over HTTP and from their logs, never counted here."""

from __future__ import annotations

import json
import time
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

_TIMEOUT_S = 2.0
_PROJECTOR_LAG = "projector_lag_seconds"


class NoAnswerError(Exception):
    """A process did not answer, or not with what was asked for; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What gateway and projector say of themselves at one moment.

    Attributes:
        at: seconds of the monotonic clock.
        received: readings and rejections taken from the broker; equal to the sum of the four that follow.
        dead_letters: by reason.
        projected: of the committed, how many the gateway knows to be in Redis.
        applied: events that the projector applied since it started.
        lag_s: seconds a message took from receipt to a step, by step.
        cpu_s: CPU seconds that each process has used.
    """

    at: float
    received: int
    committed: int
    duplicate: int
    in_flight: int
    spooled: int
    projected: int
    applied: int
    dead_letters: dict[str, int] = field(default_factory=dict)
    lag_s: dict[str, float] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)

    @property
    def dead_lettered(self) -> int:
        """Dead letters of every reason."""
        return sum(self.dead_letters.values())

    @property
    def quiet(self) -> bool:
        """Whether nothing is under way any more: not in the gateway, and not between it and Redis."""
        return self.in_flight == 0 and self.spooled == 0 and self.projected == self.committed

    def line(self) -> str:
        """The accounting line."""
        return (
            f"received={self.received} committed={self.committed} duplicate={self.duplicate} "
            f"dead_lettered={self.dead_lettered} in_flight={self.in_flight} spooled={self.spooled} "
            f"projected={self.projected}"
        )

    def faults(self) -> list[str]:
        """What does not add up, in a person's words; empty when the promise of the accounting line holds."""
        faults = []
        settled = self.committed + self.duplicate + self.dead_lettered
        if self.received != settled + self.in_flight + self.spooled:
            faults.append(
                f"{self.received} received, but {settled} settled, {self.in_flight} in flight "
                f"and {self.spooled} in the spool"
            )
        if self.in_flight:
            faults.append(f"{self.in_flight} still in flight")
        if self.projected != self.committed:
            faults.append(f"{self.committed} committed, but {self.projected} projected")
        return faults


@dataclass(frozen=True, slots=True)
class Region:
    """A region as Redis has it.

    Attributes:
        mean_temperature: of all its readings, in °C; None before the first.
    """

    name: str
    devices: int
    messages: int
    mean_temperature: float | None


def read_figures(gateway_url: str, projector_url: str) -> Figures:
    """Read both processes' metrics.

    Raises:
        NoAnswerError: one of them does not answer.
    """
    gateway = _metrics(f"{gateway_url}/metrics")
    projector = _metrics(f"{projector_url}/metrics")
    return Figures(
        at=time.monotonic(),
        received=_total(gateway, "gateway_received_total"),
        committed=_total(gateway, "gateway_committed_total"),
        duplicate=_total(gateway, "gateway_duplicate_total"),
        in_flight=_total(gateway, "gateway_in_flight"),
        spooled=_total(gateway, "gateway_spooled"),
        projected=_total(gateway, "gateway_projected_total"),
        applied=_total(projector, "projector_events_applied_total"),
        dead_letters={
            labels["reason"]: int(value)
            for name, labels, value in gateway
            if name == "gateway_dead_lettered_total" and value
        },
        lag_s={
            **{labels["step"]: value for name, labels, value in gateway if name == "gateway_lag_seconds"},
            "projected": max(
                (
                    value
                    for name, labels, value in projector
                    if name == _PROJECTOR_LAG and labels["step"] == "projected"
                ),
                default=0.0,
            ),
        },
        cpu_s={
            "gateway": _value(gateway, "process_cpu_seconds_total"),
            "projector": _value(projector, "process_cpu_seconds_total"),
        },
    )


def is_ready(url: str) -> bool:
    """Whether a process says that it is ready."""
    try:
        _get(f"{url}/readyz")
    except NoAnswerError:
        return False
    return True


async def read_regions(redis: Redis, prefix: str) -> list[Region]:
    """Read every region's statistics.

    Args:
        redis: a client that decodes answers.
        prefix: what the configuration puts before every key.

    Raises:
        NoAnswerError: Redis does not answer.
    """
    try:
        keys = sorted([key async for key in redis.scan_iter(match=f"{prefix}region:stats:*", count=1000)])
        hashes = [await redis.hgetall(key) for key in keys]
    except RedisError as error:
        raise NoAnswerError(f"redis: {error}") from error
    return [
        Region(
            name=str(found["region"]),
            devices=int(found["device_count"]),
            messages=int(found["sample_count"]),
            mean_temperature=float(found["avg_temperature"]) if "avg_temperature" in found else None,
        )
        for found in hashes
        if found
    ]


class LogTail:
    """Reads the structured events that a process appends to its log.

    Args:
        path: a file of JSON lines; other lines in it are passed over.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[dict[str, Any]]:
        """The events since the last call, complete lines only."""
        with self._path.open("rb") as log:
            log.seek(self._offset)
            lines = log.read().splitlines(keepends=True)
        events = []
        for line in lines:
            if not line.endswith(b"\n"):
                break
            self._offset += len(line)
            if line.startswith(b"{"):
                events.append(json.loads(line))
        return events


def _get(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310  # our own http URLs
            return str(answer.read(), "utf-8")
    except OSError as error:
        raise NoAnswerError(f"{url}: {error}") from error


def _metrics(url: str) -> list[tuple[str, dict[str, str], float]]:
    return [
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(_get(url))
        for sample in family.samples
    ]


def _value(samples: list[tuple[str, dict[str, str], float]], name: str) -> float:
    return sum(value for sample, _, value in samples if sample == name)


def _total(samples: list[tuple[str, dict[str, str], float]], name: str) -> int:
    return int(_value(samples, name))
