"""What Redis must hold, worked out from measurements the slow way and apart from the projector's own fold.

Counts, minima, maxima, last values and times are compared exactly, sums and averages to 1e-9. When each view
was last updated is the projector's own affair and is not compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Scalar = bool | int | float | str
View = dict[str, Scalar]

TOLERANCE = 1e-9
NOT_COMPARED = {"updated_at", "updated_ms"}
_INEXACT = ("sum_", "avg_")
_AHEAD = timedelta(minutes=5)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Event(NamedTuple):
    """One measurement."""

    device: str
    key: str
    region: str | None
    ts: str
    received_at: str
    metrics: dict[str, Scalar]
    tags: dict[str, str]


@dataclass
class Expected:
    """Views by their key in Redis, and the scores of `devices:last_seen`."""

    views: dict[str, View] = field(default_factory=dict)
    last_seen: dict[str, float] = field(default_factory=dict)


def fold(events: Iterable[Event]) -> Expected:
    """Fold a whole history."""
    expected = Expected()
    by_device: dict[str, list[Event]] = {}
    by_region: dict[str, list[Event]] = {}
    for event in sorted(events, key=_order):
        by_device.setdefault(event.device, []).append(event)
        if event.region is not None:
            by_region.setdefault(event.region, []).append(event)
    homes = {
        device: next((event.region for event in reversed(history) if event.region is not None), None)
        for device, history in by_device.items()
    }
    for device, history in by_device.items():
        view: View = {"device_id": device, **_statistics(history)}
        ahead = _time(history[-1].ts) - _time(history[-1].received_at)
        if ahead > _AHEAD:
            view["clock_ahead_ms"] = ahead // timedelta(milliseconds=1)
        tags = next((event.tags for event in reversed(history) if event.tags), {})
        view |= {f"tag_{name}": value for name, value in tags.items()}
        home = homes[device]
        if home is not None:
            view["region"] = home
        expected.views[f"device:stats:{device}"] = view
        expected.last_seen[device] = float(view["last_seen_ms"])
    for region, history in by_region.items():
        members = sum(home == region for home in homes.values())
        expected.views[f"region:stats:{region}"] = {
            "region": region,
            "device_count": members,
            **_statistics(history),
        }
    return expected


def differences(expected: Mapping[str, View], found: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Say what differs, field by field."""
    result = [f"{key} is missing" for key in expected.keys() - found.keys()]
    result += [f"{key} is there" for key in found.keys() - expected.keys()]
    for key in expected.keys() & found.keys():
        want, have = expected[key], found[key]
        result += [
            f"{key} {name}: {have.get(name)!r}, expected {want.get(name)!r}"
            for name in sorted((want.keys() | have.keys()) - NOT_COMPARED)
            if not _equal(name, want.get(name), have.get(name))
        ]
    return result


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _ordered_at(event: Event) -> datetime:
    return min(_time(event.ts), _time(event.received_at) + _AHEAD)


def _order(event: Event) -> tuple[datetime, datetime, str, str]:
    return _ordered_at(event), _time(event.received_at), event.key, event.device


def _statistics(history: list[Event]) -> View:
    """Of events in their total order."""
    at = _ordered_at(history[-1])
    view: View = {
        "last_seen": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "last_seen_ms": (at - _EPOCH) // timedelta(milliseconds=1),
        "sample_count": len(history),
    }
    values: dict[str, list[float]] = {}
    for event in history:
        for name, value in event.metrics.items():
            view[f"last_{name}"] = value
            if not isinstance(value, str):
                values.setdefault(name, []).append(float(value))
    for name, numbers in values.items():
        total = math.fsum(numbers)
        view[f"count_{name}"] = len(numbers)
        view[f"min_{name}"], view[f"max_{name}"] = min(numbers), max(numbers)
        view[f"sum_{name}"], view[f"avg_{name}"] = total, total / len(numbers)
    return view


def _equal(name: str, want: Scalar | None, have: str | None) -> bool:
    if want is None or have is None:
        return want == have
    if isinstance(want, str):
        return have == want
    try:
        number = float(have)
    except ValueError:
        return False
    if name.startswith(_INEXACT):
        return math.isclose(number, want, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return number == want
