"""Sets views in Redis: what a run makes of them, in one call or in several, of which the first decides.

Redis has one thread, and everybody waits while a script sets views. So a run of many is set in pieces of some
milliseconds. The first call brings all of them, and sets one: with that the run is applied, and the cursor
moved. The others lie in a list (`projector:staged`) until each is set by a call of its own. Whoever finds
some there sets them before anything else, and looks each second whether there are any: the projector that
staged them died, or it is at it. Until none is left, no script changes the views otherwise, and none reads
them in order to do so.

Of a run that is very much, pieces are put in the list before (`Pieces`), some at a time, and the first call
finds them there. What it does not count is nobody's: the next to begin a list removes it.
"""

from __future__ import annotations

import asyncio
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import msgspec

from contract.views import VIEWS_FORMAT
from projector.views.read import answering
from runtime import faults

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from redis.asyncio import Redis

    from projector.views.apply import Run
    from projector.views.position import Keys

_FOLDER: Final = resources.files("projector.views")
_SET: Final = _FOLDER.joinpath("set.lua").read_text(encoding="utf-8")
_WRITE: Final = _SET + _FOLDER.joinpath("write.lua").read_text(encoding="utf-8")
_SETTLE: Final = _SET + _FOLDER.joinpath("settle.lua").read_text(encoding="utf-8")
_STAGE: Final = _SET + _FOLDER.joinpath("stage.lua").read_text(encoding="utf-8")

TOGETHER: Final = 24  # pieces that one call brings: about 4 MB

_encoder: Final = msgspec.msgpack.Encoder()


class Answer(NamedTuple):
    """What `write.lua` says: a status, the cursor, and a version or a key."""

    status: str
    cursor: int
    text: str


class Pieces:
    """Those of one run, as they come: a few are held, of more all but the first are put in the list.

    Attributes:
        version: that the write will leave.
        held: those to be sent with the write, the first of all among them; each with its marks.
        count: of all.
        listed: how long the list is; 0 when nothing was put there.
    """

    def __init__(self, version: str) -> None:
        self.version = version
        self.held: list[tuple[bytes, bytes]] = []
        self.count = self.listed = 0


class Setting:
    """Sets views of one set."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._keys = keys.fixed
        self._stage = redis.register_script(_STAGE)
        self._write = redis.register_script(_WRITE)
        self._settle = redis.register_script(_SETTLE)

    async def add(self, pieces: Pieces, piece: tuple[bytes, bytes]) -> bool:
        """Add a piece with its marks to those of a run that is not written yet.

        Returns:
            False when another has written, or is at it: then the run cannot be written.

        Raises:
            Retry: Redis is away, full, or a key of ours is something else.
        """
        pieces.held.append(piece)
        pieces.count += 1
        return len(pieces.held) <= TOGETHER or await self._put(pieces)

    async def _put(self, pieces: Pieces) -> bool:
        """Put all but the first in the list."""
        arguments: list[str | int | bytes] = [pieces.version, pieces.listed]
        for piece in pieces.held[1:]:
            arguments += piece
        del pieces.held[1:]
        with answering():
            pieces.listed = await cast("Awaitable[int]", self._stage(self._keys, arguments))
        faults.point("listed")
        return pieces.listed > 0

    async def write(self, run: Run, pieces: Pieces, *, expected: str, lost: str) -> Answer:
        """Set the first piece of a run, stage the others, and move the cursor.

        Args:
            run: whose rows the pieces are of.
            pieces: at least one.
            expected: the version of the views that are changed.
            lost: the key of a view that was found to be gone, or nothing.

        Raises:
            Retry: Redis is away, or a key of ours is something else; unless the answer was lost, nothing was
                set.
        """
        if pieces.listed and len(pieces.held) > 1 and not await self._put(pieces):
            return Answer("stale", run.first - 1, "")
        head = (
            *(run.stream, run.epoch, run.first, run.last, run.written_at, VIEWS_FORMAT),
            *(expected, pieces.version, lost, pieces.listed),
        )
        arguments = [_encoder.encode(head)]
        for piece in pieces.held:
            arguments += piece
        with answering():
            reply = await cast("Awaitable[list[Any]]", self._write(self._keys, arguments))
        status, cursor, *rest = reply
        return Answer(status.decode(), cursor, b"".join(rest).decode(errors="replace"))

    async def settle(self) -> str:
        """Set what is staged; returns the key of a view that is gone, or nothing.

        Raises:
            Retry: Redis is away, or a key of ours is something else; the rest is staged still.
        """
        left = 1
        while left > 0:
            with answering():
                left, lost = await cast("Awaitable[tuple[int, bytes]]", self._settle(self._keys))
            if lost:
                return lost.decode(errors="replace")
            if left >= 0:
                faults.point("staged")
                await asyncio.sleep(0)
        return ""
