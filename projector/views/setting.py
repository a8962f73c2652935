"""Sets views in Redis: what a run makes of them, in one call or in several, of which the first decides.

Redis has one thread, and everybody waits while a script sets views. So a run of many is set in pieces of some
milliseconds. The first call brings all of them, and sets one: with that the run is applied, and the cursor
moved. The others lie in a list (`projector:staged`) until each is set by a call of its own. Whoever finds
some there sets them before anything else, and looks each second whether there are any: the projector that
staged them died, or it is at it. Until none is left, no script changes the views otherwise, and none reads
them in order to do so.
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
    from collections.abc import Awaitable, Sequence

    from redis.asyncio import Redis

    from projector.views.apply import Run
    from projector.views.position import Keys

_FOLDER: Final = resources.files("projector.views")
_SET: Final = _FOLDER.joinpath("set.lua").read_text(encoding="utf-8")
_WRITE: Final = _SET + _FOLDER.joinpath("write.lua").read_text(encoding="utf-8")
_SETTLE: Final = _SET + _FOLDER.joinpath("settle.lua").read_text(encoding="utf-8")

_encoder: Final = msgspec.msgpack.Encoder()


class Answer(NamedTuple):
    """What `write.lua` says: a status, the cursor, and a version or a key."""

    status: str
    cursor: int
    text: str


class Setting:
    """Sets views of one set."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._keys = keys.fixed
        self._write = redis.register_script(_WRITE)
        self._settle = redis.register_script(_SETTLE)

    async def write(
        self, run: Run, pieces: Sequence[tuple[bytes, bytes]], *, expected: str, version: str, lost: str
    ) -> Answer:
        """Set the first piece of a run, stage the others, and move the cursor.

        Args:
            run: whose rows the pieces are of.
            pieces: at least one, each with its marks.
            expected: the version of the views that are changed.
            version: the one that they have then.
            lost: the key of a view that was found to be gone, or nothing.

        Raises:
            Retry: Redis is away, or a key of ours is something else; unless the answer was lost, nothing was
                set.
        """
        head = (
            run.stream,
            run.epoch,
            run.first,
            run.last,
            run.written_at,
            VIEWS_FORMAT,
            expected,
            version,
            lost,
        )
        arguments = [_encoder.encode(head)]
        for piece in pieces:
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
