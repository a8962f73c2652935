"""How an item looks: a compact line for a person, or one of JSON for a program. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click
import msgspec

from gateway.tail.items import DeadLetter, Measurement, Missed
from runtime.terminal import safe, span

if TYPE_CHECKING:
    from collections.abc import Callable

    from contract.events import Scalar
    from gateway.tail.items import Item

    Paint = Callable[..., str]

_LATE_S: Final = 60.0
_AHEAD_S: Final = -5.0

_encode = msgspec.json.Encoder().encode


def as_json(item: Item) -> str:
    """One line of JSON."""
    return _encode(item).decode()


def plain(item: Item) -> str:
    """A line without colours."""
    return _line(item, lambda text, **_style: text)


def coloured(item: Item) -> str:
    """A line for a terminal. What only colours would say is in the words as well."""
    return _line(item, click.style)


def _line(item: Item, paint: Paint) -> str:
    if isinstance(item, Measurement):
        return _measurement(item, paint)
    if isinstance(item, DeadLetter):
        device = paint(safe(item.device_id or "unknown"), fg="cyan")
        reason = paint(f"REJECTED {item.reason}", fg="red", bold=True)
        where = paint(f"{safe(item.topic)}  {item.size}B  dead letter {item.id}", dim=True)
        return f"{paint(_clock(item.received_at), dim=True)}  {device}  {reason}  {safe(item.error)}  {where}"
    if isinstance(item, Missed):
        rows = f"rows {item.first} to {item.last}" if item.last > item.first else f"row {item.first}"
        return paint(
            f"… {rows} of stream {item.stream} did not come by the topic (stored all the same)", fg="yellow"
        )
    return paint(f"… {item.lines} left out: what reads this is slower than what arrives", fg="yellow")


def _measurement(item: Measurement, paint: Paint) -> str:
    values = " ".join(
        f"{paint(safe(name), dim=True)}={_value(value)}" for name, value in item.metrics.items()
    )
    late = f"{span(item.late_s)} {'ahead' if item.late_s < 0 else 'late'}"
    if not _AHEAD_S <= item.late_s <= _LATE_S:
        late = paint(late, fg="yellow")
    return "  ".join(
        (
            paint(_clock(item.received_at), dim=True),
            paint(safe(item.device_id), fg="cyan"),
            paint(safe(item.region or "-"), fg="magenta"),
            values or "no metrics",
            f"{late}, {paint(f'here in {span(item.here_s)}', dim=True)}",
            paint(f"key={safe(item.key)}", dim=True),
        )
    )


def _clock(moment: str) -> str:
    """`2026-11-23T09:00:00.250000Z` → `09:00:00.250Z`."""
    return f"{moment[11:23]}Z"


def _value(value: Scalar) -> str:
    return safe(value) if isinstance(value, str) else msgspec.json.encode(value).decode()
