"""What goes through all devices does so in pieces, between which others have their turn."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

PIECE: Final = 5000  # a few milliseconds


def pieces(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    """A list in parts."""
    return (ids[start : start + PIECE] for start in range(0, len(ids), PIECE))


async def in_order(ids: Sequence[str]) -> list[str]:
    """By name."""
    found: list[str] = []
    for piece in pieces(ids):
        found += sorted(piece)
        found.sort()  # two runs: merged, not sorted anew
        await asyncio.sleep(0)
    return found


async def by(ids: Sequence[str], key: Callable[[str], float]) -> list[str]:
    """By key, then by name."""
    found: list[tuple[float, str]] = []
    for piece in pieces(ids):
        found += sorted((key(id_), id_) for id_ in piece)
        found.sort()  # two runs: merged, not sorted anew
        await asyncio.sleep(0)
    return [id_ for _, id_ in found]


async def those(ids: Sequence[str], fit: Callable[[str], bool]) -> list[str]:
    """Those that fit."""
    found: list[str] = []
    for piece in pieces(ids):
        found += filter(fit, piece)
        await asyncio.sleep(0)
    return found
