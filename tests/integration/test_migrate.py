"""Migrations on a real server."""

from __future__ import annotations

import asyncio
import subprocess
from importlib import resources
from typing import TYPE_CHECKING

import asyncpg
import pytest
from structlog.testing import capture_logs

from gateway.migrate import Migration, migrate, migrations, require
from projector.history.packing import Packer
from projector.history.store import Store
from runtime.errors import Retry, Stop
from runtime.http import Health
from tests.support.schema import dump_schema

if TYPE_CHECKING:
    from deploy.local.services import LocalServices
    from tests.support.databases import Databases


async def test_from_nothing_to_current(empty_database: str) -> None:
    """An empty database gets every migration once, in order; a second run does nothing."""
    assert await migrate(empty_database) == [migration.name for migration in migrations()]
    assert await migrate(empty_database) == []


async def test_many_migrators_at_once(empty_database: str) -> None:
    """Gateways that start together apply each migration once between them."""
    applied = await asyncio.gather(*(migrate(empty_database) for _ in range(5)))
    assert sorted(name for names in applied for name in names) == [each.name for each in migrations()]


async def test_a_newer_database_is_refused(empty_database: str) -> None:
    """A database that a newer program migrated is left alone, with both versions named."""
    await migrate(empty_database)
    connection = await asyncpg.connect(empty_database)
    await connection.execute("INSERT INTO schema_migrations VALUES (9999, '9999_future')")
    await connection.close()
    with pytest.raises(Stop, match="9999_future"):
        await migrate(empty_database)


async def test_who_does_not_migrate_waits_for_who_does(empty_database: str) -> None:
    """With `gateway.migrate` off a database of before is waited for, and what is to be done is said."""
    async with asyncpg.create_pool(empty_database, min_size=1, max_size=1) as pool:
        with pytest.raises(Retry, match="0001_first_house is not applied: run `gateway migrate`"):
            await require(pool)
        await migrate(empty_database)
        await require(pool)
        await pool.execute("DELETE FROM schema_migrations WHERE version = 18")
        with pytest.raises(Retry, match="0018_one_call"):
            await require(pool)
        await pool.execute("INSERT INTO schema_migrations VALUES (9999, '9999_future')")
        with pytest.raises(Stop, match="9999_future"):
            await require(pool)


async def test_an_absent_server_is_waited_for(services: LocalServices) -> None:
    """A server that is not there is something to wait for, not to die of."""
    absent = f"postgresql://postgres@127.0.0.1:{services.redis.port}/postgres"
    with pytest.raises(Retry):
        await asyncio.wait_for(migrate(absent), 20)


async def test_schema_file_is_all_migrations_replayed(database: str, services: LocalServices) -> None:
    """`gateway/schema.sql`, which people read, is what the migrations make. `make schema` writes it anew."""
    try:
        dumped = await asyncio.to_thread(dump_schema, database, services.postgres.tool("pg_dump"))
    except subprocess.CalledProcessError as error:
        pytest.fail(error.stderr)
    assert dumped == (resources.files("gateway") / "schema.sql").read_text()


async def test_streams_of_before_go_on(empty_database: str, unique: str) -> None:
    """Streams keep end, epoch and readers when their table becomes a view, their rows trimmed or not."""
    connection = await asyncpg.connect(empty_database)
    await connection.execute(f"CREATE ROLE {unique}")
    for migration in migrations():
        if migration.name.startswith("0005"):
            await connection.execute(
                "INSERT INTO streams (stream, head, published) VALUES (0, 7, 6), (1, 3, 3);"
                "INSERT INTO outbox SELECT 0, n, 0, '[]', now() FROM generate_series(5, 7) AS n"
            )
            await connection.execute(f"GRANT SELECT ON streams TO {unique}, public")
            before = await connection.fetch(
                "SELECT stream, epoch, head, published FROM streams ORDER BY stream"
            )
        await connection.execute(migration.sql)
    assert (
        await connection.fetch("SELECT stream, epoch, head, published FROM streams ORDER BY stream") == before
    )
    await connection.execute(f"SET ROLE {unique}")
    assert await connection.fetchval("SELECT sum(head) FROM streams") == 10
    await connection.execute(f"RESET ROLE; DROP OWNED BY {unique}; DROP ROLE {unique}")
    await connection.execute("UPDATE streams SET epoch = gen_random_uuid()")
    await connection.close()


async def test_who_read_and_wrote_before_days_are_settled(empty_database: str, unique: str) -> None:
    """Readers of retired statistics read settled ones; who may write measurements needs nothing more."""
    connection = await asyncpg.connect(empty_database)
    await connection.execute(f"CREATE ROLE {unique}")
    for migration in migrations():
        if migration.name.endswith("_settled"):
            await connection.execute(
                f"""GRANT SELECT ON retired_statistics TO {unique}, public;
                GRANT SELECT, INSERT, DELETE ON measurements TO {unique}"""
            )
        await connection.execute(migration.sql)
    await connection.execute(
        """SELECT create_measurement_partitions('2020-03-01', '2020-03-01');
        SELECT begin_day('measurements_p20200301'), settle_blocks('measurements_p20200301', 1)"""
    )
    await connection.execute(f"SET ROLE {unique}; CREATE TEMPORARY TABLE late_measurements (partition text)")
    await connection.execute("INSERT INTO measurements VALUES ('d', '2020-03-01Z', now(), 'k', NULL, '{}')")
    assert await connection.fetchval("SELECT count(*) FROM public.late_measurements") == 1
    await connection.execute("DELETE FROM measurements WHERE device_id = 'd'")
    assert await connection.fetchval("SELECT state FROM settled_days") == "begun"
    assert await connection.fetch("SELECT FROM settled_statistics") == []
    assert await connection.fetch("SELECT FROM days_added_up") == []
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("UPDATE settled_days SET state = 'settled'")
    await connection.execute(f"RESET ROLE; DROP OWNED BY {unique}; DROP ROLE {unique}")
    await connection.close()


async def test_minutes_of_before_are_packed(empty_database: str, unique: str) -> None:
    """Minutes keep rows, days and readers when their table becomes a view, and are packed as new ones are."""
    minutes = "SELECT device_id, metric, bucket, region, region_at, count, sum, min, max FROM measurements_1m"
    connection = await asyncpg.connect(empty_database)
    await connection.execute(f"CREATE ROLE {unique}")
    for migration in migrations():
        if migration.name.endswith("_packed"):
            await connection.execute(
                """SELECT attach_partition('measurements_1m', 'bucket', '2026-11-23Z', '2026-11-24Z');
                INSERT INTO measurements_1m
                SELECT d, 't', at, 'north', at + interval '1 second', 2, n, n, n
                FROM unnest(ARRAY['a', 'b']) AS d, generate_series(0, 99) AS n,
                    LATERAL (SELECT timestamptz '2026-11-22 23:00Z' + n * interval '1 minute' AS at) AS t"""
            )
            await connection.execute(f"GRANT SELECT ON measurements_1m TO {unique}")
            before = await connection.fetch(f"{minutes} ORDER BY device_id, bucket")
        await connection.execute(migration.sql)
    assert await connection.fetch(f"{minutes} ORDER BY device_id, bucket") == before
    days = await connection.fetch(
        "SELECT name FROM partitions_of('open_minutes')"
        " UNION ALL SELECT name FROM partitions_of('packed_minutes')"
    )
    assert [row["name"] for row in days] == ["open_minutes_p20261123", "packed_minutes_p20261123"]
    async with asyncpg.create_pool(empty_database, min_size=1, max_size=2) as pool:
        await Store(pool).make_hours()
        while await Packer(pool).turn():
            pass
    await connection.execute(f"SET ROLE {unique}")
    assert await connection.fetch(f"{minutes} ORDER BY device_id, bucket") == before
    await connection.execute(f"RESET ROLE; DROP OWNED BY {unique}; DROP ROLE {unique}")
    assert await connection.fetchval("SELECT count(*) FROM packed_minutes_p20261123") == 2
    await connection.close()


async def test_views_of_others_have_all_minutes(empty_database: str, unique: str) -> None:
    """What was made on the table of minutes reads all of them afterwards, or is named; rights stay."""
    first = [migration for migration in migrations() if migration.version < 11]
    await migrate(empty_database, known=first)
    connection = await asyncpg.connect(empty_database)
    await connection.execute(
        """SELECT attach_partition('measurements_1m', 'bucket', '2026-11-23Z', '2026-11-24Z');
        INSERT INTO measurements_1m VALUES ('a', 't', '2026-11-23 09:00Z', NULL, NULL, 1, 1, 1, 1);
        CREATE VIEW mine WITH (security_barrier = true) AS SELECT * FROM measurements_1m WHERE metric = 't';
        CREATE VIEW means AS SELECT device_id, sum(sum) / sum(count) AS mean FROM mine GROUP BY 1;
        CREATE VIEW by_key AS SELECT device_id, metric, bucket, sum FROM measurements_1m
            GROUP BY device_id, metric, bucket;
        CREATE MATERIALIZED VIEW kept AS SELECT * FROM measurements_1m;
        CREATE RULE counted AS ON INSERT TO dead_letters DO ALSO SELECT count(*) FROM measurements_1m;
        CREATE PUBLICATION everywhere FOR TABLE measurements_1m"""
    )
    await connection.execute(f"CREATE ROLE {unique}; GRANT SELECT ON means TO {unique}")
    with capture_logs() as logs:
        await migrate(empty_database)
    messages = [each["message"] for each in logs if each["event"] == "migration_warns"]
    warned = sorted(message.split(" has minutes")[0] for message in messages)
    assert warned == [
        "materialized view kept",
        "publication of table open_minutes in publication everywhere",
        "rule counted on table dead_letters",
        "view by_key",
    ]
    async with asyncpg.create_pool(empty_database, min_size=1, max_size=2) as pool:
        await Store(pool).make_hours()
        assert await Packer(pool).turn()
    await connection.execute("DELETE FROM open_minutes")
    assert await connection.fetchval("SELECT device_id FROM mine") == "a"
    options = await connection.fetchval("SELECT reloptions FROM pg_class WHERE relname = 'mine'")
    assert options == ["security_barrier=true"]
    await connection.execute(f"SET ROLE {unique}")
    assert await connection.fetchval("SELECT mean FROM means") == 1
    await connection.execute(f"RESET ROLE; DROP OWNED BY {unique}; DROP ROLE {unique}")
    await connection.close()


async def test_a_migration_longer_than_a_command_may_take(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is waited for, however long, and told what it is at meanwhile."""
    monkeypatch.setattr("runtime.postgres._COMMAND_TIMEOUT_S", 0.3)
    health = Health()
    long = Migration(1, "0001_long", "SELECT pg_sleep(1.5)")
    with capture_logs() as logs:
        assert await migrate(empty_database, health=health, known=[long], tell_s=0.1) == ["0001_long"]
    told = [line for line in logs if line["event"] == "migrating"]
    assert len(told) > 3
    assert told[-1]["running_s"] > 0.3
    assert "Timeout PgSleep" in {line.get("waits_for") for line in told}  # the last may be of its end
    assert health.reasons() == {}


async def test_who_keeps_a_migration_waiting_is_told(empty_database: str) -> None:
    """A lock that it waits for has a holder with a name, in the log and in what is not ready."""
    reader = await asyncpg.connect(empty_database, server_settings={"application_name": "pg_dump"})
    await reader.execute("CREATE TABLE t (x integer)")
    health = Health()
    change = Migration(1, "0001_change", "ALTER TABLE t ADD COLUMN y integer")
    with capture_logs() as logs:
        async with reader.transaction():
            await reader.execute("SELECT * FROM t")
            migrating = asyncio.create_task(
                migrate(empty_database, health=health, known=[change], tell_s=0.05)
            )
            async with asyncio.timeout(20):
                while "blocked by pg_dump" not in health.reasons().get("schema", ""):
                    await reader.execute("SELECT pg_sleep(0.01)")
        assert await migrating == ["0001_change"]
    assert any("pg_dump (pid" in line.get("blocked_by", "") for line in logs)
    await reader.close()


async def test_an_index_left_unfinished_is_made_again(empty_database: str) -> None:
    """A migration without a transaction goes on where a killed migrator was."""
    connection = await asyncpg.connect(empty_database)
    await connection.execute("CREATE TABLE t AS SELECT 1 AS x FROM generate_series(1, 10)")
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.execute("CREATE UNIQUE INDEX CONCURRENTLY t_x ON t (x)")
    sql = (
        "-- no transaction\n-- Why; with a semicolon.\nCREATE TABLE IF NOT EXISTS u (y integer);\n\n"
        "-- Another.\nCREATE INDEX CONCURRENTLY IF NOT EXISTS t_x\n    ON t (x);\n"
    )
    assert await migrate(empty_database, known=[Migration(1, "0001_index", sql)]) == ["0001_index"]
    assert await connection.fetchval("SELECT indisvalid FROM pg_index WHERE indexrelid = 't_x'::regclass")
    assert await migrate(empty_database, known=[Migration(1, "0001_index", sql)]) == []
    await connection.close()


async def test_a_migration_that_somebody_cancels_ends_it(empty_database: str) -> None:
    """It is not begun anew for ever: who cancelled it had a reason."""
    canceller = await asyncpg.connect(empty_database)
    cancel = (
        "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity"
        " WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()"
    )
    migrating = asyncio.create_task(
        migrate(empty_database, known=[Migration(1, "0001_long", "SELECT pg_sleep(60)")])
    )
    async with asyncio.timeout(20):
        while not await canceller.fetchval(cancel):
            await canceller.execute("SELECT pg_sleep(0.01)")
    with pytest.raises(Stop, match="0001_long failed: canceling statement due to user request"):
        await migrating
    await canceller.close()


async def test_a_database_in_another_encoding_is_not_migrated(databases: Databases) -> None:
    """It is refused with what to do, before anything is in it."""
    dsn = await databases.create_latin()
    with pytest.raises(Stop, match="encoding is LATIN1"):
        await migrate(dsn)
    await databases.drop(dsn)
