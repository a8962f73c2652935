"""Bringing the filters of a connection to what is configured.

New ones are subscribed before old ones are unsubscribed, so that no message falls between a filter and the
one that stands for it now. By MQTT 3.1.1 what the broker's session holds already is not subscribed again,
because that would bring the retained messages again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from runtime.mqtt.port import Disconnected

if TYPE_CHECKING:
    from collections.abc import Sequence

    import structlog

    from runtime.mqtt.connection import Connection
    from runtime.mqtt.port import SessionOptions, Subscription

COPIES_HINT: Final = (
    "a message that several of these filters match may come once for each: write them so that one covers the "
    "others, or use a broker with subscription identifiers (MQTT 5)"
)


class Filters:
    """Of one session."""

    def __init__(self, options: SessionOptions, log: structlog.stdlib.BoundLogger) -> None:
        self._answer_s = options.connect_timeout_s
        self._wanted = options.subscriptions
        self._known = options.known  # what the broker's session holds
        self._asked = options.known  # what it may hold
        self._log = log
        self._subscribed = False

    async def apply(self, connection: Connection) -> None:
        """Subscribe and unsubscribe, and tell what is not as it was asked for.

        Raises:
            Disconnected: the broker refused a filter, or the connection went.
        """
        names = [each.topic_filter for each in self._wanted]
        stale = [each.topic_filter for each in self._asked if each.topic_filter not in names]
        if self._wanted and not self._held(connection):
            self._judge(await connection.subscribe(self._wanted))
            self._subscribed = True
        if connection.session_present and stale:
            await connection.unsubscribe(stale)
            self._log.info("unsubscribed", topic_filters=stale)
        overlapping = [each.topic_filter for each in self._wanted if each.overlaps]
        if overlapping and not connection.tells_copies:
            self._log.warning("copies_not_told_apart", topic_filters=overlapping, hint=COPIES_HINT)

    async def change(self, wanted: Sequence[Subscription], connection: Connection | None) -> None:
        """Subscribe other filters from now on; on a connection what is new first, and then not what is old.

        When only the last fails the change holds all the same: the next connection unsubscribes them.

        Raises:
            Disconnected: the broker refused a new filter or did not answer, or the connection went; the
                wanted ones are those of before.
        """
        added = [each for each in wanted if each not in self._wanted]
        names = {each.topic_filter for each in wanted}
        stale = [each.topic_filter for each in self._wanted if each.topic_filter not in names]
        # Before it is asked for: who does not answer may have subscribed it.
        self._asked = tuple(
            {each.topic_filter: each for each in (*self._asked, *self._wanted, *added)}.values()
        )
        if connection is not None and added:
            try:
                async with asyncio.timeout(self._answer_s):
                    await connection.subscribe(added)
            except TimeoutError:
                raise Disconnected(f"no answer to SUBSCRIBE within {self._answer_s:g} s") from None
        self._wanted, self._known = tuple(wanted), ()
        self._subscribed = connection is not None
        if connection is None or not stale:
            return
        try:
            async with asyncio.timeout(self._answer_s):
                await connection.unsubscribe(stale)
        except (Disconnected, TimeoutError) as error:
            reason = str(error) or f"no answer to UNSUBSCRIBE within {self._answer_s:g} s"
            self._log.warning("unsubscribe_failed", topic_filters=stale, reason=reason)
        else:
            self._log.info("unsubscribed", topic_filters=stale)

    def _held(self, connection: Connection) -> bool:
        """Whether the broker holds them all already, and should not be asked again."""
        return (
            connection.session_present
            and connection.subscribing_repeats_retained
            and (self._subscribed or set(self._wanted) <= set(self._known))
        )

    def _judge(self, granted: list[int]) -> None:
        for asked, qos in zip(self._wanted, granted, strict=True):
            if qos < asked.qos:
                self._log.warning(
                    "subscription_downgraded", topic_filter=asked.topic_filter, asked=asked.qos, granted=qos
                )
