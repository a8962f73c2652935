"""What the broker says of itself: messages that it acknowledged and then dropped.

Brokers drop what does not fit their queues, without a word to sender or receiver; mosquitto counts such
messages under `$SYS`. A session of its own listens to that count, because a broker that refuses the
subscription, as some do, must not keep the gateway from its work. It goes on trying for as long as the
gateway lives: a broker that is late is not one that refuses, and one that refuses may be told otherwise.

mosquitto says the count when it changes, and grants subscriptions whose messages it then withholds. So it is
known only while something comes: how long the broker has been up changes always.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import TYPE_CHECKING, Final, NoReturn

import structlog

from runtime.mqtt import MqttSession, Subscription, options_from

if TYPE_CHECKING:
    from runtime.settings import Broker

_TOPIC: Final = "$SYS/broker/publish/messages/dropped"
_PULSE: Final = "$SYS/broker/uptime"
_PATIENCE_S: Final = 60.0
_STALE_S: Final = 300.0

log = structlog.get_logger()


class BrokerWatch:
    """Follows the broker's count of dropped messages.

    Args:
        broker: with a client id of its own.
        patience_s: how long to wait before telling that the count is not to be had, and the longest pause
            between two attempts.

    Attributes:
        dropped: since the broker started; None while it has not said. mosquitto says it at its start and when
            it changes, and keeps it for a minute.
        listens: whether the broker lets us hear it: something came within the last five minutes.
    """

    def __init__(self, broker: Broker, *, patience_s: float = _PATIENCE_S) -> None:
        topics = [Subscription(topic, 0) for topic in (_TOPIC, _PULSE)]
        options = options_from(broker, subscriptions=topics, clean_start=True)
        self._session = MqttSession(dataclasses.replace(options, backoff_max_s=patience_s))
        self._patience_s = patience_s
        self.dropped: int | None = None
        self._heard_at: float | None = None
        self._heard = asyncio.Event()

    @property
    def listens(self) -> bool:
        """Whether the broker is there, and says something of itself."""
        heard = self._heard_at is not None and time.monotonic() < self._heard_at + _STALE_S
        return heard and self._session.status.connected

    async def run(self) -> NoReturn:
        """Listen until cancelled."""
        async with self._session as session, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tell(), name="broker-watch-tell")
            while True:
                for delivery in (await session.receive()).deliveries:
                    self._heard_at = time.monotonic()
                    self._heard.set()
                    if delivery.topic == _TOPIC:
                        self._note(delivery.payload)

    async def _tell(self) -> None:
        """Say once that the count is not to be had, why, and when it is after all."""
        status = self._session.status
        try:
            async with asyncio.timeout(self._patience_s):
                await self._heard.wait()
        except TimeoutError:
            reason = "granted, and nothing came" if status.connected else status.reason
            log.warning("broker_drops_unknown", topic=_TOPIC, refused=status.refused, reason=reason)
            await self._heard.wait()
            log.info("broker_drops_known", topic=_TOPIC)

    def _note(self, payload: bytes) -> None:
        if not payload.isdigit():
            return
        before, self.dropped = self.dropped or 0, int(payload)
        if self.dropped > before:
            log.warning(
                "broker_dropped_messages", dropped=self.dropped - before, since_its_start=self.dropped
            )
