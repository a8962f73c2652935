"""Days that are over, on a real PostgreSQL: added up once, beside whatever else goes on."""

from __future__ import annotations

import asyncio
import contextlib
import random
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest
from structlog.testing import capture_logs

from gateway import days as days_module
from gateway import retention as retention_module
from gateway import settling as settling_module
from gateway import stride as stride_module
from gateway.retention import retire
from gateway.settling import settle
from runtime.errors import Retry
from runtime.postgres import ERRORS, lent, load_queries, open_pool
from tests.support.measured import OLD, Row, at, check_retired, history, insert, make_days, now, row
from tests.support.roles import as_kind
from tests.support.write_side import decode, write_side

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from runtime.postgres import Connection

    Client = asyncpg.Connection[asyncpg.Record]

queries = load_queries("tests.support")
gateway = load_queries("gateway")
DAY = "measurements_p20200301"
END_KEEPERS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'keeper'"
LEFTOVERS = """SELECT (SELECT count(*) FROM settled_days) + (SELECT count(*) FROM settled_statistics)
    + (SELECT count(*) FROM late_measurements)"""


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block a piece, and no rest."""
    monkeypatch.setattr(stride_module, "_FIRST", 1)
    monkeypatch.setattr(stride_module, "_FEWEST", 1)
    monkeypatch.setattr(stride_module, "_SHORT_S", 0.0)
    monkeypatch.setattr(days_module, "_REST", 0.0)


@pytest.fixture
async def connection(database: str) -> AsyncIterator[Client]:
    """A connection beside the keeper's, to a database with some old days."""
    made = await asyncpg.connect(database)
    await make_days(made, OLD, OLD + timedelta(days=3))
    await made.execute("CREATE TABLE told (n bigint)")
    yield made
    await made.close()


@asynccontextmanager
async def keeping(database: str) -> AsyncIterator[Connection]:
    """The connection of whoever does the chore."""
    settings = {"lock_timeout": "100ms"}
    async with (
        await open_pool(as_kind(database, "gateway"), name="keeper", settings=settings) as pool,
        lent(pool) as made,
    ):
        yield made


@pytest.fixture
async def keeper(database: str) -> AsyncIterator[Connection]:
    """The only one."""
    async with keeping(database) as made:
        yield made


async def tell(connection: Client, rows: list[Row]) -> None:
    """Store measurements, and how many they are."""
    async with connection.transaction():
        await insert(connection, rows)
        await connection.execute("INSERT INTO told VALUES ($1)", len(rows))


async def check(connection: Client) -> int:
    """Whoever reads, each measurement is there once; how many there are."""
    read = await connection.fetchrow(queries.told_and_read)
    assert read is not None
    assert read["told"] == read["rebuilt"] == read["verified"], dict(read)
    return int(read["told"])


async def states(connection: Client) -> dict[str, str]:
    """Of each day that is known."""
    rows = await connection.fetch("SELECT partition, state FROM settled_days")
    return {each["partition"][-4:]: each["state"] for each in rows}


async def late(connection: Client) -> int:
    """How many rows are noted."""
    return int(await connection.fetchval("SELECT count(*) FROM late_measurements"))


async def somebody_waits(connection: Client | Connection) -> None:
    """Return when somebody waits for a lock in this database."""
    async with asyncio.timeout(20):
        while not await connection.fetchval(queries.somebody_waits):
            pass


def many(n: int, key: str = "k", seconds: float = 0) -> list[Row]:
    """Rows of the first day."""
    return [row(f"{key}{i}", at(OLD, seconds + i), f"d{i % 3}", x=i) for i in range(n)]


# -- what a day amounts to -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2])
async def test_what_a_day_amounts_to(keeper: Connection, connection: Client, seed: int) -> None:
    """Settled, folded late or retired then, statistics are what the messages one by one come to."""
    await connection.execute(f"DROP TABLE {DAY[:-1]}2, {DAY[:-1]}3, {DAY[:-1]}4")
    rows = [each for each in history(seed, days=1) if each.ts.date() == OLD]
    assert len(rows) > 200
    await tell(connection, rows[:150])
    assert await settle(keeper, now(), None) == 1
    await check_retired(connection, rows[:150], queries.settled)
    await tell(connection, rows[150:])
    assert await late(connection) == len(rows) - 150
    assert await settle(keeper, now(), None) == 0
    assert await late(connection) == 0
    await check_retired(connection, rows, queries.settled)
    await check(connection)
    assert await retire(keeper, now(), timedelta(days=90)) == len(rows)
    await check_retired(connection, rows)
    assert await connection.fetchval("SELECT to_regclass($1)", DAY) is None
    assert await connection.fetchval(LEFTOVERS) == 0


async def test_which_days(keeper: Connection, connection: Client) -> None:
    """Those over for six hours by both clocks, that hold something, and that retention does not take."""
    end = at(OLD) + timedelta(days=1)
    await tell(
        connection, [*many(1), row("2", at(OLD + timedelta(days=1)), x=1), row("stray", at(OLD, -9e5))]
    )
    assert await settle(keeper, end + timedelta(hours=5.9), None) == 0
    assert await settle(keeper, end + timedelta(hours=6), timedelta(hours=5)) == 0, "retention takes it"
    assert await settle(keeper, end + timedelta(hours=6), None) == 1
    assert await settle(keeper, now() + timedelta(days=3000), None) == 1
    assert await states(connection) == {"0301": "settled", "0302": "settled"}
    assert await settle(keeper, now(), None) == 0
    young = now() + timedelta(hours=1)
    await make_days(connection, young.date(), young.date())
    await tell(connection, [row("young", young, x=1)])
    assert await settle(keeper, now() + timedelta(days=3000), None) == 0


@pytest.mark.parametrize("analyzed", [True, False])
async def test_days_whose_statistics_are_no_shorter(
    keeper: Connection, connection: Client, *, analyzed: bool
) -> None:
    """A day on which thousands of devices sent once is left as it is, once it is known or as it seems."""
    rows = [row(str(i), at(OLD, i), f"d{i}", x=i) for i in range(1200)]
    await tell(connection, rows)
    if analyzed:
        await connection.execute(f"ANALYZE {DAY}")
    assert await settle(keeper, now(), None) == 1
    assert await states(connection) == {"0301": "left"}
    assert await connection.fetchval("SELECT count(*) FROM settled_statistics") == 0
    begun = await connection.fetchval("SELECT count(*) FROM pg_trigger WHERE tgname = 'note_change'")
    assert begun == (0 if analyzed else 1)
    await tell(connection, many(5))
    assert await check(connection) == 1205
    assert await late(connection) == 0, "it pays for no trigger"
    assert await settle(keeper, now(), None) == 0
    assert await retire(keeper, now(), timedelta(days=90)) == 1205
    assert await check(connection) == 1205
    await check_retired(connection, rows + many(5))


# -- what comes late -----------------------------------------------------------------------------------------


async def test_late_rows_at_any_time(keeper: Connection, connection: Client, database: str) -> None:
    """Before, between and after pieces, in blocks that are done or not, seen or not yet committed."""
    await tell(connection, many(1000))
    await connection.execute("SELECT begin_day($1)", DAY)
    await connection.execute("DELETE FROM measurements WHERE ts < $1", at(OLD, 300))
    await connection.execute("DELETE FROM told; INSERT INTO told SELECT count(*) FROM measurements")
    await connection.execute(f"VACUUM {DAY}")  # room for late rows in the first blocks
    assert await connection.fetchval("SELECT settle_blocks($1, 2)", DAY) == "begun"
    await tell(connection, many(50, "into-done"))
    assert await connection.fetchval("SELECT min(place)::text FROM late_measurements") < "(2,0)"
    await tell(connection, many(500, "ahead"))
    other = await asyncpg.connect(database)
    async with other.transaction():
        await tell(other, many(900, "unseen"))
        assert await check(connection) == 1250
        assert await settle(keeper, now(), None) == 1
        assert await states(connection) == {"0301": "settled"}
        assert await check(connection) == 1250
        assert await late(connection) == 0, "those in blocks that were done are folded"
    await other.close()
    assert await check(connection) == 2150
    assert await late(connection) == 900
    assert await settle(keeper, now(), None) == 0
    assert (await check(connection), await late(connection)) == (2150, 0)


async def test_who_writes_waits_for_nothing(database: str, keeper: Connection, connection: Client) -> None:
    """A day whose writer has not committed is begun at another turn; batches of it commit meanwhile."""
    await tell(connection, many(10))
    async with write_side(database) as side, connection.transaction():
        await insert(connection, many(1, "open"))
        with capture_logs() as logs:
            settling = asyncio.create_task(settle(keeper, now(), None))
            for i in range(10):
                payload = b'{"id": "w%d", "ts": "2020-03-01T00:00:00Z", "x": 1}' % i
                await asyncio.wait_for(side.store.commit(*decode(payload)), 10)
            assert await settling == 0
        assert [line["event"] for line in logs if "settl" in line["event"]] == ["settling_postponed"]
    assert await settle(keeper, now(), None) == 1
    assert await connection.fetchval("SELECT sum(count) FROM settled_statistics WHERE metric = ''") == 21


async def test_rows_that_come_faster_than_they_are_folded(keeper: Connection, connection: Client) -> None:
    """Each piece that is folded brings a row: a turn ends all the same, and leaves it to the next."""
    await tell(connection, many(300))
    await settle(keeper, now(), None)
    await connection.execute(
        """CREATE FUNCTION another() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
        BEGIN
            INSERT INTO measurements_p20200301 VALUES ('d1', '2020-03-01Z', now(), 'another', NULL, '{}');
            INSERT INTO told VALUES (1);
            RETURN NULL;
        END
        $$;
        CREATE TRIGGER another AFTER DELETE ON late_measurements
        FOR EACH STATEMENT EXECUTE FUNCTION another()"""
    )
    await tell(connection, many(20, "late"))
    async with asyncio.timeout(60):
        await settle(keeper, now(), None)
    assert await late(connection) == 1
    await check(connection)


async def test_what_comes_while_days_are_settled(keeper: Connection, connection: Client) -> None:
    """Late rows and days that are over meanwhile have their turn after the day that is at it."""
    await tell(connection, [*many(300), row("next", at(OLD, 90_000), x=1)])
    await connection.execute(
        """CREATE FUNCTION more() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
        BEGIN
            INSERT INTO measurements
            SELECT 'd1', day, now(), 'more', NULL, '{}'
            FROM unnest(ARRAY['2020-03-02Z', '2020-03-03Z']::timestamptz[]) AS day;
            INSERT INTO told VALUES (2);
            RETURN NULL;
        END
        $$;
        CREATE TRIGGER more AFTER UPDATE ON settled_days
        FOR EACH ROW WHEN (NEW.partition = 'measurements_p20200301' AND NEW.state = 'settled')
        EXECUTE FUNCTION more()"""
    )
    assert await settle(keeper, now(), None) == 3
    assert await late(connection) == 0
    assert await check(connection) == 303


async def test_a_day_that_cannot_be_settled(keeper: Connection, connection: Client) -> None:
    """A row that no gateway stores keeps its day, and no other, from being settled and retired."""
    bad = Row("d1", at(OLD, 90_000), at(OLD, 90_000), "bad", None, '{"x": 1e400}')
    await tell(connection, [*many(300), bad, row("third", at(OLD, 180_000))])
    with capture_logs() as logs, pytest.raises(Retry, match="measurements_p20200302: NumericValueOutOfRange"):
        await settle(keeper, now(), None)
    assert [line["partition"] for line in logs if line["event"] == "settling_failed"] == [f"{DAY[:-1]}2"]
    assert await states(connection) == {"0301": "settled", "0302": "begun", "0303": "settled"}
    assert await check(connection) == 302
    with pytest.raises(Retry, match="measurements_p20200302"):
        await retire(keeper, now(), timedelta(days=90))
    assert await connection.fetchval("SELECT count(*) FROM measurements") == 1
    assert await check(connection) == 302


# -- what is changed by hand ---------------------------------------------------------------------------------

CHANGES = {
    "removed": "DELETE FROM measurements WHERE device_id = 'd1'",
    "changed": "UPDATE measurements SET metrics = '{\"x\": 7}' WHERE device_id = 'd1'",
    "moved": "UPDATE measurements SET ts = ts + interval '1 day' WHERE device_id = 'd1'",
    "truncated": "TRUNCATE measurements",
    "switched off": "ALTER TABLE measurements_p20200301 DISABLE TRIGGER note_change;"
    " DELETE FROM measurements",
    "replaced": "DROP TABLE measurements_p20200301;"
    " SELECT create_measurement_partitions('2020-03-01', '2020-03-01');"
    " SELECT grant_as_parent('measurements', 'measurements_p20200301');"
    " INSERT INTO measurements VALUES ('d1', '2020-03-01', '2020-03-01', 'k', NULL, '{}')",
    "dropped": f"DROP TABLE {DAY}",
    "detached": f"ALTER TABLE measurements DETACH PARTITION {DAY}",
    "forgotten": "DELETE FROM settled_days",
    "not trusted": "UPDATE settled_statistics SET count = 9; SELECT settle_again()",
}


@pytest.mark.parametrize("change", CHANGES)
async def test_what_is_changed_by_hand(keeper: Connection, connection: Client, change: str) -> None:
    """It counts at once, a day that has changed is added up again, and nothing is left that was."""
    await tell(connection, many(400))
    await settle(keeper, now(), None)
    await tell(connection, many(3, "late"))
    await connection.execute(CHANGES[change])
    await connection.execute("DELETE FROM told; INSERT INTO told SELECT count(*) FROM measurements")
    await check(connection)
    await settle(keeper, now(), None)
    await check(connection)
    left = await connection.fetch(queries.all_measurements)
    await check_retired(connection, [Row(*each) for each in left], queries.settled)


async def test_a_day_that_is_dropped_is_forgotten_in_pieces(
    keeper: Connection, connection: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day of a large fleet is no statement that takes longer than statements may."""
    monkeypatch.setattr(settling_module, "_PIECE_ROWS", 7)
    await tell(connection, many(30) + [row("1", at(OLD), f"e{i}", x=1) for i in range(20)])
    await settle(keeper, now(), None)
    await connection.execute(
        """CREATE FUNCTION too_many() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            ASSERT (SELECT count(*) FROM gone) <= 7;
            RETURN NULL;
        END
        $$;
        CREATE TRIGGER too_many AFTER DELETE ON settled_statistics REFERENCING OLD TABLE AS gone
        FOR EACH STATEMENT EXECUTE FUNCTION too_many();
        DROP TABLE measurements_p20200301"""
    )
    await settle(keeper, now(), None)
    assert await connection.fetchval(LEFTOVERS) == 0


@pytest.mark.parametrize("done", [0, 2])
async def test_changed_while_it_is_added_up(
    keeper: Connection, connection: Client, database: str, done: int
) -> None:
    """Whoever removes rows waits for the piece, and then the day begins anew; and the other way round."""
    await tell(connection, many(400))
    await keeper.execute("SELECT begin_day($1)", DAY)
    for _ in range(done):
        await keeper.fetchval("SELECT settle_blocks($1, 1)", DAY)
    async with keeper.transaction():
        assert await keeper.fetchval("SELECT settle_blocks($1, 100)", DAY) == "settled"
        removing = asyncio.create_task(connection.execute("DELETE FROM measurements WHERE device_id = 'd1'"))
        looker = await asyncpg.connect(database)
        await somebody_waits(looker)
    await removing
    await looker.close()
    assert await states(connection) == {"0301": "begun"}
    async with connection.transaction():
        await connection.execute("DELETE FROM measurements WHERE device_id = 'd2'")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await keeper.fetchval("SELECT settle_blocks($1, 100)", DAY)
    await settle(keeper, now(), None)
    await connection.execute("INSERT INTO told SELECT count(*) - 400 FROM measurements")
    assert await check(connection) == 134


@pytest.mark.parametrize("change", ["removed", "changed", "truncated"])
async def test_changed_by_who_cannot_see_that_it_is_settled(
    keeper: Connection, connection: Client, database: str, change: str
) -> None:
    """Whose snapshot is from before is refused: nothing could be said of a row that it does not see."""
    await tell(connection, many(30))
    other = await asyncpg.connect(database)
    transaction = other.transaction(isolation="repeatable_read")
    await transaction.start()
    await other.fetch("SELECT FROM pg_class")
    await settle(keeper, now(), None)
    with pytest.raises(asyncpg.SerializationError):
        await other.execute(CHANGES[change])
    await transaction.rollback()
    await other.close()
    assert await check(connection) == 30


async def test_a_day_that_is_begun_is_not_trusted_either(keeper: Connection, connection: Client) -> None:
    """What was removed with triggers off in blocks that are done is gone once all is added up again."""
    await tell(connection, many(400))
    await connection.execute("SELECT begin_day($1)", DAY)
    await connection.execute("SELECT settle_blocks($1, 2)", DAY)
    await connection.execute(
        "SET session_replication_role = replica; DELETE FROM measurements WHERE device_id = 'd1';"
        " RESET session_replication_role; UPDATE told SET n = (SELECT count(*) FROM measurements)"
    )
    assert await connection.fetchval("SELECT settle_again()") == 1
    assert await settle(keeper, now(), None) == 1
    assert await check(connection) == 267


async def test_a_table_that_is_rewritten(keeper: Connection, connection: Client) -> None:
    """Blocks of the former file say nothing of those of the new one: the day begins anew."""
    await tell(connection, many(1000))
    await connection.execute("SELECT begin_day($1)", DAY)
    await connection.execute("SELECT settle_blocks($1, 3)", DAY)
    await tell(connection, many(100, "late"))
    await connection.execute(f"CREATE INDEX by_key ON {DAY} (message_key DESC); CLUSTER {DAY} USING by_key")
    await tell(connection, many(100, "later"))
    assert await settle(keeper, now(), None) == 1
    assert await check(connection) == 1200
    await check_retired(connection, many(1000) + many(100, "late") + many(100, "later"), queries.settled)


# -- retention -----------------------------------------------------------------------------------------------


async def test_a_day_leaves_beside_a_reader(
    keeper: Connection, connection: Client, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the partition cannot be dropped, its statistics have moved, and late rows still count."""
    monkeypatch.setattr(retention_module, "_ATTEMPTS", 2)
    monkeypatch.setattr(retention_module, "_PAUSE_S", 0.01)
    await tell(connection, many(300))
    await settle(keeper, now(), None)
    await tell(connection, many(7, "late"))
    reader = await asyncpg.connect(database)
    async with reader.transaction():
        await reader.fetch("SELECT FROM measurements")
        assert await retire(keeper, now(), timedelta(days=90)) == 0
        assert await states(connection) == {"0301": "leaving"}
        assert await connection.fetchval("SELECT count(*) FROM settled_statistics") == 0
        await tell(connection, many(5, "later"))
        assert await check(connection) == 312
        with pytest.raises(asyncpg.ObjectInUseError, match="is being dropped"):
            await connection.execute("DELETE FROM measurements")
        assert await settle(keeper, now(), None) == 0
        assert await check(connection) == 312
    await reader.close()
    assert await retire(keeper, now(), timedelta(days=90)) == 307
    assert await check(connection) == 312
    await check_retired(connection, many(300) + many(7, "late") + many(5, "later"))


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
async def test_a_row_that_comes_while_its_day_is_dropped(
    connection: Client, database: str, isolation: str
) -> None:
    """The drop waits for who writes to the day, and takes the row along, whatever databases begin with."""
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'")
    await tell(connection, many(100))
    looker = await asyncpg.connect(database)
    async with keeping(database) as keeper:
        await settle(keeper, now(), None)
        async with connection.transaction():
            await tell(connection, many(1, "late"))
            retiring = asyncio.create_task(retire(keeper, now(), timedelta(days=90)))
            await somebody_waits(looker)
        assert await retiring == 100
    await looker.close()
    assert await check(connection) == 101
    await check_retired(connection, many(100) + many(1, "late"))


async def test_a_leaving_day_without_its_trigger(keeper: Connection, connection: Client) -> None:
    """Its rows still count for nobody, it goes on leaving, and what comes is noted again."""
    await tell(connection, many(300))
    await settle(keeper, now(), None)
    assert await keeper.fetchval(gateway.begin_leaving, DAY) == 300
    await keeper.fetchval(gateway.retire_statistics, DAY, 3)
    await connection.execute(f"ALTER TABLE {DAY} DISABLE TRIGGER ALL")
    await check(connection)
    assert await settle(keeper, now(), timedelta(days=90)) == 0
    assert await states(connection) == {"0301": "leaving"}
    await tell(connection, many(5, "late"))
    assert await check(connection) == 305
    await connection.execute(f"ALTER TABLE {DAY} DISABLE TRIGGER ALL")
    await retire(keeper, now(), timedelta(days=90))
    assert await connection.fetchval("SELECT to_regclass($1)", DAY) is None
    await check_retired(connection, many(300) + many(5, "late"))


@pytest.mark.parametrize("state", ["begun", "settled"])
async def test_only_days_that_leave_are_dropped(keeper: Connection, connection: Client, state: str) -> None:
    """Whoever comes to drop a day that does not leave any more, or is gone, leaves it alone."""
    await tell(connection, many(300))
    await settle(keeper, now(), None)
    await connection.execute("UPDATE settled_days SET state = $1", state)
    if state == "begun":  # anew
        await connection.execute("DELETE FROM settled_statistics")
    assert await keeper.fetchval(gateway.drop_leaving_partition, DAY) is False
    assert await keeper.fetchval(gateway.drop_leaving_partition, "measurements_p20190101") is False
    assert await check(connection) == 300


async def test_what_a_leaving_day_costs_its_writers(keeper: Connection, connection: Client) -> None:
    """Statistics move by the index, before the lock; what comes late needs none of them any more."""
    await tell(connection, many(5000) + [row(f"m{i}", at(OLD), f"e{i}", x=1) for i in range(1000)])
    await settle(keeper, now(), None)
    await keeper.fetchval(gateway.begin_leaving, DAY)
    await connection.execute("ANALYZE settled_statistics")

    async with keeper.transaction():
        before = await keeper.fetchval(queries.scans_of_statistics)
        assert await keeper.fetchval(gateway.retire_statistics, DAY, 10) == 10
        assert await keeper.fetchval(queries.scans_of_statistics) == before
    assert await keeper.fetchval(gateway.retire_statistics, DAY, 10**6) > 1000
    await tell(connection, many(7, "late"))
    assert await keeper.fetch(gateway.days_with_late_rows) == []
    async with keeper.transaction():
        before = await keeper.fetchval(queries.scans_of_statistics)
        assert await keeper.fetchval(gateway.fold_late_measurements, DAY, 3) == 3
        assert await keeper.fetchval(gateway.drop_leaving_partition, DAY)
        assert await keeper.fetchval(queries.scans_of_statistics) == before
    assert await check(connection) == 6007
    assert await connection.fetchval(LEFTOVERS) == 0


@pytest.mark.parametrize("retention", [timedelta(days=36_500), None])
async def test_a_retention_that_is_made_longer(
    keeper: Connection, connection: Client, retention: timedelta | None
) -> None:
    """A day that has begun to leave does: its rows count for nobody any more."""
    await tell(connection, [*many(300), row("next", at(OLD, 86_400))])
    await settle(keeper, now(), None)
    assert await keeper.fetchval(gateway.begin_leaving, DAY) == 300
    assert await retire(keeper, now(), retention) == 300
    assert await connection.fetchval("SELECT to_regclass($1)", DAY) is None
    assert await check(connection) == 301


async def test_a_day_that_is_half_settled_is_retired(keeper: Connection, connection: Client) -> None:
    """As any that is not, and nothing of it stays."""
    await tell(connection, many(400))
    await connection.execute("SELECT begin_day($1)", DAY)
    await connection.execute("SELECT settle_blocks($1, 2)", DAY)
    await tell(connection, many(5, "late"))
    assert await retire(keeper, now(), timedelta(days=90)) == 405
    await check(connection)
    await check_retired(connection, many(400) + many(5, "late"))
    await settle(keeper, now(), None)
    assert await connection.fetchval(LEFTOVERS) == 0


# -- all at once ---------------------------------------------------------------------------------------------


class Storm:
    """Whoever may be at work at once, and what was stored meanwhile."""

    def __init__(self, database: str, seed: int) -> None:
        self.stored: list[Row] = []
        self.killed = 0
        self.over = asyncio.Event()
        self._database = database
        self._seed = seed
        self._rng = random.Random(seed)  # noqa: S311  # test data

    async def keep(self, work: Callable[[Connection], Awaitable[object]]) -> None:
        """A keeper, and its successors."""
        while not self.over.is_set():
            with contextlib.suppress(*ERRORS, Retry):
                async with keeping(self._database) as keeper:
                    while not self.over.is_set():
                        await work(keeper)

    async def write(self) -> None:
        """Rows of any day, some of which are rolled back."""
        writer = await asyncpg.connect(self._database)
        for turn in range(60):
            rows = self._rng.sample(history(1000 * self._seed + turn, days=4), self._rng.choice([1, 5, 60]))
            transaction = writer.transaction()
            await transaction.start()
            await tell(writer, rows)
            await asyncio.sleep(self._rng.choice([0, 0.02]))
            if self._rng.random() < 0.2:
                await transaction.rollback()
            else:
                await transaction.commit()
                self.stored.extend(rows)
        await writer.close()

    async def kill(self) -> None:
        """Every keeper, now and then."""
        killer = await asyncpg.connect(self._database)
        while not self.over.is_set():
            await asyncio.sleep(self._rng.uniform(0.02, 0.3))
            self.killed += len(await killer.fetch(END_KEEPERS))
        await killer.close()

    async def look(self, connection: Client, writing: asyncio.Task[None]) -> None:
        """Count in one snapshot after another, and end it all."""
        looks = 0
        while looks < 100 or not writing.done():
            await check(connection)
            looks += 1
        self.over.set()


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_each_measurement_once_in_every_snapshot(
    connection: Client, database: str, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Two keepers settle, one retires, rows come late and are rolled back, and all keepers are killed."""
    monkeypatch.setattr(retention_module, "_PIECE_STATISTICS", 5)
    monkeypatch.setattr(retention_module, "_PAUSE_S", 0.01)
    monkeypatch.setattr(settling_module, "_PIECE_ROWS", 7)
    storm = Storm(database, seed)
    storm.stored = [each for i in range(4) for each in history(10 * seed + i, days=4)]
    await tell(connection, storm.stored)
    kept = now() - at(OLD + timedelta(days=2))  # the first two days are too old
    async with asyncio.TaskGroup() as tasks:
        for _ in range(2):
            tasks.create_task(storm.keep(lambda keeper: settle(keeper, now(), kept)))
        tasks.create_task(storm.keep(lambda keeper: retire(keeper, now(), kept)))
        tasks.create_task(storm.kill())
        await storm.look(connection, tasks.create_task(storm.write()))
    assert storm.killed > 3
    async with keeping(database) as keeper:
        for _ in range(2):
            await settle(keeper, now(), None)
        assert await late(connection) == 0
        assert await check(connection) == len(storm.stored)
        assert set((await states(connection)).values()) == {"settled"}
        while await retire(keeper, now(), timedelta(days=90)):
            pass
    await check_retired(connection, storm.stored)
