"""A connection whose other end has to come to the point, and to take what it asked for.

A request has to end within half a minute and within a few pages of text: the parser keeps a line that has no
end, and copies all of it with each piece. What a client does not take is kept in the kernel and in this
process, for as long as it stays connected: so little is kept of it, and one who takes nothing of that for ten
seconds is let go. Whatever was being sent to it ends as if it had left. One connection too many is closed
before it says anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from runtime.http.proxies import plain

if TYPE_CHECKING:
    import asyncio

    from runtime.http.limits import Limits

PATIENCE_S: Final = 10.0
ASKS_WITHIN_S: Final = 30.0
ASKS_IN_BYTES: Final = 64 * 1024  # since the request before; with a body, which nobody here asks with
KERNEL_BYTES: Final = 32 * 1024  # Linux takes twice as much, and four megabytes if it is not told

log = structlog.get_logger()


class Connection(HttpToolsProtocol):
    """Ends when a request does not, or when what is to be sent is not taken.

    Args:
        limits: how many there may be; None: any number.
        entered: what to leave them with, of one that was let in already.
    """

    def __init__(
        self,
        *args: Any,  # noqa: ANN401  # the server's
        limits: Limits | None = None,
        entered: str | None = None,
        **options: Any,  # noqa: ANN401  # likewise
    ) -> None:
        super().__init__(*args, **options)
        self._limits = limits
        self._entered = entered
        self._timer: asyncio.TimerHandle | None = None
        self._kept = 0
        self._asking: asyncio.TimerHandle | None = None
        self._asked_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the server has it
        """Somebody has come."""
        super().connection_made(transport)
        if self.client is not None:
            self.client = (plain(self.client[0]), self.client[1])
        if self._limits is not None and self._entered is None and self.client is not None:
            self._entered = self._limits.connect(self.client[0], len(self.connections))
            if self._entered is None:
                log.debug("http_connection_refused", address=self.client[0])
                transport.abort()
                return
        self._begin()

    def data_received(self, data: bytes) -> None:
        """Something of a request, or of several."""
        self._begin()
        self._asked_bytes += len(data)
        super().data_received(data)
        if self._asked_bytes > ASKS_IN_BYTES:
            log.debug("http_request_too_long", most_bytes=ASKS_IN_BYTES)
            self.transport.abort()

    def on_message_begin(self) -> None:
        """A request begins; it may be the next within what was received at once."""
        super().on_message_begin()
        self._begin()

    def on_message_complete(self) -> None:
        """A request is whole."""
        self._end()
        super().on_message_complete()

    def pause_writing(self) -> None:
        """More is kept than may be: the writer waits, and so do we, for a while."""
        super().pause_writing()
        self._wait()

    def resume_writing(self) -> None:
        """It was taken."""
        self._forget()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The other end has left, or was let go."""
        self._forget()
        self._end()
        if self._limits is not None and self._entered:
            self._limits.leave(self._entered)
        super().connection_lost(exc)

    def _begin(self) -> None:
        if self._asking is None:
            self._asking = self.loop.call_later(ASKS_WITHIN_S, self.transport.abort)

    def _end(self) -> None:
        self._asked_bytes = 0
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None

    def _wait(self) -> None:
        self._kept = self.transport.get_write_buffer_size()
        self._timer = self.loop.call_later(PATIENCE_S, self._look)

    def _look(self) -> None:
        if self.transport.get_write_buffer_size() < self._kept:
            self._wait()
        else:
            log.debug("http_client_takes_nothing", patience_s=PATIENCE_S, kept_bytes=self._kept)
            self.transport.abort()

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
