"""The reference: what a good engineer would write in a day, with the usual libraries and the usual patterns.

    python -m bench.naive ingest  --mqtt-port 1883 --dsn postgresql://… --redis redis://…
    python -m bench.naive project …

`ingest` takes messages with `aiomqtt`, stores what has come in one transaction with `executemany` (dedup by
a unique (device, key), an outbox row an event) and relays the outbox: read it, publish each event, mark the
rows. `project` folds events into a hash per device and region, a batch of what has come at a time. It is tidy
and it works. What is marked `Naive` in it is a promise that it does not keep.
"""

from __future__ import annotations

import argparse
import asyncio
from datetime import datetime  # noqa: TC003  # msgspec reads it at run time
from typing import TYPE_CHECKING, Final, NamedTuple

import aiomqtt
import asyncpg
import msgspec
from redis.asyncio import Redis

from runtime.postgres import load_queries

if TYPE_CHECKING:
    from collections.abc import Sequence

BATCH: Final = 1000
APPLIED: Final = "naive:applied"
_EVENTS: Final = "naive/events"
_QUEUE: Final = 10_000
_IDLE_S: Final = 0.02

queries = load_queries("bench")


class Telemetry(msgspec.Struct, forbid_unknown_fields=True):
    """The messages of the load, and no others. Naive: a device with another metric is an error."""

    id: str
    ts: datetime
    region: str
    temperature: float
    humidity: float


class Event(msgspec.Struct):
    """What is told of a stored message."""

    device_id: str
    region: str
    ts: str
    metrics: dict[str, float]


class Servers(NamedTuple):
    """Where everything is."""

    mqtt_port: int
    dsn: str
    redis: str


async def ingest(servers: Servers) -> None:
    """Store messages and relay their events until cancelled."""
    arrived: asyncio.Queue[aiomqtt.Message] = asyncio.Queue(_QUEUE)
    client = aiomqtt.Client("127.0.0.1", servers.mqtt_port, identifier="naive-ingest", clean_session=False)
    client.pending_calls_threshold = BATCH  # a warning for each publish above it otherwise
    async with asyncpg.create_pool(servers.dsn, min_size=2, max_size=2) as pool, client:
        await client.subscribe("devices/+/telemetry", qos=1)
        print("ready", flush=True)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_receive(client, arrived))
            tasks.create_task(_store(pool, arrived))
            tasks.create_task(_relay(pool, client))


async def _receive(client: aiomqtt.Client, arrived: asyncio.Queue[aiomqtt.Message]) -> None:
    # Naive: paho has acknowledged each message by now; what a crash finds in the queue is lost.
    async for message in client.messages:
        await arrived.put(message)


async def _store(pool: asyncpg.Pool[asyncpg.Record], arrived: asyncio.Queue[aiomqtt.Message]) -> None:
    while True:
        rows = [_row(message) for message in await _take(arrived)]
        # Naive: one bad message or an unreachable database ends the process.
        async with pool.acquire() as connection, connection.transaction():
            await connection.executemany(queries.naive_insert, rows)


def _row(message: aiomqtt.Message) -> tuple[object, ...]:
    device_id = message.topic.value.split("/")[1]
    assert isinstance(message.payload, bytes)
    telemetry = msgspec.json.decode(message.payload, type=Telemetry)
    metrics = {"temperature": telemetry.temperature, "humidity": telemetry.humidity}
    event = Event(device_id, telemetry.region, telemetry.ts.isoformat(), metrics)
    return (
        device_id,
        telemetry.id,
        telemetry.ts,
        telemetry.region,
        msgspec.json.encode(metrics).decode(),
        msgspec.json.encode(event).decode(),
    )


async def _relay(pool: asyncpg.Pool[asyncpg.Record], client: aiomqtt.Client) -> None:
    while True:
        rows = await pool.fetch(queries.naive_unpublished, BATCH)
        if not rows:
            await asyncio.sleep(_IDLE_S)
            continue
        async with asyncio.TaskGroup() as publishing:
            for row in rows:
                publishing.create_task(client.publish(_EVENTS, row["payload"], qos=1, timeout=60))
        await pool.execute(queries.naive_published, [row["id"] for row in rows])


async def project(servers: Servers) -> None:
    """Fold events into Redis until cancelled."""
    arrived: asyncio.Queue[aiomqtt.Message] = asyncio.Queue(_QUEUE)
    client = aiomqtt.Client("127.0.0.1", servers.mqtt_port, identifier="naive-project", clean_session=False)
    async with Redis.from_url(servers.redis, decode_responses=True) as redis, client:
        await client.subscribe(_EVENTS, qos=1)
        print("ready", flush=True)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_receive(client, arrived))
            tasks.create_task(_fold(redis, arrived))


async def _fold(redis: Redis, arrived: asyncio.Queue[aiomqtt.Message]) -> None:
    while True:
        messages = await _take(arrived)
        events = [msgspec.json.decode(message.payload, type=Event) for message in messages]
        await apply(redis, events)


async def apply(redis: Redis, events: Sequence[Event]) -> None:
    """Fold events into the hashes of their devices and regions: read all, add up here, write all.

    Naive: what is delivered twice is counted twice, a second projector would overwrite the first, and
    whatever came last is the last value, however old it is.
    """
    keys = {f"naive:device:{event.device_id}" for event in events} | {
        f"naive:region:{event.region}" for event in events
    }
    async with redis.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.hgetall(key)
        found = dict(zip(keys, await pipeline.execute(), strict=True))
    for event in events:
        for key in (f"naive:device:{event.device_id}", f"naive:region:{event.region}"):
            _add(found[key], event)
    async with redis.pipeline(transaction=True) as pipeline:
        for key, fields in found.items():
            pipeline.hset(key, mapping=fields)
        pipeline.incrby(APPLIED, len(events))
        await pipeline.execute()


def _add(fields: dict[str, str | float], event: Event) -> None:
    fields["last_seen"] = event.ts
    fields["sample_count"] = int(fields.get("sample_count", 0)) + 1
    for metric, value in event.metrics.items():
        count = int(fields.get(f"count_{metric}", 0)) + 1
        total = float(fields.get(f"sum_{metric}", 0)) + value
        fields |= {
            f"last_{metric}": value,
            f"min_{metric}": min(value, float(fields.get(f"min_{metric}", value))),
            f"max_{metric}": max(value, float(fields.get(f"max_{metric}", value))),
            f"count_{metric}": count,
            f"sum_{metric}": total,
            f"avg_{metric}": total / count,
        }


async def _take(arrived: asyncio.Queue[aiomqtt.Message]) -> list[aiomqtt.Message]:
    """What has arrived, at least one message and at most a batch."""
    taken = [await arrived.get()]
    while len(taken) < BATCH and not arrived.empty():
        taken.append(arrived.get_nowait())
    return taken


def main() -> None:
    """Run one half of it; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("half", choices=("ingest", "project"))
    parser.add_argument("--mqtt-port", type=int, required=True)
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--redis", required=True)
    options = parser.parse_args()
    servers = Servers(options.mqtt_port, options.dsn, options.redis)
    asyncio.run(ingest(servers) if options.half == "ingest" else project(servers))


if __name__ == "__main__":
    main()
