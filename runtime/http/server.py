"""Serves an application in the loop that is already running, beside the pipeline."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import structlog
import uvicorn

from runtime.errors import Stop
from runtime.http.connection import KERNEL_BYTES, Connection
from runtime.http.door import Door
from runtime.lifecycle import next_turn_s
from runtime.settings import host_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from litestar import Litestar

    from runtime.http.front import Front

_GRACE_S = 2
_DATE_S = 1.0
_BACKLOG = 1024  # as many pages as there are come back at once when a process has been away

log = structlog.get_logger()


async def serve(
    app: Litestar,
    address: str,
    stop: asyncio.Event,
    *,
    setting: str = "http",
    listening: asyncio.Event | None = None,
    front: Front | None = None,
) -> None:
    """Serve an application in this loop until `stop` is set, then finish what is being answered.

    Args:
        app: as `create_app` made it.
        address: `host:port`.
        stop: the process's stop event; signals stay with whoever set it.
        setting: the configuration key that holds the address, for the message when it cannot be used.
        listening: set when it listens.
        front: what stands before the application.

    Raises:
        Stop: the address cannot be listened on, or the application failed to start.
    """
    listener = _listen(address, setting)
    server = _Server(
        uvicorn.Config(
            front.wrap(app) if front else app,
            http=partial(Connection, limits=front.limits if front else None),  # type: ignore[arg-type]  # makes one
            ws="none",
            interface="asgi3",
            proxy_headers=False,  # the front's
            log_config=None,
            log_level="error",  # its warnings are of requests, as many as anybody likes
            access_log=False,
            server_header=False,
            lifespan="on",
            timeout_graceful_shutdown=_GRACE_S,
        ),
        front,
    )

    async def watch() -> None:
        await stop.wait()
        server.leave()

    watcher = asyncio.create_task(watch(), name="http-stop")
    tls = {"tls": True} if front and front.tls else {}
    log.info("http_listening", address="{}:{}".format(*listener.getsockname()[:2]), **tls)
    if listening is not None:
        listening.set()

    async def run() -> None:
        try:
            await server.serve(sockets=[listener])
        except SystemExit as error:  # uvicorn's way to say that the application's start-up failed
            raise Stop(f"{setting}: the HTTP application did not start") from error

    # A task of its own: cancelled, uvicorn would log a traceback where it only has to stop.
    serving = asyncio.create_task(run(), name="http-server")
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.force_exit = True
        server.leave()
        await asyncio.wait([serving], timeout=_GRACE_S)
        raise
    finally:
        watcher.cancel()
        listener.close()


class _Server(uvicorn.Server):
    """Leaves signals alone: the process has one place that handles them. And sleeps while nobody asks."""

    def __init__(self, config: uvicorn.Config, front: Front | None) -> None:
        super().__init__(config)
        self._leaving = asyncio.Event()
        self._door = (
            Door(
                front.tls.context, front.limits, self._connection, lambda: len(self.server_state.connections)
            )
            if front and front.tls
            else None
        )
        self._open: list[asyncio.Task[NoReturn]] = []

    def leave(self) -> None:
        """Stop serving."""
        self.should_exit = True
        self._leaving.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets=[] if self._door else sockets)
        if self._door:
            self._open = [
                asyncio.create_task(self._door.run(each), name="http-door") for each in sockets or []
            ]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let nobody in any more, and finish what is being answered."""
        for each in self._open:
            each.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await super().shutdown(sockets)

    def _connection(self, entered: str) -> asyncio.Protocol:
        state = self.lifespan.state
        return self.config.http_protocol_class(  # type: ignore[call-arg]  # as uvicorn makes it
            config=self.config, server_state=self.server_state, app_state=state, entered=entered
        )

    async def main_loop(self) -> None:
        """Write the date of answers once a second, which is all that uvicorn has to do ten times as often."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(next_turn_s(_DATE_S)):
                    await self._leaving.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(address: str, setting: str) -> socket.socket:
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            *host_port(address), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise Stop(f"{setting}: cannot listen on {address}: {error.strerror}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)  # each connection's too
        listener.bind(where)
        listener.listen(_BACKLOG)
        listener.setblocking(False)  # noqa: FBT003  # the standard library's signature
    except OSError as error:
        listener.close()
        why = os.strerror(error.errno) if error.errno else str(error)
        raise Stop(f"{setting}: cannot listen on {address}: {why}") from error
    return listener
