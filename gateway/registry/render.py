"""The registry for a person or a program; nothing that strangers wrote reaches a terminal unescaped. Pure."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Final

import msgspec

from gateway.registry.entry import every_text
from runtime.terminal import safe

if TYPE_CHECKING:
    from datetime import datetime

    from gateway.dead_letters.tally import Tally
    from gateway.registry.table import Changed, Listed

COLUMNS: Final = ("device", "name", "state", "every", "last heard", "held", "region", "labels")


def cells(device: Listed) -> tuple[str, ...]:
    """A device in `COLUMNS`."""
    labels = " ".join(f"{name}={value}" for name, value in sorted(device.labels.items()))
    return (
        safe(device.device_id),
        safe(device.name or "-"),
        device.state,
        every_text(device.expected_every_seconds) or "-",
        _time(device.last_seen),
        f"{device.held:,}" if device.held else "-",
        safe(device.region or "-"),
        safe(labels or "-"),
    )


def summary(changed: Changed, tally: Tally | None) -> str:
    """What became of a change, for a person.

    Args:
        changed: of the registry.
        tally: of what was held; None when nobody looked.
    """
    added, others, unchanged = changed
    parts = [f"{added:,} added", f"{others:,} changed"]
    if unchanged:
        parts.append(f"{unchanged:,} as they were")
    lines = [f"{added + others + unchanged:,} device{'s' if sum(changed) != 1 else ''}: {', '.join(parts)}"]
    if tally is not None and tally.selected:
        stored = f"{tally.stored:,} readings stored, {tally.duplicates:,} were there already"
        lines.append(f"{tally.replayed:,} held messages replayed: {stored}")
        lines += [f"{count:,} still held back: {reason}" for reason, count in tally.failing.most_common()]
        if tally.orphans:
            lines.append(f"{tally.orphans:,} parts of them are dead letters of their own now")
        if tally.stopped:
            lines.append(f"stopped: {tally.selected - tally.done:,} not looked at")
    return "\n".join(lines)


def encode(changed: Changed, tally: Tally | None) -> str:
    """The same as one line of JSON."""
    released = tally and tally.told()
    return msgspec.json.encode(changed._asdict() | {"released": released}).decode()


def _time(moment: datetime | None) -> str:
    return "never" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
