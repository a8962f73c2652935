"""Written beside a batch, in its transaction: edge nodes of Sparkplug, and how far a spool is drained."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from gateway.sparkplug.changes import Changes
from gateway.spool.places import Left, Place, note_places, noted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.sparkplug.keeper import Keeper
    from runtime.postgres import Connection

Change: TypeAlias = Changes | Place


class Beside:
    """Writes it.

    Args:
        keeper: of edge nodes.
        stream: of the gateway.
        left: tells what there is in the spool.
    """

    def __init__(self, keeper: Keeper, stream: int, left: Callable[[], Left] = Left) -> None:
        self._keeper = keeper
        self._stream = stream
        self._left = left

    async def write(self, connection: Connection, changes: Sequence[Change]) -> None:
        """Write what a batch changes."""
        if of_nodes := [each for each in changes if isinstance(each, Changes)]:
            await self._keeper.write(connection, of_nodes)
        if places := [each for each in changes if isinstance(each, Place)]:
            await note_places(connection, self._stream, places, self._left())

    def noted(self, places: Sequence[Place]) -> tuple[object, ...]:
        """What a call notes of places, and of what is left now."""
        return noted(places, self._left())
