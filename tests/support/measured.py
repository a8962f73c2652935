"""Measurements that nobody received, put into a database, and what they amount to."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

    import asyncpg

OLD: Final = date(2020, 3, 1)
LARGEST: Final = 1.79769313486231e308


class Row(NamedTuple):
    device_id: str
    ts: datetime
    received_at: datetime
    message_key: str
    region: str | None
    metrics: str


def now() -> datetime:
    return datetime.now(UTC)


def at(day: date, seconds: float = 0) -> datetime:
    return datetime.combine(day, time(), UTC) + timedelta(seconds=seconds)


def row(key: str, ts: datetime, device: str = "a1", region: str | None = None, **metrics: object) -> Row:
    return Row(device, ts, ts, key, region, json.dumps(metrics))


async def insert(connection: asyncpg.Connection[asyncpg.Record], rows: Iterable[Row]) -> None:
    await connection.copy_records_to_table("measurements", records=rows, columns=Row._fields)


async def make_days(
    connection: asyncpg.Connection[asyncpg.Record] | asyncpg.Pool[asyncpg.Record], first: date, last: date
) -> None:
    """Partitions for days, which whoever reads the table reads too, as a gateway would have made them."""
    await connection.execute("SELECT create_measurement_partitions($1, $2)", first, last)
    await connection.execute(
        "SELECT grant_as_parent('measurements', name) FROM partitions_of('measurements')"
    )


def history(seed: int, days: int = 3) -> list[Row]:
    """Messages of a few devices over some days, with everything in them that statistics trip over."""
    rng = random.Random(seed)  # noqa: S311  # test data
    keys = ["a", "B", "é", "a\x01", "a b", "\U0001f600", "10", "9"]
    rows = []
    for i in range(400):
        ts = at(OLD, rng.randrange(days * 86_400 * 4) / 4 if i % 3 else rng.choice([0.5, 86_400.25]))
        metrics: dict[str, object] = {"x": rng.choice([rng.uniform(-50, 50), rng.randrange(-9, 9), -0.0])}
        if rng.random() < 0.3:
            metrics["on"] = rng.random() < 0.5
        if rng.random() < 0.3:
            metrics["state"] = rng.choice(["idle", 'it\'s \\ odd "é"', "", 7])
        if rng.random() < 0.1:
            metrics |= {"big": 2**53 + rng.randrange(1000), "huge": 1.5e308, "tiny": 5e-324}
        received = at(OLD, 9e5 + rng.randrange(10**6))
        region = rng.choice(["north", "south", None])
        key = rng.choice(keys) + rng.choice(["", str(i)])
        rows.append(Row(f"d{i % 4}", ts, received, key, region, json.dumps(metrics)))
    return rows


def expected(rows: list[Row]) -> dict[tuple[str, str, str], tuple[Any, ...]]:
    """The statistics by the rules of `retired_statistics`, computed from the messages one by one."""
    values: dict[tuple[str, str, str], list[tuple[tuple[Any, ...], Any]]] = defaultdict(list)
    for each in rows:
        at = min(each.ts, each.received_at + timedelta(minutes=5))
        place = at, each.received_at, each.message_key.encode(), each.ts
        for name, value in [("", None), *json.loads(each.metrics, parse_int=float).items()]:
            values[each.device_id, each.region or "", name].append((place, value))
    result = {}
    for group, found in values.items():
        numbers = [float(value) for _, value in found if isinstance(value, (bool, int, float))]
        newest = max(place for place, _ in found)
        candidates = [value for place, value in found if place == newest]
        total = float(max(-LARGEST, min(LARGEST, sum(map(Fraction, numbers))))) if numbers else None
        result[group] = (
            len(numbers) if group[2] else len(found),
            total,
            min(numbers, default=None),
            max(numbers, default=None),
            candidates,
            (newest[3], newest[2].decode(), newest[1]),
        )
    return result


async def check_retired(
    connection: asyncpg.Connection[asyncpg.Record],
    rows: list[Row],
    query: str = "SELECT * FROM retired_statistics",
) -> None:
    """The statistics are those of these messages, one by one."""
    found = {
        (each["device_id"], each["region"], each["metric"]): each for each in await connection.fetch(query)
    }
    wanted = expected(rows)
    assert found.keys() == wanted.keys()
    for group, (count, total, low, high, last, mark) in wanted.items():
        got = found[group]
        assert (got["count"], got["min"], got["max"]) == (count, low, high), group
        assert got["sum"] == (None if total is None else pytest.approx(total, rel=1e-9, abs=1e-9)), group
        assert (got["last_ts"], got["last_key"], got["last_received_at"]) == mark, group
        value = None if got["last_value"] is None else json.loads(got["last_value"], parse_int=float)
        assert value in last, group
