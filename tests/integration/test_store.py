"""A batch on a real PostgreSQL, by one call and by the transaction."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg
import msgspec
import pytest

from contract.events import decode_events
from gateway import store as store_module
from gateway.decode.reading import digest_of
from runtime.errors import Stop
from runtime.settings import Route
from tests.support.write_side import decode, write_side

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.write_side import WriteSide


@pytest.fixture(params=[True, False], ids=["call", "transaction"])
async def side(database: str, request: pytest.FixtureRequest) -> AsyncIterator[WriteSide]:
    """A store on this test's database, which stores each batch by one of the two ways."""
    async with write_side(database, calls=request.param) as made:
        yield made


def reading(key: str, value: float, ts: str = "2026-11-23T08:00:00Z") -> bytes:
    return json.dumps({"id": key, "ts": ts, "region": "north", "x": value}).encode()


async def test_a_batch_is_one_transaction(side: WriteSide) -> None:
    """Measurements, dead letter and outbox row of a batch appear together, as they were sent."""
    (outcome,) = await side.store.commit(*decode(reading("1", 1.5), b"rubbish", reading("2", 2.5)))
    assert (outcome.committed, outcome.duplicates, len(outcome.dead_letters)) == (2, 0, 1)
    rows = await side.pool.fetch("SELECT *, xmin FROM measurements ORDER BY message_key")
    assert [(row["device_id"], row["message_key"], row["region"]) for row in rows] == [
        ("a1", "1", "north"),
        ("a1", "2", "north"),
    ]
    assert json.loads(rows[0]["metrics"]) == {"x": 1.5}
    outbox = await side.pool.fetchrow("SELECT *, xmin FROM outbox")
    assert outbox is not None
    assert outcome.appended is not None
    assert (outbox["n"], outbox["events"], outbox["payload"]) == (1, 2, outcome.appended.payload)
    assert [event.key for event in decode_events(outbox["payload"])] == ["1", "2"]
    letter = await side.pool.fetchrow("SELECT *, xmin FROM dead_letters")
    assert letter is not None
    assert (letter["id"], letter["payload"]) == (outcome.dead_letters[0].id, b"rubbish")
    assert {row["xmin"] for row in (*rows, outbox, letter)} == {outbox["xmin"]}


async def test_repeats_are_stored_once(side: WriteSide) -> None:
    """A repeat, in the same batch or in a later one, is a duplicate and leaves no row and no event."""
    (first,) = await side.store.commit(*decode(reading("1", 1), reading("1", 1), reading("2", 2)))
    assert (first.committed, first.duplicates) == (2, 1)
    (second,) = await side.store.commit(*decode(reading("2", 2), reading("1", 1)))
    assert (second.committed, second.duplicates, second.appended) == (0, 2, None)
    assert await side.pool.fetchval("SELECT count(*) FROM measurements") == 2
    assert await side.pool.fetchval("SELECT head FROM streams") == 1


async def test_keys_with_what_separates_them(side: WriteSide) -> None:
    """A key may hold any character: also the one by which the server tells the keys of a batch apart."""
    keys = ["\x1d", "a\x1db", "a", "b", "a\x1d", "\x1c", "\x1e", "a\x1eb", "\ufffd"]
    batch = [reading(key, n) for n, key in enumerate(keys)]
    (first,) = await side.store.commit(*decode(*batch))
    assert (first.committed, first.duplicates, first.dead_letters) == (len(keys), 0, [])
    for again in (batch, *([each] for each in batch)):
        (outcome,) = await side.store.commit(*decode(*again))
        assert (outcome.committed, outcome.duplicates, outcome.dead_letters) == (0, len(again), [])
    changed = reading("a\x1db", 99)
    (outcome,) = await side.store.commit(*decode(*batch, changed))
    assert [letter.rejection.payload for letter in outcome.dead_letters] == [changed]


@pytest.mark.parametrize("changed", [reading("1", 2), reading("1", 1, "2026-11-23T08:00:01Z")])
@pytest.mark.parametrize("together", [True, False])
async def test_same_key_other_content_is_a_conflict(
    side: WriteSide, changed: bytes, *, together: bool
) -> None:
    """Another value or device time under a key is kept as a dead letter; what was stored stays."""
    batches = [[reading("1", 1), changed]] if together else [[reading("1", 1)], [changed]]
    for batch in batches:
        outcome = (await side.store.commit(*decode(*batch)))[-1]
    (letter,) = outcome.dead_letters
    assert letter.rejection.reason == "conflict"
    assert letter.rejection.payload == changed
    assert await side.pool.fetchval("SELECT metrics->'x' FROM measurements") == "1"


async def test_key_and_time_route_stores_a_restarted_counter(side: WriteSide) -> None:
    """With identity key+time, a key that comes again with another time is another message."""
    route = Route(identity="key+time")
    batch = [reading("1", 1), reading("1", 2, "2026-11-23T08:00:01Z"), reading("1", 1)]
    (outcome,) = await side.store.commit(*decode(*batch, route=route))
    assert (outcome.committed, outcome.duplicates, outcome.dead_letters) == (2, 1, [])


async def test_messages_without_a_key(side: WriteSide) -> None:
    """Made keys: identical repeats are one, different readings at one time are two; all are counted."""
    stated = b'{"ts":"2026-11-23T08:00:00Z","x":1}'
    other = b'{"ts":"2026-11-23T08:00:00Z","x":2}'
    (outcome,) = await side.store.commit(*decode(stated, other, stated, b'{"x":1}', b'{"x":1}'))
    assert (outcome.committed, outcome.duplicates, outcome.unkeyed) == (4, 1, 4)


async def test_keys_of_the_older_generation_are_still_known(side: WriteSide) -> None:
    """After a turn of the dedup window, what was stored before it is still a repeat or a conflict."""
    await side.store.commit(*decode(reading("1", 1), reading("2", 2)))
    await side.pool.execute("UPDATE dedup SET generation = 1")
    (outcome,) = await side.store.commit(*decode(reading("1", 1), reading("2", 3), reading("3", 3)))
    assert (outcome.committed, outcome.duplicates, len(outcome.dead_letters)) == (1, 1, 1)
    assert await side.pool.fetchval("SELECT count(*) FROM message_keys_1") == 1


async def test_the_window_turns_under_load(side: WriteSide) -> None:
    """Turns between and beside batches neither store a key twice within the window nor lose a batch."""
    payloads = [reading(str(i), i) for i in range(200)]
    done = asyncio.Event()

    async def write() -> int:
        outcomes = [await side.store.commit(*decode(*payloads)) for _ in range(15)]
        return sum(part.committed for outcome in outcomes for part in outcome)

    async def turn() -> int:
        turns = 0
        while not done.is_set():
            due = timedelta(0) if turns == 0 else timedelta(hours=1)
            turns += await side.pool.fetchval("SELECT turn_dedup($1)", due)
        return turns

    turning = asyncio.create_task(turn())
    committed = sum(await asyncio.gather(*(write() for _ in range(3))))
    done.set()
    assert await turning == 1
    assert committed == 200
    assert await side.pool.fetchval("SELECT count(*) FROM measurements") == 200


async def test_keys_are_forgotten_after_the_window(side: WriteSide) -> None:
    """A key is known for a whole window after it was stored, and forgotten at the second turn."""
    await side.store.commit(*decode(reading("1", 1)))
    assert await side.pool.fetchval("SELECT turn_dedup('1 hour')") is False
    for expected in (0, 1):
        assert await side.pool.fetchval("SELECT turn_dedup('0')") is True
        (outcome,) = await side.store.commit(*decode(reading("1", 1)))
        assert outcome.committed == expected


async def test_text_that_copy_would_read_otherwise(side: WriteSide) -> None:
    """Tabs, newlines, backslashes and quotes arrive in the row as the device sent them."""
    key, text = "a\tb\\N\n\r", 'c\\d"e\u2028\\.'
    await side.store.commit(*decode(json.dumps({"id": key, "x": text, "region": "\\N"}).encode()))
    row = await side.pool.fetchrow("SELECT message_key, region, metrics->>'x' AS x FROM measurements")
    assert row is not None
    assert (row["message_key"], row["region"], row["x"]) == (key, "\\N", text)


async def test_rows_that_share_a_payload_are_refused(side: WriteSide) -> None:
    """Of readings that share a payload each has a letter, and ten of these have the bytes."""
    await side.owner.execute("ALTER TABLE measurements ADD CHECK (message_key = 'good')")
    readings, _ = decode(*(reading(str(i), i) for i in range(12)), reading("good", 1))
    whole = b"all of it"
    shared = [msgspec.structs.replace(each, raw=whole, digest=digest_of(whole)) for each in readings[:12]]
    outcomes = await side.store.commit([*shared, readings[12]], [])
    letters = [letter.rejection for outcome in outcomes for letter in outcome.dead_letters]
    assert [letter.payload for letter in letters] == [whole] * 10 + [b""] * 2
    assert all("its bytes are in the letters before it" in letter.error for letter in letters[10:])


async def test_days_without_a_partition(side: WriteSide) -> None:
    """A reading from years ago is stored like any other."""
    (outcome,) = await side.store.commit(*decode(reading("1", 1, "2003-01-01T00:00:00Z")))
    assert outcome.committed == 1


async def test_overlapping_writers_store_each_key_once(side: WriteSide) -> None:
    """Four writers with the same keys in different orders neither deadlock nor store a key twice."""
    payloads = [reading(str(i), i) for i in range(300)]
    batches = [payloads[i * 37 :] + payloads[: i * 37] for i in range(8)]
    outcomes = await asyncio.gather(*(side.store.commit(*decode(*batch)) for batch in batches))
    assert sum(outcome.committed for (outcome,) in outcomes) == 300
    assert sum(outcome.duplicates for (outcome,) in outcomes) == 7 * 300
    rows = await side.pool.fetch("SELECT n FROM outbox ORDER BY n")
    assert [row["n"] for row in rows] == list(range(1, len(rows) + 1))


async def test_a_row_that_the_database_refuses(side: WriteSide) -> None:
    """A batch that fails on data is bisected: the row becomes a dead letter, its neighbours commit."""
    await side.owner.execute("ALTER TABLE measurements ADD CHECK (message_key <> '5')")
    outcomes = await side.store.commit(*decode(*(reading(str(i), i) for i in range(9))))
    assert sum(outcome.committed for outcome in outcomes) == 8
    (letter,) = [letter for outcome in outcomes for letter in outcome.dead_letters]
    assert letter.rejection.reason == "refused_by_database"
    assert letter.rejection.payload == reading("5", 5)
    keys = await side.pool.fetch("SELECT payload FROM outbox ORDER BY n")
    stored = [event.key for row in keys for event in decode_events(row["payload"])]
    assert stored == [str(i) for i in range(9) if i != 5]


async def test_a_stream_that_was_taken_over_cannot_be_written(side: WriteSide) -> None:
    """An owner whose stream went to another is fenced: its batch does not commit, and it stops."""
    await side.owner.execute("UPDATE streams SET owner = gen_random_uuid(), owner_name = 'usurper'")
    with pytest.raises(Stop, match="usurper"):
        await side.store.commit(*decode(reading("1", 1)))
    assert await side.pool.fetchval("SELECT count(*) FROM measurements") == 0


async def test_connections_cut_while_writing(side: WriteSide, database: str) -> None:
    """Backends terminated again and again under load: everything is stored once, in a stream without gaps."""

    async def cut() -> int:
        connection = await asyncpg.connect(database)
        cuts = 0
        for _ in range(60):
            cuts += await connection.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE application_name = 'test' AND datname = current_database()"
            )
            await connection.execute("SELECT pg_sleep(0.03 * random())")
        await connection.close()
        return cuts

    cutter = asyncio.create_task(cut())
    batches = [[reading(f"{b}-{i}", i) for i in range(200)] for b in range(25)]
    committed = duplicates = 0
    for batch in batches:
        for outcome in await side.store.commit(*decode(*batch)):
            committed += outcome.committed
            duplicates += outcome.duplicates
    assert await cutter > 0
    assert (committed, duplicates) == (5000, 0)
    assert await side.pool.fetchval("SELECT count(*) FROM measurements") == 5000
    rows = await side.pool.fetch("SELECT n, events FROM outbox ORDER BY n")
    assert [row["n"] for row in rows] == list(range(1, len(rows) + 1))
    assert sum(row["events"] for row in rows) == 5000


async def test_a_row_of_devices_that_somebody_holds(side: WriteSide) -> None:
    """A stranger's lock on a device holds up no batch and no other device: its sighting waits for it."""

    async def write() -> dict[str, int]:
        await side.store.write_sightings(side.devices.take_due(asyncio.get_running_loop().time()))
        rows = await side.pool.fetch(
            "SELECT device_id, extract(minute FROM last_seen)::int AS m FROM devices"
        )
        return {row["device_id"]: row["m"] for row in rows}

    for device in ("a1", "b2"):
        await side.store.commit(*decode(reading("1", 1), device=device))
    assert await write() == {"a1": 0, "b2": 0}
    async with side.pool.acquire() as stranger:
        holding = stranger.transaction()
        await holding.start()
        await stranger.execute("SELECT FROM devices WHERE device_id = 'a1' FOR UPDATE")
        for device in ("a1", "b2", "c3"):
            later = reading("2", 2, "2026-11-23T08:07:00Z")
            batch = decode(later, device=device)
            (outcome,) = await asyncio.wait_for(side.store.commit(*batch), 10)
            assert outcome.committed == 1
        side.devices.give_back(side.devices.take_all())
        assert await asyncio.wait_for(write(), 10) == {"a1": 0, "b2": 7, "c3": 7}
        await holding.rollback()
    assert await write() == {"a1": 7, "b2": 7, "c3": 7}


async def test_a_device_that_somebody_is_adding(side: WriteSide, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger's row that is not committed yet costs a turn; its sightings come again."""
    monkeypatch.setattr(store_module, "_SIGHTINGS_S", 0.5)
    await side.store.commit(*decode(reading("1", 1)))
    async with side.pool.acquire() as stranger, stranger.transaction():
        await stranger.execute("INSERT INTO devices VALUES ('a1', NULL, now(), now())")
        with pytest.raises(TimeoutError):
            await side.store.write_sightings(side.devices.take_due(0))
    await side.store.write_sightings(side.devices.take_due(0))
    assert await side.pool.fetchval("SELECT first_seen FROM devices") == datetime(2026, 11, 23, 8, tzinfo=UTC)


async def test_rows_that_are_refused_by_themselves(side: WriteSide) -> None:
    """A batch of nothing but bad messages leaves a letter of each, and nothing stops."""
    await side.owner.execute("ALTER TABLE measurements ADD CHECK (message_key NOT IN ('5', '6'))")
    outcomes = await side.store.commit(*decode(reading("5", 5), b"rubbish", reading("6", 6)))
    letters = [letter.rejection for outcome in outcomes for letter in outcome.dead_letters]
    assert sorted(letter.reason for letter in letters) == ["malformed_json"] + ["refused_by_database"] * 2
    assert await side.pool.fetchval("SELECT count(*) FROM dead_letters") == 3
    (after,) = await side.store.commit(*decode(reading("7", 7)))
    assert after.committed == 1


async def test_a_table_that_refuses_everything(side: WriteSide) -> None:
    """When a plain row is refused too it is no message's fault: no dead letters, and the process stops."""
    await side.owner.execute("ALTER TABLE measurements ADD CONSTRAINT shut CHECK (device_id = '') NOT VALID")
    with pytest.raises(Stop, match=r"plain row.*shut"):
        await side.store.commit(*decode(*(reading(str(i), i) for i in range(5)), b"rubbish"))
    assert await side.pool.fetchval("SELECT count(*) FROM dead_letters") == 0


REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE unique_violation; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION refuse();
"""


@pytest.mark.parametrize("table", ["outbox", "message_keys_0", "dead_letters"])
async def test_a_table_of_ours_that_is_broken(side: WriteSide, table: str) -> None:
    """A refusal that is not of measurements is no message's fault: stop, and keep nothing."""
    await side.owner.execute(REFUSE % table)
    payloads = [reading(str(i), i) for i in range(20)] + [b"rubbish"] * (table == "dead_letters")
    with pytest.raises(Stop, match="unique_violation"):
        await side.store.commit(*decode(*payloads))
    for kept in ("dead_letters", "measurements", "outbox"):
        assert await side.pool.fetchval(f"SELECT count(*) FROM {kept}") == 0  # noqa: S608  # of these three


async def test_a_row_in_the_place_of_the_next(side: WriteSide) -> None:
    """A stream that turns out to end elsewhere goes on from there; its messages are stored and no letters."""
    await side.pool.execute("INSERT INTO outbox VALUES (0, 1, 1, '[]', now())")
    (outcome,) = await side.store.commit(*decode(*(reading(str(i), i) for i in range(20))))
    assert (outcome.committed, outcome.dead_letters) == (20, [])
    assert outcome.appended is not None
    assert outcome.appended.n == 2


async def test_an_emptied_outbox_still_ends_where_it_ended(side: WriteSide) -> None:
    """The row of the stream remembers its end at every sign of life: the outbox may be emptied."""
    await side.store.commit(*decode(reading("1", 1)))
    await side.lease._beat()
    await side.pool.execute("DELETE FROM outbox")
    (outcome,) = await side.store.commit(*decode(reading("2", 2)))
    assert outcome.appended is not None
    assert outcome.appended.n == 2


async def test_appending_leaves_the_row_of_the_stream_as_it_is(side: WriteSide) -> None:
    """No new version of the row, which an open snapshot would keep: appends stay as fast as they were."""
    place = "SELECT ctid::text FROM stream_leases"
    before = await side.pool.fetchval(place)
    for i in range(5):
        await side.store.commit(*decode(reading(str(i), i)))
    assert await side.pool.fetchval(place) == before
    assert await side.pool.fetchval("SELECT head FROM streams") == 5


async def test_what_the_first_version_stored_is_a_repeat(side: WriteSide) -> None:
    """A key that was claimed before the upgrade, with a digest of other content, is known after it."""
    (before,), _ = decode(reading("1", 1.5))
    await side.pool.execute(
        "INSERT INTO message_keys_0 VALUES"
        " (hashtextextended($1, 0), hashtextextended($1, 1), hashtextextended($2, 2))",
        "a1\x1f1",
        '2026-11-23T08:00:00.000000Z\ta1\t1\tnorth\t{"x":1.5}',
    )
    assert before.identity == "a1\x1f1"
    (outcome,) = await side.store.commit(*decode(reading("1", 1.5)))
    assert (outcome.committed, outcome.duplicates) == (0, 1)
    (outcome,) = await side.store.commit(*decode(reading("1", 2.5)))
    assert [letter.rejection.reason for letter in outcome.dead_letters] == ["conflict"]


async def test_the_advice_of_a_conflict_fits_what_is_stored(side: WriteSide) -> None:
    """Another time is a counter that started again, perhaps; the same time is not."""
    await side.store.commit(*decode(reading("1", 1)))
    (same,) = await side.store.commit(*decode(reading("1", 2)))
    (other,) = await side.store.commit(*decode(reading("1", 2, "2026-11-23T08:30:00Z")))
    errors = [outcome.dead_letters[0].rejection.error for outcome in (same, other)]
    assert ["key+time" in error for error in errors] == [False, True]
    assert all('key = ""' in error for error in errors)


async def test_tags_are_stored(side: WriteSide) -> None:
    """What the topic names is in the row and in the event; null where it names nothing."""
    route = Route(topic="{building}/{device_id}/telemetry")
    await side.store.commit(*decode(reading("1", 1), route=route))
    row = await side.pool.fetchrow("SELECT tags, message_key FROM measurements")
    assert row is not None
    assert json.loads(row["tags"]) == {"building": "devices"}
    payload = await side.pool.fetchval("SELECT payload FROM outbox")
    assert [event.tags for event in decode_events(payload)] == [{"building": "devices"}]
    await side.store.commit(*decode(reading("2", 1)))
    assert await side.pool.fetchval("SELECT tags FROM measurements WHERE message_key = '2'") is None
