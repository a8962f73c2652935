"""The write side as the read side sees it: rows in an outbox, and what is published of them, true or not."""

from __future__ import annotations

import json
from collections import defaultdict
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from secrets import token_bytes
from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg
import msgspec

from contract.events import RawEvent, encode_events, format_time, wrap
from contract.signature import KEY_BYTES
from contract.topics import stream_topic
from runtime.mqtt import Message, MqttSession, options_from

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from runtime.settings import Settings

START = datetime(2026, 11, 23, 9, tzinfo=UTC)


class TopicSide:
    """Appends rows to an outbox and publishes them, as a gateway would, or fails to.

    Attributes:
        key: with which rows are signed; None as long as there is none.
    """

    def __init__(
        self, database: asyncpg.Connection[asyncpg.Record], session: MqttSession, topic: str
    ) -> None:
        self.database = database
        self.epoch = uuid4()
        self.key: bytes | None = token_bytes(KEY_BYTES)
        self.written_at: defaultdict[tuple[int, int], datetime] = defaultdict(lambda: datetime.now(UTC))
        self._session = session
        self._topic = topic

    async def append(self, n: int, *values: float, stream: int = 0) -> None:
        """Commit row `n` with one event of device `d` for each value."""
        async with self.database.transaction():
            await self.database.execute(
                """INSERT INTO stream_leases (stream, epoch, head) VALUES ($1, $2, $3)
                ON CONFLICT (stream) DO UPDATE SET head = excluded.head""",
                *(stream, self.epoch, n),
            )
            if self.key:
                await self.database.execute(
                    "INSERT INTO stream_keys VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                    *(stream, self.epoch, self.key),
                )
            await self.database.executemany(
                """INSERT INTO measurements (device_id, region, ts, received_at, message_key, metrics)
                VALUES ('d', 'north', $1, $1, $2, jsonb_build_object('t', $3::double precision))""",
                [(START, f"{n:06d}-{i}", value) for i, value in enumerate(values)],
            )
            await self.database.execute(
                "INSERT INTO outbox VALUES ($1, $2, $3, $4, $5)",
                *(stream, n, len(values), payload_of(n, *values), self.written_at[stream, n]),
            )

    def message(self, n: int, *values: float, stream: int = 0, epoch: UUID | None = None) -> bytes:
        """Row `n` as it is published."""
        return wrap(
            payload_of(n, *values),
            stream=stream,
            n=n,
            epoch=str(epoch or self.epoch),
            created_at=self.written_at[stream, n],
            key=self.key,
        )

    async def publish(self, n: int, *values: float, stream: int = 0, epoch: UUID | None = None) -> None:
        """Publish row `n`."""
        await self.send(self.message(n, *values, stream=stream, epoch=epoch), stream=stream)

    async def send(self, *payloads: bytes, stream: int | str = 0, retain: bool = False) -> None:
        """Publish anything on the topic of a stream, or on another below."""
        await self._session.connected()
        topic = f"{self._topic}/{stream}" if isinstance(stream, str) else stream_topic(self._topic, stream)
        await self._session.publish([Message(topic, payload, retain=retain) for payload in payloads])


def payload_of(n: int, *values: float, device: str = "d") -> bytes:
    """The events of row `n`."""
    ts = format_time(START)
    return encode_events(
        [
            RawEvent(device, "north", ts, ts, f"{n:06d}-{i}", msgspec.Raw(json.dumps({"t": value}).encode()))
            for i, value in enumerate(values)
        ]
    )


@asynccontextmanager
async def playing(settings: Settings) -> AsyncIterator[TopicSide]:
    """A write side for a configuration."""
    database = await asyncpg.connect(settings.postgres.dsn)
    broker = settings.events_broker(f"{settings.broker.client_id}-writer")
    try:
        async with MqttSession(options_from(broker, clean_start=True)) as session:
            yield TopicSide(database, session, settings.events.topic)
    finally:
        await database.close(timeout=5)
