"""Where connections over TLS come in.

One counts from the moment it is there: who shakes no hands costs a file for as long as he is waited for, and
would otherwise be in no count until the process had no files left for anybody.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NoReturn

import structlog

from runtime.http.proxies import plain

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable

    from runtime.http.limits import Limits

HANDSHAKE_S: Final = 10.0
_AGAIN_S: Final = 1.0

log = structlog.get_logger()


class Door:
    """That of one listener.

    Args:
        tls: the listener's.
        limits: which connections may be.
        make: makes the protocol of a connection that has been let in; told what it leaves `limits` with.
        there: how many connections there are beyond the door.
    """

    def __init__(
        self,
        tls: ssl.SSLContext,
        limits: Limits,
        make: Callable[[str], asyncio.Protocol],
        there: Callable[[], int],
    ) -> None:
        self._tls = tls
        self._limits = limits
        self._make = make
        self._there = there
        self._greeting: set[asyncio.Task[None]] = set()

    async def run(self, listener: socket.socket) -> NoReturn:
        """Let in who comes, until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    connection, address = await loop.sock_accept(listener)
                except OSError as error:  # left already, or no file is left
                    log.debug("http_connection_lost", reason=error.strerror)
                    await asyncio.sleep(_AGAIN_S)
                    continue
                entered = self._limits.connect(plain(address[0]), self._there() + len(self._greeting) + 1)
                if entered is None:
                    log.debug("http_connection_refused", address=address[0])
                    connection.close()
                    continue
                greeting = asyncio.create_task(self._greet(connection, entered), name="tls-handshake")
                self._greeting.add(greeting)
                greeting.add_done_callback(self._greeting.discard)
        finally:
            for each in self._greeting:
                each.cancel()

    async def _greet(self, connection: socket.socket, entered: str) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._make(entered),
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=HANDSHAKE_S,
            )
        except (OSError, asyncio.CancelledError):
            self._limits.leave(entered)
