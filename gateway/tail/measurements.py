"""Measurements from the internal topic, by a session that disturbs nobody.

It has a client id of its own, begins clean and leaves nothing behind at the broker, and asks for QoS 0, so
that a slow reader here is owed nothing there. What the broker then leaves out shows as a gap in the rows'
numbers.
"""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NoReturn
from uuid import uuid4

from contract.events import unwrap
from contract.signature import is_sealed
from contract.topics import all_streams, stream_of
from gateway.tail.items import Measurement, Missed
from runtime.mqtt import MqttSession, Subscription, options_from
from runtime.terminal import safe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from contract.events import EventBatch
    from gateway.tail.filters import Filters
    from gateway.tail.output import Output
    from gateway.tail.quiet import Heard
    from runtime.mqtt import Delivery
    from runtime.settings import Settings

_MAX_PACKET_BYTES: Final = 32 * 1024 * 1024  # as the projector
_MAX_PENDING_BYTES: Final = 8_000_000
_BACKOFF_MAX_S: Final = 3.0  # somebody is watching


def open_session(settings: Settings) -> MqttSession:
    """The session to listen with; enter it."""
    broker = settings.events_broker(f"{settings.broker.client_id}-tail-{uuid4().hex[:8]}")
    subscription = Subscription(all_streams(settings.events.topic), qos=0)
    return MqttSession(
        dataclasses.replace(
            options_from(broker, subscriptions=[subscription], clean_start=True),
            max_packet_bytes=_MAX_PACKET_BYTES,
            max_pending_bytes=_MAX_PENDING_BYTES,
            backoff_max_s=_BACKOFF_MAX_S,
        )
    )


async def follow(session: MqttSession, rows: Rows) -> NoReturn:
    """Put out what the topic brings, until cancelled."""
    while True:
        chunk = await session.receive()
        now = datetime.now(UTC)
        for delivery in chunk.deliveries:
            rows.read(delivery, now)
        chunk.ack()


class Rows:
    """Takes outbox rows in the order in which they come, each once.

    Args:
        filters: what is wanted.
        output: where it goes.
        keys: of streams; of one that has none everything is taken, and as long as no stream is known.
        heard: told how much came.
    """

    def __init__(
        self, filters: Filters, output: Output, keys: Mapping[int, bytes | None], heard: Heard
    ) -> None:
        self._filters = filters
        self._output = output
        self._keys = keys
        self._heard = heard
        self._forged: set[int] = set()
        self._last: dict[int, tuple[str, int]] = {}

    def read(self, delivery: Delivery, now: datetime) -> None:
        """Take a message's row; note what is wrong with one that is no event batch or has odd times."""
        stream = stream_of(delivery.topic)
        if stream is None or (self._keys and stream not in self._keys):
            return
        key = self._keys.get(stream)
        if key is not None and not is_sealed(key, delivery.payload):
            if stream not in self._forged:
                self._forged.add(stream)
                self._output.note(f"{safe(delivery.topic)}: what no gateway has signed is left out")
            return
        try:
            self.take(unwrap(delivery.payload), len(delivery.payload), now)
        except (ValueError, TypeError) as error:  # TypeError: times without a zone
            self._output.note(f"{safe(delivery.topic)}: no event batch: {safe(str(error))}")

    def take(self, row: EventBatch, size: int, now: datetime) -> None:
        """Put out what is wanted of a row, and what was missed before it; nothing of a row seen before.

        Args:
            row: as it came.
            size: of its message, in bytes.
            now: when it came.
        """
        epoch, last = self._last.get(row.stream, (row.epoch, row.n - 1))
        if epoch == row.epoch:
            if row.n <= last:
                return
            if row.n > last + 1:
                self._output.put(Missed(row.stream, last + 1, row.n - 1), 0)
        self._last[row.stream] = row.epoch, row.n
        share = size // max(1, len(row.events))
        self._heard.events += len(row.events)
        for event in row.events:
            metrics = self._filters.metrics_of(event.device_id, event.region, event.metrics)
            if metrics is None:
                continue
            received = datetime.fromisoformat(event.received_at)
            item = Measurement(
                device_id=event.device_id,
                region=event.region,
                ts=event.ts,
                received_at=event.received_at,
                late_s=(received - datetime.fromisoformat(event.ts)).total_seconds(),
                here_s=(now - received).total_seconds(),
                metrics=dict(metrics),
                key=event.key,
                stream=row.stream,
                n=row.n,
            )
            self._output.put(item, share)
