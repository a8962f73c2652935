"""One viewer's stream of server-sent events (WHATWG HTML, §9.2), as a bare ASGI application.

Each message is a frame; `pulse` events in between say that the connection lives while there is nothing new.
A viewer who takes nothing for ten seconds does not count as one any more: its stream ends as soon as it can
be told so.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from litestar.types import Receive, Send

    from projector.live.feed import Feed, Viewer

PULSE_S: Final = 2.0
PATIENCE_S: Final = 10.0
_PULSE: Final = b"event: pulse\ndata: {}\n\n"
_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would collect it
)

log = structlog.get_logger()


async def stream(feed: Feed, receive: Receive, send: Send) -> None:
    """Send frames until the viewer leaves, is too slow, or the feed ends.

    Raises:
        TooManyViewersError: before anything is sent.
    """
    with feed.viewer() as viewer:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await _first(_left(receive), _frames(viewer, send))
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _frames(viewer: Viewer, send: Send) -> None:
    try:
        while True:
            frame = await viewer.next(PULSE_S)
            body = _PULSE if frame is None else b"data: %b\n\n" % frame
            async with asyncio.timeout(PATIENCE_S):
                await send({"type": "http.response.body", "body": body, "more_body": True})
    except EOFError:
        pass
    except TimeoutError:
        log.warning("live_viewer_too_slow", patience_s=PATIENCE_S)


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
