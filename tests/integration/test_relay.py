"""The relay between a real PostgreSQL and a real broker."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from contract.events import unwrap
from contract.signature import is_sealed
from gateway import relay as relay_module
from gateway.ledger import Ledger
from gateway.relay import Relay
from runtime.http import Health
from runtime.mqtt import MqttSession, Subscription, options_from
from runtime.postgres import keep_asking
from tests.support.write_side import decode, write_side

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import pytest

    from gateway.transaction import Appended
    from runtime.settings import Settings
    from tests.support.write_side import WriteSide


class Topic:
    """What a reader of the internal topic sees."""

    def __init__(self, session: MqttSession) -> None:
        self._session = session
        self.seen: list[int] = []
        self.keys: list[str] = []
        self.messages: list[bytes] = []

    async def until(self, n: int) -> None:
        """Read until row n has come."""
        async with asyncio.timeout(20):
            while n not in self.seen:
                chunk = await self._session.receive()
                for delivery in chunk.deliveries:
                    self.messages.append(delivery.payload)
                    batch = unwrap(delivery.payload)
                    self.seen.append(batch.n)
                    self.keys.extend(event.key for event in batch.events)
                chunk.ack()


@asynccontextmanager
async def running(side: WriteSide, settings: Settings) -> AsyncIterator[tuple[Relay, Topic]]:
    prefix = settings.events.topic
    reader = MqttSession(
        options_from(
            settings.events_broker(f"{settings.broker.client_id}-reader"),
            subscriptions=[Subscription(f"{prefix}/+")],
            clean_start=True,
        )
    )
    outlet = MqttSession(options_from(settings.events_broker(settings.broker.client_id), clean_start=True))
    ledger = Ledger(CollectorRegistry(), now=lambda: datetime.now(UTC))
    relay = Relay(outlet, side.pool, lease=side.lease, topic_prefix=prefix, ledger=ledger, health=Health())
    async with reader, outlet:
        await reader.connected()
        yield relay, Topic(reader)


async def append(side: WriteSide, *keys: int) -> list[Appended]:
    rows = []
    for key in keys:
        for outcome in await side.store.commit(*decode(b'{"id":%d,"x":1}' % key)):
            assert outcome.appended is not None
            rows.append(outcome.appended)
    return rows


async def test_rows_go_out_from_memory_in_order(database: str, settings: Settings) -> None:
    """Rows that were handed over out of order are published in order, without a look at the table."""
    async with write_side(database) as side, running(side, settings) as (relay, topic):
        rows = await append(side, 1, 2, 3)
        await side.pool.execute("DELETE FROM outbox")
        task = asyncio.create_task(relay.run())
        for row in (rows[1], rows[2], rows[0]):
            relay.offer(row)
        await topic.until(3)
        assert topic.seen == [1, 2, 3]
        await relay.drained()
        assert (relay.published, relay.behind) == (3, 0)
        task.cancel()


async def test_rows_are_signed(database: str, settings: Settings) -> None:
    """What is published is signed with the key that the database has of the stream."""
    async with write_side(database) as side, running(side, settings) as (relay, topic):
        (row,) = await append(side, 1)
        relay.offer(row)
        task = asyncio.create_task(relay.run())
        await topic.until(1)
        key = await side.pool.fetchval("SELECT key FROM stream_keys")
        (message,) = topic.messages
        assert is_sealed(key, message)
        assert not is_sealed(bytes(len(key)), message)
        task.cancel()


async def test_a_start_reads_what_a_predecessor_left(database: str, settings: Settings) -> None:
    """What was committed and not published before a restart is published from the table, and then on."""
    async with write_side(database) as side, running(side, settings) as (relay, topic):
        await append(side, *range(50))
        relay.start_after(10, 50)
        task = asyncio.create_task(relay.run())
        (row,) = await append(side, 100)
        relay.offer(row)
        await topic.until(51)
        assert topic.seen == list(range(11, 52))
        task.cancel()


async def test_what_memory_does_not_hold_is_read(
    database: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relay that cannot hold more, and a row that is never handed over, lose nothing."""
    monkeypatch.setattr(relay_module, "_HELD_BYTES", 300)
    monkeypatch.setattr(relay_module, "_PATIENCE_S", 0.05)
    async with write_side(database) as side, running(side, settings) as (relay, topic):
        rows = await append(side, *range(20))
        for row in rows[1:]:
            relay.offer(row)
        task = asyncio.create_task(relay.run())
        await topic.until(20)
        assert topic.seen == list(range(1, 21))
        assert len(topic.keys) == 20
        await relay.drained()
        assert relay._held == {}
        assert relay._held_bytes == 0
        task.cancel()


async def test_trimmed_rows_are_passed_over(database: str, settings: Settings) -> None:
    """Rows that every reader has had already and that were trimmed do not stop the relay."""
    async with write_side(database) as side, running(side, settings) as (relay, topic):
        await append(side, *range(5))
        await side.pool.execute("DELETE FROM outbox WHERE n <= 3")
        relay.start_after(0, 5)
        task = asyncio.create_task(relay.run())
        await topic.until(5)
        assert topic.seen == [4, 5]
        task.cancel()


async def lose(side: WriteSide, after: int) -> None:
    """What a failover to a standby that had not everything does to a stream."""
    await side.pool.execute("DELETE FROM outbox WHERE n > $1", after)
    await side.pool.execute("TRUNCATE message_keys_0")


async def test_rows_in_place_of_lost_ones_go_out(database: str, settings: Settings) -> None:
    """After a failover that lost published rows, those that get their numbers are published."""
    async with write_side(database) as side, running(side, settings) as (relay, topic):
        side.store._committing._went_back = relay.go_back
        task = asyncio.create_task(relay.run())
        for row in await append(side, *range(6)):
            relay.offer(row)
        await topic.until(6)
        await lose(side, after=2)
        side.lease.publishing = lambda: relay.published
        await side.lease._beat()
        noted = "SELECT published FROM streams"
        assert await side.pool.fetchval(noted) == 2, "nobody may be told that lost rows are published"
        (row,) = await append(side, 100)
        assert row.n == 3
        relay.offer(row)
        await relay.drained()
        assert (relay.published, relay.behind) == (3, 0)
        topic.seen.clear()
        (row,) = await append(side, 101)
        relay.offer(row)
        await topic.until(4)
        assert topic.keys[-2:] == ["100", "101"]
        task.cancel()


async def test_a_stream_that_goes_back_while_its_rows_go_out(database: str, settings: Settings) -> None:
    """What was on its way when the stream went back does not count as published in place of what comes."""
    async with write_side(database) as side, running(side, settings) as (relay, topic):
        rows = await append(side, *range(4))
        for row in rows:
            relay.offer(row)
        await lose(side, after=2)
        held = relay._take_held()
        publishing = asyncio.create_task(relay._publish(held))
        await asyncio.sleep(0)
        relay.go_back(2)
        await publishing
        assert (relay.published, relay.behind) == (0, 2)
        task = asyncio.create_task(relay.run())
        await relay.drained()
        assert relay.published == 2
        await topic.until(2)
        task.cancel()


async def test_a_stream_that_goes_back_while_its_rows_are_read(
    database: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of the history before, read when the stream goes back, passes over nothing of what comes."""
    async with write_side(database) as side, running(side, settings) as (relay, topic):
        await append(side, *range(4))
        relay.start_after(3, 4)

        async def ask_meanwhile(ask: Callable[[], Awaitable[object]], health: Health) -> object:
            records = await keep_asking(ask, health)
            monkeypatch.undo()
            await lose(side, after=2)
            relay.go_back(2)
            return records

        monkeypatch.setattr(relay_module, "keep_asking", ask_meanwhile)
        assert await relay._wait_or_read() == []
        assert (relay.published, relay.behind) == (2, 0)
        task = asyncio.create_task(relay.run())
        for row in await append(side, 100, 101):
            relay.offer(row)
        await topic.until(4)
        assert topic.seen == [3, 4]
        task.cancel()


async def test_a_start_behind_the_end(database: str, settings: Settings) -> None:
    """A database that says more was published than there is: nothing to come is taken for published."""
    async with write_side(database) as side, running(side, settings) as (relay, _):
        relay.start_after(10, 4)
        assert (relay.published, relay.behind) == (4, 0)
