"""What a session makes of connections that fail, end early, or are taken over: whom it tells, and how often.

- A failure is told at once when its reason is new, else once a minute (`runtime.outage`).
- The backoff begins anew only after a connection that lasted; one that the broker ends again and again
  (another client with our id on MQTT 3.1.1, a full broker) is not tried at full speed.
- Brokers that speak MQTT 3.1.1, and mosquitto before 2.0.15, just close the connection instead of telling
  that it was taken over. So connections that end again and again soon after they were made are logged with
  that hint.
- Taken over means that another client uses our client id. Two that come back at once take each other's
  connection for ever, so the one taken over waits as long as the backoff allows, and gives up (`Stop`) at the
  second time within a minute.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from runtime.errors import Stop
from runtime.mqtt.connection import Refused
from runtime.outage import Outage

if TYPE_CHECKING:
    import structlog

    from runtime.backoff import Backoff
    from runtime.mqtt.port import Disconnected, SessionOptions, SessionStatus

_TAKEOVER_WINDOW_S: Final = 60.0
_UNSTABLE_AFTER: Final = 3  # connections in a row


class Temper:
    """Of one session.

    Args:
        options: of the session.
        status: where it is said.
        backoff: reset when a connection has lasted.
        log: bound to the session.
    """

    def __init__(
        self,
        options: SessionOptions,
        status: SessionStatus,
        backoff: Backoff,
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        self._options = options
        self._status = status
        self._backoff = backoff
        self._log = log
        self._outage: Outage | None = None
        self._short_lived = 0
        self._taken_over_at: float | None = None

    @property
    def complained(self) -> bool:
        """Whether a failure has been told since the last connection."""
        return self._outage is not None

    def connected(self) -> None:
        """There is a connection."""
        self._status.reason, self._status.refused = "", False
        self._outage = None

    def failed(self, error: Disconnected) -> None:
        """There is none, and why."""
        reason = error.reason
        self._status.reason, self._status.refused = reason, isinstance(error, Refused)
        now = asyncio.get_running_loop().time()
        self._outage = self._outage or Outage(now)
        if self._outage.is_news(reason, now):
            self._log.warning("connection_failed", reason=reason)

    def ended(self, reason: str, lived_s: float) -> None:
        """A connection was lost."""
        self._status.reason = reason
        self._log.warning("disconnected", reason=reason)
        if lived_s > self._options.backoff_max_s:
            self._backoff.reset()
            self._short_lived = 0
            return
        self._short_lived += 1
        if self._short_lived == _UNSTABLE_AFTER:
            self._log.error(
                "connection_unstable",
                ended_early=self._short_lived,
                hint="the broker ends connections soon after accepting them, as it does when another client "
                "uses this client id",
            )

    async def yield_to_other(self) -> None:
        """Another client took the connection over: wait for as long as can be.

        Raises:
            Stop: it did so a moment ago.
        """
        now = asyncio.get_running_loop().time()
        self._status.taken_over += 1
        window = max(_TAKEOVER_WINDOW_S, 4 * self._options.backoff_max_s)
        if self._taken_over_at is not None and now - self._taken_over_at < window:
            raise Stop(
                f"another client connects as {self._options.client_id!r} again and again: "
                "give each its own broker.client_id"
            )
        self._taken_over_at = now
        self._log.error("session_taken_over", retry_in_s=self._options.backoff_max_s)
        await asyncio.sleep(self._options.backoff_max_s)
