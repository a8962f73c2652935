"""One viewer's stream of server-sent events (WHATWG HTML, §9.2), as a bare ASGI application.

Each message is a frame; `pulse` events in between say that the connection lives while there is nothing new.
A viewer who takes nothing is let go by its connection (`runtime/http/connection.py`), but only when there is
more to be sent than fits on the way, which takes a quiet site minutes. So when all places are taken, viewers
are sent as much as fits, in comments, and who reads has taken that at once.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from litestar.types import Receive, Send

    from projector.live.feed import Feed, Viewer

PULSE_S: Final = 2.0
PROOF_BYTES: Final = 384 * 1024  # a third more than what systems keep for who does not read, measured
_PULSE: Final = b"event: pulse\ndata: {}\n\n"
_COMMENT: Final = b":%b\n\n" % (b" " * 16_381)
_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would collect it
)


async def stream(feed: Feed, receive: Receive, send: Send, may_look: Callable[[], bool]) -> None:
    """Send frames until the viewer leaves, is let go or may not look any more, or the feed ends.

    Raises:
        TooManyViewersError: before anything is sent.
    """
    with feed.viewer() as viewer:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await _first(_left(receive), _frames(viewer, send, may_look))
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _frames(viewer: Viewer, send: Send, may_look: Callable[[], bool]) -> None:
    try:
        while True:
            frame = await viewer.next(PULSE_S)
            if not may_look():
                return
            await _send(send, _PULSE if frame is None else b"data: %b\n\n" % frame)
            if viewer.doubted:
                for _ in range(PROOF_BYTES // len(_COMMENT)):
                    await _send(send, _COMMENT)
                viewer.has_read()
    except EOFError:
        pass


async def _send(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _first(*works: Awaitable[None]) -> None:
    """Wait for the first to end, end the others, and raise what it raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
