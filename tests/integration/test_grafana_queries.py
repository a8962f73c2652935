"""Every query of the dashboards, as Grafana's read-only users, on what the real pipeline stored."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from tests.support.devices import publish
from tests.support.grafana import FOLDER, Query, Range, ask_redis, expand_sql, find_queries, run_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

    Connection = asyncpg.Connection[asyncpg.Record]

READABLE = {"measurements", "measurements_1m", "measurements_1h", "regions_1m", "regions_1h", "devices"}
VARIABLES = {"device": "it's a1", "metric": "temperature", "region": "north", "tag": "line", "value": "L1"}
DAY_S = 86_400


async def as_grafana(dsn: str) -> Connection:
    """Connect as the role of `postgres.sql`, which is given its grants first."""
    owner = await asyncpg.connect(dsn)
    await owner.execute((FOLDER / "postgres.sql").read_text(encoding="utf-8"))
    await owner.close()
    return await asyncpg.connect(dsn.replace("postgres@", "grafana@"))


@pytest.fixture
async def role(database: str) -> AsyncIterator[Connection]:
    """PostgreSQL as Grafana sees it."""
    connection = await as_grafana(database)
    yield connection
    await connection.close()


@pytest.fixture
async def reader(redis_url: str) -> AsyncIterator[Redis]:
    """Redis as Grafana sees it."""
    _, line = (FOLDER / "redis.acl").read_text(encoding="utf-8").splitlines()
    _, name, *rules = line.replace(">PASSWORD", ">secret").split()
    async with Redis.from_url(redis_url) as owner:
        await run_line(owner, f"ACL SETUSER {name} reset {' '.join(rules)}")
    async with Redis.from_url(redis_url, username=name, password="secret", decode_responses=True) as redis:
        yield redis


@pytest.fixture
async def stored(
    run_command: Callable[..., Awaitable[RunningCommand]],
    settings: Settings,
    broker_port: int,
    topic_prefix: str,
) -> None:
    """Devices of two regions and lines sent a few messages, some rejected; all of it is in both stores.

    The clock of d4 is ahead.
    """
    route = {"topic": f"{topic_prefix}/{{line}}/{{device_id}}/telemetry"}
    gateway = await run_command("gateway", "run", EDGE_ROUTE=json.dumps([route]))
    await gateway.event("connected", client_id=settings.broker.client_id)
    projector = await run_command("projector", "run", "--log-level", "debug")
    await projector.event("connected")
    now = datetime.now(UTC)
    messages = [
        (
            f"{line}/{device}",
            {
                "id": str(n),
                "ts": (now + ahead).isoformat(),
                "region": region,
                "temperature": 20.5 + n,
                "open": n % 2 == 0,
            },
        )
        for n in range(3)
        for line, device, region, ahead in (
            ("L1", "it's a1", "north", timedelta()),
            ("L1", "b2", "north", timedelta()),
            ("L2", "c3", "south", timedelta()),
            ("L2", "d4", "south", timedelta(minutes=10)),
        )
    ]
    good = [(f"{topic_prefix}/{place}/telemetry", json.dumps(body).encode()) for place, body in messages]
    bad = [
        (f"{topic_prefix}/L1/it's a1/telemetry", b"{"),
        (f"{topic_prefix}/L1/b2/telemetry", b'{"ts": "x"}'),
    ]
    await publish(broker_port, [*good, *bad])
    await projector.total("run_applied", len(good), "events")
    assert await gateway.terminate() == 0
    assert await projector.terminate() == 0  # writes history


def needed_columns(query: Query) -> set[str]:
    """Columns that the panel names: in overrides, and in the choice of what it shows."""
    names = set(re.findall(r"\w+", query.panel.get("options", {}).get("reduceOptions", {}).get("fields", "")))
    if not query.panel.get("transformations"):
        overrides = query.panel.get("fieldConfig", {}).get("overrides") or []
        names |= {each["matcher"]["options"] for each in overrides if each["matcher"]["id"] == "byName"}
    return names


@pytest.mark.usefixtures("stored")
async def test_every_sql_query_returns_what_its_panel_needs(role: Connection) -> None:
    """Panels get rows with the columns they name; series a time and numbers; variables one column of text."""
    found = find_queries("edge-postgres")
    assert len(found) > 15
    for query in found:
        for seconds in (query.since_s, 30 * DAY_S):
            rows = await role.fetch(expand_sql(query, VARIABLES, Range.last(seconds)))
            assert rows, f"{query.name}: no rows over {seconds} s"
            columns = dict(rows[0].items())
            if not query.panel:
                assert set(columns) in ({"__value", "__text"}, {next(iter(columns))}), query.name
                assert all(isinstance(row[0], str) for row in rows), query.name
                continue
            assert needed_columns(query) <= set(columns), query.name
            if query.body["format"] == "time_series":
                assert "time" in columns, query.name
                values = {name for name in columns if name not in {"time", "metric"}}
                assert values, query.name
                assert all(isinstance(row[name], float) for row in rows for name in values), query.name


@pytest.mark.usefixtures("stored")
async def test_now_is_what_was_stored(role: Connection, reader: Redis) -> None:
    """What panels show as of now is what was sent, as in Redis."""
    found = {query.name: query for query in find_queries("edge-postgres")}
    now = datetime.now(UTC)

    async def rows(name: str, since: timedelta = timedelta(hours=-6)) -> list[tuple[Any, ...]]:
        shown = Range(now + since, now + max(since, timedelta()))
        return [tuple(row) for row in await role.fetch(expand_sql(found[name], VARIABLES, shown))]

    assert await rows("edge-fleet: Devices A") == [(4,)]
    longest = await rows("edge-fleet: Oldest readings A")
    assert [(id_, region) for id_, _, region, _ in longest[-1:]] == [("d4", "south")]
    ((ahead, by, _),) = await rows("edge-fleet: Furthest ahead A")
    assert (ahead, by) == ("d4", pytest.approx(600, abs=10))
    ((region, devices, silent, _, *values),) = await rows("edge-regions: Regions: $metric A")
    assert (region, devices, silent, values) == ("north", 2, 0, [21.5, 20.5, 22.5, 6])

    assert await rows("edge-device: Region A") == [("north",)]
    for since in (timedelta(hours=-6), timedelta(days=-30)):  # minutes, and hours
        assert await rows("edge-device: $metric now A", since) == [(22.5, 21.5, 20.5, 22.5, 3)]
    ((seen_ms, arrived_ms),) = await rows("edge-device: Last seen A")
    is_open, temperature = await rows("edge-device: Statistics A")
    assert is_open[:2] == ("open", "true")
    assert is_open[3:] == (pytest.approx(2 / 3), 0, 1, 3)
    assert temperature[:2] == ("temperature", "22.5")
    assert temperature[3:] == (21.5, 20.5, 22.5, 3)
    view = await reader.hgetall(f"device:stats:{VARIABLES['device']}")
    assert int(view["last_seen_ms"]) == int(seen_ms) <= arrived_ms
    names = ("last", "avg", "min", "max", "count")
    assert [float(view[f"{name}_temperature"]) for name in names] == [22.5, 21.5, 20.5, 22.5, 3]


@pytest.mark.usefixtures("stored")
async def test_a_device_whose_days_were_dropped_is_still_known(role: Connection, database: str) -> None:
    """Without a measurement there is no newest value; when it was last heard of and its region stay."""
    found = {query.name: query for query in find_queries("edge-postgres")}
    owner = await asyncpg.connect(database)
    await owner.execute("DELETE FROM measurements")
    await owner.close()

    async def one(name: str) -> list[object]:
        (row,) = await role.fetch(expand_sql(found[name], VARIABLES, Range.last(DAY_S)))
        return list(row)

    seen_ms, arrived_ms = await one("edge-device: Last seen A")
    assert isinstance(seen_ms, float)
    assert arrived_ms is None
    assert await one("edge-device: Region A") == ["north"]
    assert await one("edge-device: $metric now A") == [None, 21.5, 20.5, 22.5, 3]


async def test_no_region_is_one_to_choose(role: Connection, database: str) -> None:
    """Devices that name no region are listed as `(none)`, which leads to what there is of them."""
    owner = await asyncpg.connect(database)
    await owner.execute("INSERT INTO devices VALUES ('a', NULL, now(), now()), ('b', 'north', now(), now())")
    for rollup in ("1m", "1h"):
        await owner.execute(
            f"""INSERT INTO regions_{rollup} (metric, bucket, region, count, sum, min, max) VALUES
                ('temperature', date_trunc('minute', now()), '', 2, 42, 20, 22),
                ('temperature', date_trunc('minute', now()), 'north', 1, 1, 1, 1)"""  # noqa: S608  # names of ours
        )
    await owner.execute(
        """INSERT INTO open_minutes (device_id, metric, bucket, region, count, sum, min, max)
        VALUES ('a', 'temperature', date_trunc('minute', now()), NULL, 2, 42, 20, 22)"""
    )
    await owner.close()
    found = {query.name: query for query in find_queries("edge-postgres")}

    async def rows(name: str) -> list[tuple[Any, ...]]:
        text = expand_sql(found[name], VARIABLES | {"region": "(none)"}, Range.last(3600))
        return [tuple(row) for row in await role.fetch(text)]

    assert await rows("edge-regions: variable region") == [("north",), ("(none)",)]
    ((region, devices, silent, _, *values),) = await rows("edge-regions: Regions: $metric A")
    assert (region, devices, silent, values) == ("(none)", 1, 0, [21, 20, 22, 2])
    assert [row[1:] for row in await rows("edge-regions: $metric by region A")] == [("(none)", 21)]
    assert [row[1:] for row in await rows("edge-regions: $metric in all of them A")] == [(20, 21, 22)]
    assert await rows("edge-regions: Hot devices: $metric A") == [("a", "(none)", 21, 22, 2)]


async def test_a_clock_that_was_put_right_is_not_ahead(role: Connection, database: str) -> None:
    """Whose clock is ahead is told from the message that is newest in the order of the views."""
    owner = await asyncpg.connect(database)
    await owner.execute("SELECT create_measurement_partitions(current_date - 1, current_date + 1)")
    await owner.execute(
        """WITH m (device_id, ahead, ago) AS (VALUES
            ('right again', interval '1 year', interval '2 hours'), ('right again', '0', '1 minute'),
            ('ahead', '0', '2 hours'), ('ahead', '1 year', '1 minute'),
            ('ahead by less', '1 year', '2 hours'), ('ahead by less', '6 minutes', '3 minutes')
        ), sent AS (
            INSERT INTO measurements (device_id, ts, received_at, message_key, metrics)
            SELECT
                device_id, now() - ago + ahead, now() - ago, 'k',
                jsonb_build_object('temperature', extract(minute FROM ago))
            FROM m
        ), more AS (
            INSERT INTO measurements (device_id, ts, received_at, message_key, metrics)
            SELECT
                'right again', now() + interval '300 days' + n * interval '1 second',
                now() - interval '1 day', n::text, '{"temperature": 0}'
            FROM generate_series(1, 1000) AS n
        )
        INSERT INTO devices
        SELECT device_id, NULL, now(), max(now() - ago + ahead) FROM m GROUP BY device_id"""
    )
    await owner.close()
    found = {query.name: query for query in find_queries("edge-postgres")}

    async def rows(name: str, device: str) -> list[asyncpg.Record]:
        text = expand_sql(found[name], VARIABLES | {"device": device}, Range.last(3600))
        return await role.fetch(text)

    ahead = [
        (row["device_id"], row["ahead"] > 86_400) for row in await rows("edge-fleet: Furthest ahead A", "")
    ]
    assert ahead == [("ahead", True), ("ahead by less", False)]
    for device, minute in (("right again", 1), ("ahead", 1), ("ahead by less", 3)):
        ((now, *_),) = await rows("edge-device: $metric now A", device)
        ((seen_ms, arrived_ms),) = await rows("edge-device: Last seen A", device)
        statistics = await rows("edge-device: Statistics A", device)
        assert (now, [row["last"] for row in statistics]) == (minute, [str(minute)]), device
        assert abs(seen_ms - arrived_ms) <= 300_000, device


@pytest.mark.usefixtures("stored")
async def test_a_tag_chooses_devices_and_messages(role: Connection) -> None:
    """Names and values of tags are offered; a value leaves its devices and messages, `(any)` leaves all."""
    found = {query.name: query for query in find_queries("edge-postgres")}

    async def first_column(name: str, **chosen: str) -> list[str]:
        query = found[name]
        return [row[0] for row in await role.fetch(expand_sql(query, VARIABLES | chosen, Range.last(3600)))]

    assert await first_column("edge-fleet: variable tag") == ["line"]
    assert await first_column("edge-fleet: variable value") == ["L1", "L2"]
    devices = "edge-fleet: Devices with $tag = $value A"
    assert await first_column(devices) == ["b2", "it's a1"]
    assert await first_column(devices, value="L2") == ["c3"]
    assert await first_column(devices, tag="hall") == []
    assert await first_column("edge-device: variable tag") == ["line"]
    assert await first_column("edge-device: variable value") == ["(any)", "L1"]
    for panel in ("edge-device: Messages A", "edge-device: $metric as sent A"):
        assert len(await first_column(panel)) == len(await first_column(panel, value="(any)")) == 3
        assert await first_column(panel, value="L2") == []


@pytest.mark.usefixtures("stored")
async def test_every_redis_query_returns_what_its_panel_needs(reader: Redis) -> None:
    """Panels get the fields they name, numbers where a unit says so."""
    found = find_queries("edge-redis")
    assert len(found) == 7
    for query in found:
        columns = await ask_redis(reader, query, VARIABLES, Range.last(query.since_s))
        assert columns, query.name
        assert needed_columns(query) <= set(columns), query.name
        unit = query.panel.get("fieldConfig", {"defaults": {}})["defaults"].get("unit", "string")
        shown: set[str] = needed_columns(query) or (set(columns) if unit != "string" else set())
        for name in shown:
            assert all(isinstance(value, float) for value in columns[name]), (query.name, name)


async def test_the_role_can_do_nothing_else(role: Connection, database: str) -> None:
    """Reading the dashboards' tables is all: no other table, payload, partition, write, DDL or function."""
    await role.execute("SET default_transaction_read_only = off; SET statement_timeout = 0")
    tables = await role.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert len(tables) > len(READABLE) + 10
    for (table,) in tables:
        if table in READABLE:
            await role.execute(f'SELECT * FROM "{table}" LIMIT 1')  # noqa: S608  # a name of our own
        else:
            await refused(role, f'SELECT * FROM "{table}"')  # noqa: S608  # the same
    for statement in (
        "SELECT payload FROM dead_letters",
        "INSERT INTO devices VALUES ('x', NULL, now(), now())",
        "UPDATE measurements SET region = ''",
        "DELETE FROM regions_1h",
        "TRUNCATE open_minutes",
        "CREATE TABLE mine ()",
        "CREATE TEMPORARY TABLE mine ()",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION mine() RETURNS integer LANGUAGE sql RETURN 1",
        "DROP TABLE devices",
        "ALTER TABLE devices ADD mine integer",
        "SELECT turn_dedup('1 second')",
        "SELECT evict_dead_letters(0, 0, 1)",
        "SELECT pg_read_file('/etc/passwd')",
        "COPY devices TO PROGRAM 'cat'",
        "SELECT lo_create(0)",
        "SELECT lo_creat(-1)",
        "SELECT lo_from_bytea(0, 'x')",
        "SET ROLE postgres",
    ):
        await refused(role, statement)
    fresh = await asyncpg.connect(database.replace("postgres@", "grafana@"))
    assert await fresh.fetchval("SHOW statement_timeout") == "30s"
    assert await fresh.fetchval("SHOW transaction_read_only") == "on"
    await fresh.close()


async def test_the_role_reads_partitions_to_come(role: Connection, database: str) -> None:
    """A partition made after the grants is read through its parent, without another grant."""
    owner = await asyncpg.connect(database)
    await owner.execute("SELECT create_measurement_partitions('2030-01-01', '2030-01-01')")
    await owner.execute(
        "INSERT INTO measurements VALUES ('a', '2030-01-01 12:00Z', now(), '1', NULL, '{\"x\": 1}')"
    )
    await owner.close()
    assert await role.fetchval("SELECT count(*) FROM measurements WHERE ts > '2030-01-01Z'") == 1


async def refused(role: Connection, statement: str) -> None:
    """The statement must fail for want of a privilege."""
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await role.execute(statement)


@pytest.mark.parametrize(
    "command",
    [
        "SET device:stats:a1 1",
        "HSET device:stats:a1 region x",
        "DEL device:stats:a1",
        "ZADD devices:last_seen 1 a1",
        "HGETALL projector:cursor",
        "HGETALL projector:marks:devices",
        "GET anything",
        "KEYS *",
        "SCAN 0",
        "EVAL return(1) 0",
        "SCRIPT FLUSH",
        "CONFIG GET *",
        "FLUSHALL",
        "FLUSHDB",
        "PUBLISH a b",
        "SUBSCRIBE a",
        "ACL LIST",
        "CLIENT LIST",
        "INFO",
        "MONITOR",
        "SHUTDOWN",
    ],
)
async def test_the_redis_user_can_do_nothing_else(reader: Redis, command: str) -> None:
    """Reading the views is all: no write, no other key, no script, no look at the server."""
    with pytest.raises(NoPermissionError):
        await run_line(reader, command)
