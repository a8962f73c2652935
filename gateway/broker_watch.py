"""What the broker says of itself: messages that it acknowledged and then dropped.

Brokers drop what does not fit their queues, without a word to sender or receiver; mosquitto counts such
messages under `$SYS`. A session of its own listens to that count, because a broker that refuses the
subscription, as some do, must not keep the gateway from its work.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from runtime.mqtt import MqttSession, Subscription, options_from

if TYPE_CHECKING:
    from runtime.settings import Broker

_TOPIC: Final = "$SYS/broker/publish/messages/dropped"
_PATIENCE_S: Final = 60.0

log = structlog.get_logger()


class BrokerWatch:
    """Follows the broker's count of dropped messages.

    Attributes:
        dropped: since the broker started; None while it has not said, as mosquitto does before the first.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.dropped: int | None = None

    async def run(self) -> None:
        """Listen until cancelled; ends by itself with a broker that does not let us."""
        options = options_from(self._broker, subscriptions=[Subscription(_TOPIC, 0)], clean_start=True)
        async with MqttSession(options) as session:
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    await session.connected()
            except TimeoutError:
                log.info("broker_drops_unknown", topic=_TOPIC, reason=session.status.reason)
                return
            while True:
                self._note((await session.receive()).deliveries[-1].payload)

    def _note(self, payload: bytes) -> None:
        if not payload.isdigit():
            return
        before, self.dropped = self.dropped or 0, int(payload)
        if self.dropped > before:
            log.warning(
                "broker_dropped_messages", dropped=self.dropped - before, since_its_start=self.dropped
            )
