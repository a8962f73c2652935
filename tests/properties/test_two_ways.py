"""A batch by one call and the same by the transaction: rows are equal, byte by byte, and what is told of it.

Two databases are given the same messages, in the same batches: what devices send, what they should not, what
PostgreSQL does not take, repeats, conflicts, what messages say of devices being online, and
places in a spool.
"""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.decode import Decoder, Limits, Received, Rejection
from gateway.decode.routes import compile_routes
from gateway.spool.places import Place
from runtime.settings import Route
from tests.support.effort import examples
from tests.support.write_side import NOW, Delivered, write_side

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from gateway.decode import Reading
    from tests.support.databases import Databases
    from tests.support.write_side import WriteSide

DEVICES = ("a", "b\u00e9")
DEEP = "[" * 30 + "1" + "]" * 30
ODD = (
    *("0", "-0.0", "1e308", "1e309", "5e-324", "0.1", "1E+2", "9223372036854775807", "18446744073709551616"),
    *("NaN", "-Infinity", "null", "true", '""', '"\\u0000"', '"\\ud83d"', '"\\ud83d\\ude00"', '"\U0001f600"'),
    *(
        '"a\\tb\\nc\\\\d\\"e"',
        '"\\/\\b"',
        '"\x7f\u2028\u001d"',
        '"\\u001d"',
        '{"a": 1, "a": 2}',
        '{"\\n": [1, "x"]}',
    ),
    *('{\n  "n": [\n 1,\n 2 ]\n}', "[]", "{}", DEEP, f"[{DEEP}]", f"[{'[' * 9000}", f'"{"long " * 500}"'),
    *("1e-400", "1" * 400, "-" + "9" * 200_000, f"1e{'9' * 9}"),
)
TIMES = (
    *('"2026-11-23T08:00:00Z"', '"2026-11-22T23:59:59.999999Z"', '"1999-01-01T00:00:00Z"', "0", "-1"),
    *(
        '"0001-01-01T00:00:00Z"',
        '"9999-12-31T23:59:59Z"',
        "1e300",
        '"2026-11-23T23:59:60Z"',
        '"never"',
        "null",
    ),
    '"-4800-01-01T00:00:00Z"',
)
REFUSED = "refused"  # by the table: a key that it does not take
WIDE = "".join(f',"m{number}":{number}.5' for number in range(10_000))


STORED = (
    "SELECT m::text FROM measurements AS m WHERE starts_with(device_id, $1) ORDER BY received_at",
    "SELECT device_id, d::text FROM device_presence AS d WHERE starts_with(device_id, $1) ORDER BY 1",
    "SELECT device_id, to_jsonb(d) - 'changed' FROM devices AS d WHERE starts_with(device_id, $1) ORDER BY 1",
    """SELECT received_at, topic, device_id, reason, error, payload, stands_for FROM dead_letters
        WHERE received_at > $1::text::timestamptz ORDER BY received_at, error""",
    "SELECT n, events, payload FROM outbox WHERE $1::text <> '' ORDER BY n DESC LIMIT 3",
    """SELECT count(*), sum(h1::numeric), sum(h2::numeric), sum(digest::numeric)
        FROM (TABLE message_keys_0 UNION ALL TABLE message_keys_1) AS k WHERE $1::text <> ''""",
    "SELECT run, stream, place, last, messages_left, oldest_at FROM spools WHERE $1::text <> '' ORDER BY run",
)
RUNS = ("6f1d8f5e-6b1f-4b6e-9f0f-0a4b8c6d7e8f", "00000000-0000-4000-8000-000000000000")


class Message(NamedTuple):
    """What a device sends."""

    device: str
    payload: bytes


class Batch(NamedTuple):
    """What is stored together, and how far that drains a spool."""

    messages: list[Message]
    places: Sequence[Place] = ()


def message(device: str, key: str, ts: str, value: str, says: str) -> Message:
    """One with an odd value, and what it says of its device being online."""
    return Message(
        device, f'{{"id":{key},"ts":{ts},"online":{says},"x":{value}}}'.encode(errors="surrogatepass")
    )


messages = st.builds(
    message,
    st.sampled_from(DEVICES),
    st.sampled_from(['"1"', '"2"', '"3"', f'"{REFUSED}"', '""', '"\\u001d"', "7"]),
    st.sampled_from(TIMES[:2]) | st.sampled_from(TIMES),
    st.sampled_from(ODD) | st.floats(allow_nan=False).map(json.dumps) | st.text(max_size=8).map(json.dumps),
    st.sampled_from(["null", "true", "false"]),
) | st.builds(Message, st.sampled_from(DEVICES), st.binary(max_size=12) | st.just(b"[1, 2"))
places = st.builds(
    Place, st.sampled_from(RUNS), st.integers(1, 5), st.sampled_from(["", "2026-11-23T08:00:00Z"])
)
batches = st.lists(
    st.builds(
        Batch,
        st.lists(messages, min_size=1, max_size=8),
        st.lists(places, max_size=2, unique_by=lambda place: place.run),
    ),
    min_size=1,
    max_size=3,
)


class Way:
    """A database, to which all is given by one of the two ways."""

    def __init__(self, side: WriteSide) -> None:
        self.side = side
        self.received = Received.of(NOW)
        route = Route(presence="online", presence_words={"true": True, "false": False})
        self._decode = Decoder(compile_routes([route]), Limits(max_metrics=20_000)).decode

    async def store(self, run: str, batch: Batch) -> object:
        """Store a batch; what is told of it."""
        readings: list[Reading] = []
        rejections: list[Rejection] = []
        for device, payload in batch.messages:
            for item in self._decode(Delivered(f"devices/{run}{device}/telemetry", payload), self.received):
                if isinstance(item, Rejection):
                    rejections.append(item)
                else:
                    readings.append(item)
        outcomes = await self.side.store.commit(readings, rejections, changes=batch.places)
        await self.side.store.write_sightings(self.side.devices.take_all())
        letters = [letter.rejection for outcome in outcomes for letter in outcome.dead_letters]
        appended = [outcome.appended for outcome in outcomes if outcome.appended is not None]
        return (
            *(sum(each.committed for each in outcomes), sum(each.duplicates for each in outcomes)),
            *(sum(each.unkeyed for each in outcomes), sorted(letters, key=repr)),
            [(row.n, row.events, row.payload) for row in appended],
        )

    async def stored(self, run: str, since: str) -> list[object]:
        """What there is of a run, that began after a time of arrival."""
        found: list[object] = []
        for question in STORED:
            rows = await self.side.pool.fetch(question, since if "timestamptz" in question else run)
            found.append([tuple(row) for row in rows])
        return found


@pytest.fixture
async def ways(databases: Databases) -> AsyncIterator[tuple[Way, Way]]:
    """By one call, and by the transaction."""
    dsns = [await databases.create() for _ in range(2)]
    async with AsyncExitStack() as stack:
        sides = [
            await stack.enter_async_context(write_side(dsn, calls=calls))
            for dsn, calls in zip(dsns, (True, False), strict=True)
        ]
        for side in sides:
            await side.owner.execute(f"ALTER TABLE measurements ADD CHECK (message_key <> '{REFUSED}')")
        yield Way(sides[0]), Way(sides[1])
    for dsn in dsns:
        await databases.drop(dsn)


@settings(
    max_examples=examples(100),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example([Batch([message("a", '"1"', TIMES[0], value, "null")]) for value in ODD])
@example([Batch([message("a", '"1"', TIMES[0], v, "null")], [Place(RUNS[0], 9, "")]) for v in ODD])
@example([Batch([message("a", f'"{at}"', ts, "1", "true") for at, ts in enumerate(TIMES)])])
@example([Batch([message("a", f'"{at}"', TIMES[0], value, "null") for at, value in enumerate(ODD)])])
@example([Batch([Message("a", f'{{"id":"1","ts":{TIMES[0]}{WIDE}}}'.encode())])])
@example([Batch([message("a", f'"{at}"', TIMES[0], "1", "null") for at in range(3000)])])
@given(run=batches)
async def test_both_ways_come_to_the_same(ways: tuple[Way, Way], run: list[Batch]) -> None:
    """Whatever comes: equal rows, letters, keys, events, devices and places, and equal outcomes."""
    name, since = uuid4().hex[:8], ways[0].received.last or "2000-01-01T00:00:00Z"
    for batch in run:
        called, transacted = [await way.store(name, batch) for way in ways]
        assert called == transacted
    of_calls, of_transactions = [await way.stored(name, since) for way in ways]
    assert of_calls == of_transactions
