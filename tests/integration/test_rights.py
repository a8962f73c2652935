"""What each role may do in PostgreSQL, tried statement by statement; and what it may not."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from contract.rights import GATEWAY, GRAFANA, OWNERS_FUNCTIONS, PROJECTOR, ROLES
from gateway.check.postgres import check_postgres
from gateway.lease import Lease
from gateway.slot import Slot
from runtime.errors import Stop
from runtime.http import Health
from runtime.postgres import load_queries
from runtime.rights import missing_rights, script
from runtime.settings import Postgres, Settings
from tests.support.roles import as_kind, bare_role, give

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gateway.check import Finding

    Connection = asyncpg.Connection[asyncpg.Record]

VERBS = {
    "SELECT": "EXPLAIN SELECT {0} FROM {0}",
    "INSERT": "EXPLAIN INSERT INTO {0} OVERRIDING SYSTEM VALUE SELECT (null::{0}).* WHERE false",
    "UPDATE": "EXPLAIN UPDATE {0} SET {1} = {1}",
    "DELETE": "EXPLAIN DELETE FROM {0}",
    "TRUNCATE": "TRUNCATE {0}",
}
NEVER = (
    "CREATE TABLE mine (x int)",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "DROP TABLE measurements",
    "ALTER TABLE outbox ADD COLUMN x int",
    "ALTER TABLE dead_letters DISABLE TRIGGER ALL",
    "CREATE TRIGGER mine AFTER INSERT ON measurements EXECUTE FUNCTION note_change()",
    "CREATE ROLE mine",
    "COPY (SELECT 1) TO '/tmp/mine'",
)
OWNERS_TABLES = (
    "SELECT attach_partition('streams', 'stream', now(), now() + interval '1 day')",
    "SELECT shut_default_partition('outbox', 'n', ARRAY[now()], ARRAY[now()])",
    "SELECT begin_day('dead_letters')",
    "SELECT let_day_be('dead_letters')",
    "SELECT retire_blocks('outbox', 0, 1)",
    "SELECT drop_empty_partition('dead_letters')",
)


@pytest.fixture
async def owner(database: str) -> AsyncIterator[Connection]:
    """A connection of who may do everything."""
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


@pytest.fixture(params=["gateway", "projector", "grafana"])
async def role(request: pytest.FixtureRequest, database: str, unique: str) -> AsyncIterator[tuple[str, str]]:
    """A kind of role, and the DSN of one that has its rights."""
    async with bare_role(database, unique) as dsn:
        await give(database, request.param, unique)
        yield request.param, dsn


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Connection]:
    """A connection, until the block ends."""
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def refused(connection: Connection, statement: str) -> bool:
    """Whether a statement fails for the want of a right; nothing of it stays."""
    try:
        async with connection.transaction():
            await connection.execute(statement)
            await connection.execute("SELECT 1 / 0")
    except asyncpg.InsufficientPrivilegeError:
        return True
    except asyncpg.DivisionByZeroError:
        pass
    return False


async def test_a_role_can_what_its_list_says_and_nothing_else(
    role: tuple[str, str], owner: Connection
) -> None:
    """Each verb on each table, those on which there is no word included, is granted or refused as listed."""
    kind, dsn = role
    listed = {
        (right.name, right.verb) for right in ROLES[kind] if right.kind == "TABLE" and not right.columns
    }
    tables = await owner.fetch(
        """SELECT c.relname AS name, c.relkind = 'v' AS is_view, min(a.attname) AS "column"
        FROM pg_class AS c
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND a.attgenerated = ''
            AND a.attidentity = ''
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v')
        GROUP BY 1, 2"""
    )
    assert len(tables) > 40
    connection = await asyncpg.connect(dsn)
    may = set()
    for table in tables:
        for verb, statement in VERBS.items():
            if table["is_view"] and verb != "SELECT":
                continue
            if not await refused(connection, statement.format(table["name"], table["column"])):
                may.add((table["name"], verb))
    assert may == listed
    assert [each for each in NEVER if not await refused(connection, each)] == []
    await connection.close()


async def test_the_owners_functions_touch_partitions_alone(role: tuple[str, str], owner: Connection) -> None:
    """Nobody but a gateway calls what runs with the owner's rights, and that changes partitions alone."""
    kind, dsn = role
    connection = await asyncpg.connect(dsn)
    assert [each for each in OWNERS_TABLES if not await refused(connection, each)] == []
    day = "attach_partition('measurements', 'ts', '2020-03-01 00:00+00', '2020-03-02 00:00+00')"
    assert await refused(connection, f"SELECT {day}") is (kind != "gateway")
    if kind == "gateway":
        await connection.execute("SELECT drop_history_partition('dead_letters', '1m', now())")
        await connection.execute("INSERT INTO settled_days (partition, state) VALUES ('outbox', 'leaving')")
        assert await connection.fetchval("SELECT drop_leaving_partition('outbox')") is False
    await connection.close()
    assert (
        await owner.fetchval("SELECT count(*) FROM pg_class WHERE relname IN ('dead_letters', 'outbox')") == 2
    )
    functions = await owner.fetch(
        """SELECT proname AS name, proconfig FROM pg_proc
        WHERE prosecdef AND pronamespace = 'public'::regnamespace"""
    )
    assert {row["name"] for row in functions} == {
        "note_change",
        *(right.name.partition("(")[0] for right in OWNERS_FUNCTIONS),
    }
    assert all("search_path=public, pg_temp" in row["proconfig"] for row in functions)


async def test_every_missing_right_is_said_at_once(database: str, unique: str, owner: Connection) -> None:
    """Of a role that may only connect all are named, with statements that mend it; then none is."""
    async with bare_role(database, unique) as dsn:
        await owner.execute(f'GRANT CONNECT ON DATABASE "{dsn.rpartition("/")[2]}" TO {unique}')
        await owner.execute("SELECT attach_partition('measurements', 'ts', '2020-03-01', '2020-03-02')")
        await owner.execute("CREATE FUNCTION begin_day(integer) RETURNS integer RETURN 1")  # somebody else's
        connection = await asyncpg.connect(dsn)
        for rights in (GATEWAY, PROJECTOR, GRAFANA):
            statements = await missing_rights(connection, rights)
            if rights is GATEWAY:
                assert f"GRANT USAGE ON SCHEMA public TO {unique}" in statements
                assert f"GRANT SELECT, INSERT, DELETE ON outbox TO {unique}" in statements
                days = "public.measurements_default, public.measurements_p20200301"
                assert f"GRANT SELECT ON {days} TO {unique}" in statements
                assert f"GRANT EXECUTE ON FUNCTION begin_day(text) TO {unique}" in statements
            for statement in statements:
                await owner.execute(statement)
            assert await missing_rights(connection, rights) == []
        await connection.close()


async def test_what_a_restore_makes_of_functions(database: str, owner: Connection) -> None:
    """Without rights, and in another schema: both are told, with statements after which all is well."""

    async def told() -> list[Finding]:
        found = [each async for each in check_postgres(Settings(postgres=Postgres(dsn=database)))]
        return [each for each in found if each.component == "functions"]

    assert await told() == []
    await owner.execute("GRANT EXECUTE ON FUNCTION begin_day(text), note_change() TO PUBLIC")
    await owner.execute("ALTER FUNCTION let_day_be(text) SET search_path = before, pg_temp")
    opened, astray = await told()
    assert opened.found.endswith("PUBLIC may call public.begin_day(text)")
    assert astray.found.endswith("public.let_day_be(text)")
    for finding in (opened, astray):
        await owner.execute(finding.advice.removeprefix("as the owner: ").partition("; then")[0])
    assert await told() == []


async def test_default_privileges_give_nobody_the_keys(empty_database: str, unique: str) -> None:
    """Who may read every new table of a site cannot read what rows are signed with; who can is named."""
    from gateway.migrate import migrate, migrations  # noqa: PLC0415  # one test's

    async with bare_role(empty_database, unique) as dsn:
        owner = await asyncpg.connect(empty_database)
        await owner.execute("GRANT ALL ON SCHEMA public TO PUBLIC")
        await owner.execute(f"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {unique}, PUBLIC")
        await owner.execute(f'GRANT CONNECT ON DATABASE "{dsn.rpartition("/")[2]}" TO {unique}')
        await migrate(empty_database, known=[each for each in migrations() if each.version < 19])
        reader = await asyncpg.connect(dsn)
        assert not await refused(reader, "SELECT FROM stream_keys")
        await migrate(empty_database)
        assert await refused(reader, "SELECT FROM stream_keys")
        assert not await refused(reader, "SELECT FROM measurements")
        queries = load_queries("runtime")
        assert await owner.fetch(queries.strangers_with_keys) == []
        await owner.execute(f"GRANT SELECT ON stream_keys TO {unique}")
        assert [row[0] for row in await owner.fetch(queries.strangers_with_keys)] == [unique]
        await reader.close()
        await owner.close()


def test_grafanas_own_script_says_the_same() -> None:
    """What `deploy/grafana/postgres.sql` grants is what the list says."""
    said = " ".join(
        (Path(__file__).parents[2] / "deploy/grafana/postgres.sql").read_text(encoding="utf-8").split()
    )
    for statement in script(GRAFANA, "grafana", database="x"):
        verbs, _, rest = statement.removeprefix("GRANT ").partition(" ON ")
        name = rest.removesuffix(' TO "grafana"')
        if name.startswith("DATABASE"):
            assert "GRANT CONNECT ON DATABASE %I TO grafana" in said
        elif name.startswith("SCHEMA"):
            assert "GRANT USAGE ON SCHEMA public TO grafana" in said
        else:
            (grant,) = [
                g
                for g in said.split("GRANT ")[1:]
                if g.startswith(f"{verbs} ON ") and name in g.split(";")[0]
            ]
            assert grant.split(";")[0].endswith(" TO grafana")
    assert said.count("GRANT SELECT") == 2


async def test_a_schema_of_the_roles_own_hides_nothing(database: str, unique: str, owner: Connection) -> None:
    """A role with a schema by its own name, first on its search path, is told what it lacks."""
    async with bare_role(database, unique) as dsn:
        await give(database, "projector", unique)
        await owner.execute(f"CREATE SCHEMA {unique} AUTHORIZATION {unique}")
        await owner.execute(f"REVOKE SELECT ON devices FROM {unique}")  # noqa: S608  # of this test
        connection = await asyncpg.connect(dsn)
        assert await missing_rights(connection, PROJECTOR) == [f"GRANT SELECT ON devices TO {unique}"]
        await connection.close()


async def test_a_stranger_that_holds_locks_is_named(
    settings: Settings, unique: str, owner: Connection
) -> None:
    """Where everybody may lock, who reads can keep a gateway from its stream: told, with what mends it."""

    async def told() -> Finding | None:
        found = [each async for each in check_postgres(settings)]
        return next((each for each in found if each.component == "locks"), None)

    async with bare_role(settings.postgres.dsn, unique) as dsn:
        assert await told() is None
        await give(settings.postgres.dsn, "grafana", unique)
        await give(settings.postgres.dsn, "gateway", "tests_gateway")
        warned = await told()
        assert warned is not None
        assert (warned.state, warned.found.split()[0]) == ("warn", unique)
        async with connected(dsn) as stranger:
            await stranger.execute("SELECT pg_advisory_lock(hashtext('mqtt-edge-gateway/stream'), 0)")
            held = await told()
            assert held is not None
            assert (held.state, held.found.split()[0]) == ("fail", unique)
            lease = Lease(
                as_kind(settings.postgres.dsn, "gateway"), slot=Slot(0, "gateway-0"), health=Health()
            )
            with pytest.raises(Stop, match=f"stream 0 is held by the role {unique}, which is no gateway's"):
                await lease.acquire()
        functions = await owner.fetchval(load_queries("runtime").lock_functions)
        await owner.execute(f"REVOKE EXECUTE ON FUNCTION {functions} FROM PUBLIC")
        assert await told() is None


def test_what_is_shouted_is_no_ones_business() -> None:
    """Everybody may notify, which PostgreSQL cannot forbid: nobody of the house listens, or tells so."""
    house = (Path(__file__).parents[2] / name for name in ("gateway", "projector", "runtime", "contract"))
    words = re.compile(r"\b(NOTIFY|LISTEN)\s+[\"a-z]|pg_notify|add_listener")
    files = [path for folder in house for kind in ("*.py", "*.sql") for path in folder.rglob(kind)]
    assert [path for path in files if words.search(path.read_text(encoding="utf-8"))] == []
