"""Names in Redis and PostgreSQL by which the write side's tools tell how far the views are."""

from __future__ import annotations

from typing import Final

PROJECTION: Final = "redis"
"""The live views, in the table `projections`."""

CURSORS: Final = "projector:cursor"
EPOCHS: Final = "projector:epoch"
"""Hashes by stream; in front of both comes `redis.prefix`."""

UNFINISHED: Final = "unfinished"
"""Among the epochs, and instead of one: the views are being replaced, or given up until they are."""

OUTDATED: Final = "outdated"
"""Instead of an epoch: another version of the projector wrote the views."""

DAMAGED: Final = "damaged"
"""Instead of an epoch: there are views, and what says how far they have come is gone, or a part of it."""

FORMAT: Final = "format"
VIEWS_FORMAT: Final = "2"
"""Among the epochs: what marks mean. 1, which was not written down, ordered equal times by key."""

VERSION: Final = "version"
"""Among the epochs: which write was the last. Whoever remembers views knows by it whether others wrote."""

STAGED: Final = "staged"
"""Among the epochs: how many pieces of the last run applied are to be set."""

REGIONS_DROPPED: Final = "regions_dropped"
"""Among the epochs: how many regions have made room for others, and begin anew should they come back."""

EXPIRED: Final = "projector:expired"
"""A hash by device of those that were silent for too long; in front comes `redis.prefix`."""


def device_key(prefix: str, device_id: str) -> str:
    """The hash with a device's statistics."""
    return f"{prefix}device:stats:{device_id}"
