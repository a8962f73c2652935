"""How PostgreSQL would answer the dashboards over a month of a fleet: by an index, where there is much.

200,000 measurements and as many minutes here, packed but for the last hours, as they would be; `make plans`
does it with ten million of each.
"""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from gateway.rollups import drop_history
from projector.history.packing import Packer
from runtime.postgres import lent, load_queries
from tests.support.grafana import FOLDER, Range, expand_sql, find_queries

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS = int(os.environ.get("ROWS", "200_000"))
MUCH = 10_000
MUCH_MORE = 4  # whoever wants a quarter of a table reads it through
NOW = datetime(2026, 11, 20, 18, tzinfo=UTC)
DAY_S = 86_400
VARIABLES = {
    "device": "device-17",
    "metric": "temperature",
    "region": "region-3",
    "tag": "line",
    "value": "L17",
}

queries = load_queries("tests.support")


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A plan's node and all below it."""
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)


def wasteful(plan: dict[str, Any], sizes: dict[str, float]) -> list[str]:
    """Tables of which much is read to keep little."""
    return [
        node["Relation Name"]
        for node in nodes(plan["Plan"])
        if node["Node Type"] == "Seq Scan"
        and MUCH < sizes[node["Relation Name"]] > MUCH_MORE * node["Plan Rows"]
    ]


async def pack(database: str) -> None:
    """Pack all that is over, and drop its rows, as if an hour later."""
    async with asyncpg.create_pool(database, min_size=1, max_size=2, command_timeout=600) as pool:
        while await Packer(pool).turn():
            pass
        async with lent(pool) as connection:
            await drop_history(connection, NOW, {})
            await connection.execute("UPDATE rollups SET noted_at = noted_at - interval '1 hour'")
            await drop_history(connection, NOW, {})


@pytest.mark.timeout(900)
@pytest.mark.full
async def test_every_query_uses_an_index(database: str) -> None:
    """No query scans much of a table or partition to keep little, over its own range or over thirty days."""
    owner = await asyncpg.connect(database)
    await owner.execute((FOLDER / "postgres.sql").read_text(encoding="utf-8"))
    for query in (queries.partitions, queries.devices, queries.dead_letters, queries.regions_1m):
        await owner.execute(query, NOW)
    for query in (queries.measurements, queries.measurements_1m):
        await owner.execute(query, NOW, ROWS, timeout=600)
    await owner.execute(queries.over, NOW)
    await pack(database)
    for query in (
        queries.measurements_1h,
        queries.regions_1h,
        "SET default_statistics_target = 10",
        "ANALYZE",
    ):
        await owner.execute(query, timeout=600)
    tables = await owner.fetch("SELECT relname, reltuples FROM pg_class WHERE relkind = 'r'")
    sizes: dict[str, float] = {row["relname"]: row["reltuples"] for row in tables}
    assert sum(rows for name, rows in sizes.items() if name.startswith("measurements_p")) >= ROWS * 0.99
    assert sum(rows for name, rows in sizes.items() if name.startswith("open_minutes")) < ROWS / 20
    await owner.close()

    role = await asyncpg.connect(database.replace("postgres@", "grafana@"))
    for each in find_queries("edge-postgres"):
        for seconds in {each.since_s, 30 * DAY_S}:
            text = expand_sql(each, VARIABLES, Range.last(seconds, NOW))
            (plan,) = json.loads(await role.fetchval(f"EXPLAIN (FORMAT JSON) {text}"))
            scanned = wasteful(plan, sizes)
            assert not scanned, f"{each.name} over {seconds} s scans {scanned}"
            began = time.perf_counter()
            assert await role.fetch(text), each.name
            took_ms = (time.perf_counter() - began) * 1000
            print(f"{took_ms:8.1f} ms  {each.name}, {seconds // 3600} h")  # noqa: T201  # for `make plans`
    text = queries.minutes_of_a_device.replace("$1", repr(NOW.isoformat()))
    (plan,) = json.loads(await role.fetchval(f"EXPLAIN (FORMAT JSON) {text}"))
    used = {node["Index Name"].split("_p2")[0] for node in nodes(plan["Plan"]) if "Index Name" in node}
    assert {"open_minutes", "packed_minutes"} <= used, "an index on both sides"
    assert not wasteful(plan, sizes)
    for what, text in (
        ("two days of a device, by their minutes alone", queries.minutes_of_a_device),
        ("a day of all devices, by its minutes alone", queries.minutes_of_all),
        ("a day of all devices, by hour as well", queries.minutes_of_all_by_hour),
    ):
        began = time.perf_counter()
        assert await role.fetchval(text.replace("$1", repr(NOW.isoformat())))
        took_ms = (time.perf_counter() - began) * 1000
        print(f"{took_ms:8.1f} ms  {what}")  # noqa: T201  # for `make plans`
    await role.close()
