"""A connection whose other end has to take what it asked for.

What a client does not take is kept in the kernel and in this process, for as long as it stays connected: so
little is kept of it, and one who takes nothing of that for ten seconds is let go. Whatever was being sent to
it ends as if it had left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio

PATIENCE_S: Final = 10.0
ASKS_WITHIN_S: Final = 30.0
KERNEL_BYTES: Final = 32 * 1024  # Linux takes twice as much, and four megabytes if it is not told

log = structlog.get_logger()


class Connection(HttpToolsProtocol):
    """Ends when what is to be sent is not taken."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401  # the server's signature
        super().__init__(*args, **options)
        self._timer: asyncio.TimerHandle | None = None
        self._kept = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the server has it
        """Somebody has come."""
        super().connection_made(transport)
        self._asking = self.loop.call_later(ASKS_WITHIN_S, self._has_asked)

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
        self._asking.cancel()
        super().connection_lost(exc)

    def _has_asked(self) -> None:
        if self.cycle is None:
            self.transport.abort()  # type: ignore[unreachable]  # the server's type leaves out the beginning

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
