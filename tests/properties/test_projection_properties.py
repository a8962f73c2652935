"""The views equal a plain fold over all events, whatever happened on the way to them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from contract.events import Event, Scalar, format_time
from projector.repair.rebuild import Rebuilder
from projector.repair.verify import Verifier
from projector.views import Keys, Run, Views
from tests.support.effort import examples
from tests.support.roles import open_pools

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

    import asyncpg

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)

values: st.SearchStrategy[Scalar] = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-5, 5),
    st.floats(-1e12, 1e12),
    st.sampled_from([-0.0, 0.1, 21.5, 5e-324, 1e300, 1 / 3]),
    st.booleans(),
    st.sampled_from(["on", "off", "", "3", "é"]),
)


@st.composite
def event(draw: st.DrawFn) -> Event:
    """Events that often tie, some of a clock that is ahead."""
    minute = draw(st.sampled_from(["00", "00", "00", "05", "06", "59"]))
    return Event(
        draw(st.sampled_from(["d1", "d2", "Ü"])),
        draw(st.sampled_from([None, "north", "south", "süd"])),
        f"2026-11-23T09:{minute}:00.{draw(st.integers(0, 4)):06d}Z",
        "2026-11-23T09:00:00.000000Z",
        draw(st.sampled_from(["k", "K", "k1", "ä", "~"])),
        draw(
            st.dictionaries(
                st.sampled_from(["t", "hum idity", "état", "seen", "seen_ms"]), values, max_size=4
            )
        ),
        draw(
            st.none()
            | st.dictionaries(st.sampled_from(["line", "hall", "1"]), st.sampled_from(["", "a", "é"]))
        ),
    )


@st.composite
def events(draw: st.DrawFn) -> list[Event]:
    """Events of which no two have the same time of receipt, as a gateway gives them."""
    return [
        msgspec.structs.replace(e, received_at=f"2026-11-23T09:00:01.{n:06d}Z")
        for n, e in enumerate(draw(st.lists(event(), min_size=1, max_size=30)))
    ]


@settings(
    max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(events=events(), data=st.data())
async def test_views_equal_a_plain_fold(redis_url: str, events: list[Event], data: st.DataObject) -> None:
    """Split into rows and runs over two streams, reordered, repeated, skipped: the views are the same.

    Two projectors write them by turns, and remember little.
    """
    shuffled = data.draw(st.permutations(events))
    split = data.draw(st.integers(0, len(shuffled)))
    keys = Keys(f"{uuid4().hex}:")
    async with Redis.from_url(redis_url) as redis:
        writers = [Views(redis, keys, remember=2), Views(redis, keys, remember=9)]
        waiting = {0: rows_of(shuffled[:split], data), 1: rows_of(shuffled[split:], data)}
        cursors = {0: 0, 1: 0}
        while open_streams := [stream for stream, rows in waiting.items() if cursors[stream] < len(rows)]:
            stream = data.draw(st.sampled_from(open_streams))
            first = data.draw(st.integers(1, len(waiting[stream])))
            last = data.draw(st.integers(first, len(waiting[stream])))
            cursor = cursors[stream]
            views = data.draw(st.sampled_from(writers))
            outcome = await views.apply(run(stream, waiting[stream], first, last), NOW)
            if last <= cursor:
                assert outcome == ("duplicate", cursor, "")
            elif first != cursor + 1:
                assert outcome == ("gap", cursor, "")
                # What the follower does: take up where the cursor is.
                outcome = await views.apply(run(stream, waiting[stream], cursor + 1, last), NOW)
            if outcome.status != "duplicate":
                assert outcome == ("applied", last, "")
                cursors[stream] = last
        await check(redis, keys, events)


@settings(
    max_examples=examples(15), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(events=events(), data=st.data())
async def test_postgres_folds_to_the_same_views(
    redis_url: str, database: str, events: list[Event], data: st.DataObject
) -> None:
    """A fold of PostgreSQL equals the views that came row by row, marks included, and a plain fold.

    Part of the events are not kept any more and stand in the retired statistics.
    """
    shuffled = data.draw(st.permutations(events))
    split = data.draw(st.integers(0, len(shuffled)))
    keys = Keys(f"{uuid4().hex}:")
    async with (
        Redis.from_url(redis_url) as redis,
        open_pools(database) as pools,
    ):
        pool, own = pools.owner, pools.projector
        await pool.execute("TRUNCATE retired_statistics")
        await store(pool, shuffled[:split])
        await pool.execute("SELECT retire_measurements('DELETE FROM measurements RETURNING *')")
        await store(pool, shuffled[split:])
        rows = rows_of(shuffled, data)
        epoch = await pool.fetchval(
            "INSERT INTO stream_leases (stream, head) VALUES (0, $1) RETURNING epoch::text", len(rows)
        )
        views = Views(redis, keys)
        for n, row in enumerate(rows, 1):
            await views.apply(Run(0, epoch, n, n, row), NOW)
        result = await Verifier(redis, own, keys, lambda: NOW, limit=9).verify(quiet, quiet)
        assert result.differences == []
        await redis.flushdb()
        rebuilder = Rebuilder(redis, own, keys, lambda: NOW)
        assert (await rebuilder.mend(quiet)) is not None
        assert (await rebuilder.mend(quiet)) is None
        await check(redis, keys, events)
        # And the marks are right, for the order of what comes after hangs on them.
        more = [
            msgspec.structs.replace(e, received_at=f"2026-11-23T09:00:02.{n:06d}Z")
            for n, e in enumerate(data.draw(st.lists(event(), max_size=5)))
        ]
        await views.apply(Run(0, epoch, len(rows) + 1, len(rows) + 1, more), NOW)
        await check(redis, keys, [*events, *more])


async def store(pool: asyncpg.Pool[asyncpg.Record], events: Iterable[Event]) -> None:
    """Put events into an empty database's measurements, whatever was there before."""
    await pool.execute("TRUNCATE measurements, stream_leases CASCADE")
    await pool.executemany(
        """INSERT INTO measurements (device_id, region, ts, received_at, message_key, metrics, tags)
        VALUES ($1, $2, $3::text::timestamptz, $4::text::timestamptz, $5, $6, $7)""",
        [
            (e.device_id, e.region, e.ts, e.received_at, e.key, *map(as_json, (e.metrics, e.tags or None)))
            for e in events
        ],
    )


def as_json(value: object) -> str | None:
    """A value of a jsonb column."""
    return None if value is None else msgspec.json.encode(value).decode()


def quiet(_done: int, _of: int) -> None:
    """Show no progress."""


async def check(redis: Redis, keys: Keys, events: list[Event]) -> None:
    """Compare every view with the specification."""
    expected = plain_fold(events)
    for (kind, name), view in expected.items():
        key = keys.device(name) if kind == "device" else keys.region(name)
        raw = await cast("Awaitable[dict[bytes, bytes]]", redis.hgetall(key))
        found = {field.decode(): value.decode() for field, value in raw.items()}
        assert found.pop("updated_at") == "2026-11-23T12:00:00.000000Z"
        assert found.pop("updated_ms") == str(int(NOW.timestamp() * 1000))
        assert found.keys() == view.keys()
        for field, value in view.items():
            if isinstance(value, tuple):
                number, tolerance = value
                assert float(found[field]) == pytest.approx(number, rel=1e-9, abs=tolerance)
            elif isinstance(value, str):
                assert found[field] == value
            else:
                assert float(found[field]) == float(value)
    seen = cast("list[tuple[bytes, float]]", await redis.zrange(keys.last_seen, 0, -1, withscores=True))
    assert {name.decode(): ms for name, ms in seen} == {
        name: view["last_seen_ms"] for (kind, name), view in expected.items() if kind == "device"
    }
    ahead = cast("list[tuple[bytes, float]]", await redis.zrange(keys.clock_ahead, 0, -1, withscores=True))
    assert {name.decode(): ms for name, ms in ahead} == {
        name: view["clock_ahead_ms"] for (_, name), view in expected.items() if "clock_ahead_ms" in view
    }
    # The projector's own, and no view beside those expected.
    assert len(await redis.keys(keys.cursor.removesuffix("projector:cursor") + "*")) <= len(expected) + 6


def rows_of(events: list[Event], data: st.DataObject) -> list[list[Event]]:
    """Cut events into outbox rows, some of them empty."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(events)), max_size=5)))
    return [events[a:b] for a, b in zip([0, *cuts], [*cuts, len(events)], strict=True)]


def run(stream: int, rows: list[list[Event]], first: int, last: int) -> Run:
    """Rows `first` to `last`."""
    return Run(
        stream, f"epoch {stream}", first, last, [event for row in rows[first - 1 : last] for event in row]
    )


def plain_fold(events: Iterable[Event]) -> dict[tuple[str, str], dict[str, Any]]:
    """The specification: one event at a time, in order, nothing clever. Sums come with their tolerance."""
    views: dict[tuple[str, str], dict[str, Any]] = {}
    homes: dict[str, str] = {}
    for each in sorted(events, key=lambda e: (ordered_at(e), e.received_at, e.key, e.device_id)):
        device = views.setdefault(("device", each.device_id), {"device_id": each.device_id})
        add(device, each)
        ahead = time_of(each.ts) - time_of(each.received_at)
        device.pop("clock_ahead_ms", None)
        if ahead > timedelta(minutes=5):
            device["clock_ahead_ms"] = ahead // timedelta(milliseconds=1)
        if each.tags:
            for name in [name for name in device if name.startswith("tag_")]:
                del device[name]
            device |= {f"tag_{name}": value for name, value in each.tags.items()}
        if each.region is not None:
            device["region"] = homes[each.device_id] = each.region
            add(views.setdefault(("region", each.region), {"region": each.region}), each)
    for (kind, name), view in views.items():
        if kind == "region":
            view["device_count"] = sum(home == name for home in homes.values())
        for field in [field for field in view if field.startswith("sum_")]:
            metric = field.removeprefix("sum_")
            numbers, count = view[field], view[f"count_{metric}"]
            total, dust = sum(numbers), sum(map(abs, numbers)) * 1e-12
            view[field], view[f"avg_{metric}"] = (total, dust), (total / count, dust / count)
    return views


def ordered_at(event: Event) -> datetime:
    """The time by which an event is ordered: its own, at most five minutes after its arrival."""
    return min(time_of(event.ts), time_of(event.received_at) + timedelta(minutes=5))


def time_of(text: str) -> datetime:
    """A time of the contract."""
    return datetime.fromisoformat(text)


def add(view: dict[str, Any], event: Event) -> None:
    """Add one event, newer than all before, to a view."""
    view["sample_count"] = view.get("sample_count", 0) + 1
    at = ordered_at(event)
    view["last_seen"] = format_time(at)
    view["last_seen_ms"] = int(at.timestamp() * 1000)
    for name, value in event.metrics.items():
        if name not in {"seen", "seen_ms"}:
            view[f"last_{name}"] = value if isinstance(value, str) else float(value)
        if not isinstance(value, str):
            number = float(value)
            view.setdefault(f"sum_{name}", []).append(number)
            view[f"count_{name}"] = view.get(f"count_{name}", 0) + 1
            view[f"min_{name}"] = min(view.get(f"min_{name}", number), number)
            view[f"max_{name}"] = max(view.get(f"max_{name}", number), number)
