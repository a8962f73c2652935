"""Devices are online or not as the newest statement says, in whatever order statements come and are read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, NamedTuple, cast
from uuid import uuid4

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from contract.events import Event, RawEvent, decode_events, format_time
from contract.order import said_time
from gateway.decode import Reading
from projector.query.stats import device_stats
from projector.repair.rebuild import Rebuilder
from projector.views import Keys, Run, Views
from tests.support.effort import examples
from tests.support.roles import Pools, open_pools
from tests.support.write_side import write_side

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gateway.store import Store
    from tests.support.write_side import WriteSide

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DEVICES = ("d1", "d2")

What = Literal["online", "offline", "nothing"]


class Said(NamedTuple):
    """A message: what it says, when it was measured in minutes after nine, and which gateway stores it.

    Attributes:
        kept: whether it is a copy that a broker had kept.
    """

    device: str
    what: What
    minute: int
    stream: int
    kept: bool


messages = st.lists(
    st.builds(
        Said,
        st.sampled_from(DEVICES),
        st.sampled_from(["online", "offline", "nothing"]),
        st.integers(0, 5) | st.just(90),
        st.integers(0, 1),
        st.booleans(),
    ),
    min_size=1,
    max_size=14,
)


def reading(said: Said, n: int) -> Reading:
    """The n-th message to arrive, which is at half past nine and so many seconds."""
    at = datetime(2026, 11, 23, 9, tzinfo=UTC)
    ts = format_time(at + timedelta(minutes=said.minute))
    arrived = format_time(at + timedelta(minutes=30, seconds=n))
    online = {"online": True, "offline": False}.get(said.what)
    metrics = b'{"x": 1}' if online is None else msgspec.json.encode({"online": online})
    event = RawEvent(said.device, None, ts, arrived, f"k{n}", msgspec.Raw(metrics), None, online)
    line = f"{ts}\t{said.device}\tk{n}\t\\N\t{metrics.decode()}\t\\N\t{arrived}\n"
    return Reading(event, f"{said.device}\x1fk{n}", line, keyed=True, topic="t", raw=metrics, kept=said.kept)


def newest(readings: list[Reading]) -> dict[str, bool]:
    """What the newest statement on each device says."""
    found: dict[str, tuple[tuple[str, str, str], bool]] = {}
    for event in (each.event for each in readings):
        if event.online is not None:
            place = said_time(event.ts, event.received_at), event.received_at, event.key
            if event.device_id not in found or place > found[event.device_id][0]:
                found[event.device_id] = place, event.online
    return {device_id: online for device_id, (_, online) in found.items()}


def in_order(readings: list[Reading]) -> dict[str, tuple[bool, str]]:
    """What one gateway knows that takes messages as they arrive, and since when."""
    said: dict[str, tuple[str, str, str]] = {}
    found: dict[str, tuple[bool, str]] = {}
    by_reading: set[str] = set()
    for event, kept in ((each.event, each.kept) for each in readings):
        id_, since = event.device_id, said_time(event.ts, event.received_at)
        place, (online, _) = (since, event.received_at, event.key), found.get(id_, (None, ""))
        now = event.online is not False
        if place <= said.get(id_, ("", "", "")) or (event.online is None and (kept or online is not False)):
            continue
        if kept and online is not None and (now is online or id_ in by_reading):
            continue
        said[id_] = place
        (by_reading.discard if event.online is not None else by_reading.add)(id_)
        if now is not online:
            found[id_] = now, since
    return found


class Site(NamedTuple):
    """Two gateways on one database, and a Redis."""

    pools: Pools
    redis: Redis
    gateways: tuple[WriteSide, WriteSide]

    async def heads(self) -> dict[int, int]:
        """The last row of each stream."""
        rows = await self.pools.owner.fetch("SELECT stream, max(n) FROM outbox GROUP BY stream")
        return dict(map(tuple, rows))


@pytest.fixture
async def site(database: str, redis_url: str) -> AsyncIterator[Site]:
    """One for all examples."""
    async with (
        Redis.from_url(redis_url) as redis,
        open_pools(database) as pools,
        write_side(database, stream=0) as first,
        write_side(database, stream=1) as second,
    ):
        yield Site(pools, redis, (first, second))


@settings(
    max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(said=messages, data=st.data())
async def test_all_sides_say_the_same(site: Site, said: list[Said], data: st.DataObject) -> None:
    """Two gateways, any order, repeats and batches; `devices`, views and a rebuild say the same.

    Of statements alone the newest counts; one gateway that takes messages as they arrive knows since when.
    """
    mine = uuid4().hex
    only_statements = data.draw(st.booleans(), label="only statements")
    one_gateway = data.draw(st.booleans(), label="one gateway, in order")
    if only_statements:
        said = [each._replace(kept=False) for each in said if each.what != "nothing"]
    if one_gateway:
        said = [each._replace(stream=0) for each in said]
    said = [each._replace(device=f"{mine}-{each.device}") for each in said]
    readings = [reading(each, n) for n, each in enumerate(said)]
    heads = await site.heads()
    order = list(range(len(said))) if one_gateway else data.draw(st.permutations(range(len(said))))
    while order:
        size = data.draw(st.integers(1, len(order)))
        batch, order = order[:size], order[size:]
        for stream, gateway in enumerate(site.gateways):
            its = [readings[n] for n in batch if said[n].stream == stream]
            await commit(gateway.store, its, again=data.draw(st.booleans()))
            await gateway.store.write_sightings(gateway.devices.take_all())
    known = {
        row["device_id"]: (row["online"], format_time(row["online_since"]))
        for row in await site.pools.owner.fetch("SELECT * FROM devices WHERE online IS NOT NULL")
        if row["device_id"].startswith(mine)
    }
    if only_statements:
        assert {device_id: online for device_id, (online, _) in known.items()} == newest(readings)
    if one_gateway:
        assert known == in_order(readings)
    keys = Keys(f"{mine}:")
    await apply(site, keys, heads, data)
    assert await shown(site.redis, keys, mine) == known
    if data.draw(st.booleans(), label="retired"):
        await site.pools.owner.execute("SELECT retire_measurements('DELETE FROM measurements RETURNING *')")
    await Rebuilder(site.redis, site.pools.projector, keys, lambda: NOW).rebuild(lambda *_: None)
    assert await shown(site.redis, keys, mine) == known


async def commit(store: Store, readings: list[Reading], *, again: bool) -> None:
    """Store readings, and perhaps once more as a broker does whose acknowledgement was lost."""
    for _ in range(1 + again):
        await store.commit(readings, [])


async def apply(site: Site, keys: Keys, heads: dict[int, int], data: st.DataObject) -> None:
    """Apply the rows that both streams have since, which go on by turns in any way."""
    waiting: dict[int, list[list[Event]]] = {}
    for stream, n, payload in await site.pools.owner.fetch(
        "SELECT stream, n, payload FROM outbox ORDER BY n"
    ):
        if n > heads.get(stream, 0):
            waiting.setdefault(stream, []).append(decode_events(payload))
    views, cursors = Views(site.redis, keys, remember=2), dict.fromkeys(waiting, 0)
    while streams := [stream for stream, rows in waiting.items() if cursors[stream] < len(rows)]:
        stream = data.draw(st.sampled_from(streams))
        n = cursors[stream] = cursors[stream] + 1
        outcome = await views.apply(Run(stream, "e", n, n, waiting[stream][n - 1], format_time(NOW)), NOW)
        assert outcome.status == "applied"


async def shown(redis: Redis, keys: Keys, mine: str) -> dict[str, tuple[bool | None, str | None]]:
    """What the views say of the devices of which something was said."""
    found: dict[str, tuple[bool | None, str | None]] = {}
    for device in DEVICES:
        if fields := cast("dict[bytes, bytes]", await redis.hgetall(keys.device(f"{mine}-{device}"))):
            stats = device_stats(fields)
            assert (stats.online is None) == (stats.online_since is None)
            if stats.online is not None:
                found[stats.device_id] = stats.online, stats.online_since
    return found
