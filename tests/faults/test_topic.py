"""The internal topic losing, repeating, reordering and inventing."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING

import aiomqtt
import msgspec
import pytest

from contract.events import RawEvent, encode_events, unwrap, wrap
from contract.topics import all_streams, stream_topic

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.faults.site import Site

    Mangle = Callable[[Random, list[bytes]], list[bytes]]

HONEST, MANGLED = "honest/v1", "mangled/v1"
HELD = 8


def losing(rng: Random, held: list[bytes]) -> list[bytes]:
    return [message for message in held if rng.random() < 0.7]


def repeating(rng: Random, held: list[bytes]) -> list[bytes]:
    return [message for message in held for _ in range(rng.choice((1, 1, 2, 3)))]


def reordering(rng: Random, held: list[bytes]) -> list[bytes]:
    return rng.sample(held, len(held))


def everything(rng: Random, held: list[bytes]) -> list[bytes]:
    return reordering(rng, repeating(rng, losing(rng, held)))


def silent(_rng: Random, _held: list[bytes]) -> list[bytes]:
    return []


@asynccontextmanager
async def bridge(site: Site, mangle: Mangle) -> AsyncIterator[None]:
    """Carries the honest topic's messages over to the mangled one, eight at a time."""
    port, rng = site.services.mqtt_port, Random(site.seed)  # noqa: S311  # replayable

    async def carry(client: aiomqtt.Client) -> None:
        held: list[bytes] = []
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            held.append(message.payload)
            if len(held) == HELD:
                for payload in mangle(rng, held):
                    await client.publish(stream_topic(MANGLED, unwrap(payload).stream), payload, qos=1)
                held = []

    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe(all_streams(HONEST), qos=1)
        carrier = asyncio.create_task(carry(client))
        yield
        carrier.cancel()
        await asyncio.wait([carrier])


@pytest.mark.full
@pytest.mark.parametrize("mangle", [losing, repeating, reordering, everything, silent])
async def test_unreliable(site: Site, mangle: Mangle) -> None:
    """Whatever the topic does to the order, number and presence of messages, Redis is exact."""
    async with bridge(site, mangle):
        await site.start("gateway", {"EDGE_EVENTS_TOPIC": HONEST})
        await site.start("projector", {"EDGE_EVENTS_TOPIC": MANGLED})
        async with site.fleet().load(500):
            await asyncio.wait_for(site.applied(3000), 60)
        await site.audit()


@pytest.mark.full
async def test_strangers_on_the_topic(site: Site) -> None:
    """Rubbish, unknown streams, other epochs and rows from the future on the topic change nothing."""
    _, projector = await site.start_both()
    epoch = str(await site.sql("SELECT epoch::text FROM streams"))
    other = "00000000-0000-4000-8000-000000000000"
    time = "2026-01-01T00:00:00.000000Z"
    event = RawEvent("forged", "forged", time, time, "f", msgspec.Raw(b'{"temperature":1}'))
    row = encode_events([event])
    now = await site.sql("SELECT now()")

    def forged(n: int, *, stream: int = 0, of: str = epoch) -> bytes:
        return wrap(row, stream=stream, n=n, epoch=of, created_at=now)  # type: ignore[arg-type]  # a time

    strangers = [b"", b"{}", b"\xff", b"null", b'{"v":99}', forged(10**9), forged(1, stream=77)]
    strangers += [forged(n, of=other) for n in range(1, 400, 3)]
    strangers += [forged(10**6 + n) for n in range(300)]
    async with site.fleet().load(400), aiomqtt.Client("127.0.0.1", site.services.mqtt_port) as client:
        for payload in strangers:
            await client.publish("gateway/events/v1/0", payload, qos=1)
        await site.applied(3000)
    await site.audit(cursor_within_s=20)
    assert await projector.terminate() == 0
