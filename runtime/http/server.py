"""Serves an application in the loop that is already running, beside the pipeline."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
import uvicorn

from runtime.errors import Stop
from runtime.http.connection import KERNEL_BYTES, Connection
from runtime.settings import host_port

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from litestar import Litestar

    from runtime.http.front import Front

_GRACE_S = 2
_HANDSHAKE_S = 10.0
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
        front.tls.context if front and front.tls else None,
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

    def __init__(self, config: uvicorn.Config, tls: ssl.SSLContext | None) -> None:
        super().__init__(config)
        self._leaving = asyncio.Event()
        self._tls = tls

    def leave(self) -> None:
        """Stop serving."""
        self.should_exit = True
        self._leaving.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; a TLS handshake may take ten seconds, where uvicorn leaves it a minute."""
        await super().startup(sockets=[] if self._tls else sockets)
        if self._tls:
            loop = asyncio.get_running_loop()
            options: dict[str, Any] = {"ssl": self._tls, "ssl_handshake_timeout": _HANDSHAKE_S}
            for each in sockets or []:
                server = await loop.create_server(self._connection, sock=each, backlog=_BACKLOG, **options)
                self.servers.append(server)

    def _connection(self) -> asyncio.Protocol:
        state = self.lifespan.state
        return self.config.http_protocol_class(  # type: ignore[call-arg]  # as uvicorn makes it
            config=self.config, server_state=self.server_state, app_state=state
        )

    async def main_loop(self) -> None:
        """Write the date of answers once a second, which is all that uvicorn has to do ten times as often."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DATE_S):
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
