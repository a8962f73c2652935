"""What anybody may publish on the internal topic, and what becomes of it: nothing, whatever it is."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import asynccontextmanager
from pathlib import Path
from secrets import token_bytes
from typing import TYPE_CHECKING, cast
from uuid import uuid4

import httpx
import pytest
from redis.asyncio import Redis

from contract.events import GATEWAY_STREAMS, wrap
from contract.signature import KEY_BYTES
from tests.support.topic_side import START, TopicSide, payload_of, playing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

    RunCommand = Callable[..., Awaitable[RunningCommand]]

TIME = "2026-11-23T09:00:00.000000Z"
TIMES: list[object] = [
    *("", "today", "2026-13-01T00:00:00.000000Z", "2026-11-23T09:00:00Z", "2026-11-23 09:00", "NaN"),
    *("0001-01-01T00:00:00.000000Z", "9999-12-31T23:59:59.999999Z", "0000-00-00T00:00:00.000000Z"),
    *("2026-11-23T09:00:00.000000+01:00", "2026-11-23T09:00:00.000000", "\u0660026-11-23T09:00:00.000000Z"),
    *(None, 1, 1e300, [], {}),
]
NUMBERS = [
    *(b"NaN", b"Infinity", b"1e999", b"-1e999", b"1e308", b"1e-999", b"9" * 400, b"-" + b"9" * 400),
    b"1" + b"0" * 5000,
]
TEXTS = ["\x00", "\x1b[2J\r\n", "a" * 100_000, "", "d\n", "\u202e", "\ufffe"]
QUIET = {"topic_message_not_believed", "lines_suppressed", "run_applied", "history_written", "summary"}


def event(**fields: object) -> bytes:
    """A row's events: one of device `d`, with some fields changed."""
    whole = {"device_id": "d", "region": "north", "ts": TIME, "received_at": TIME, "key": "f"}
    return json.dumps([whole | {"metrics": {"t": 666}} | fields]).encode()


def row(epoch: object, payload: bytes | None = None, **fields: object) -> bytes:
    """A row that nobody has written, which would be the next of stream 0, with some fields changed."""
    head = {"v": 1, "stream": 0, "n": 4, "epoch": epoch, "created_at": TIME} | fields
    return json.dumps(head).encode()[:-1] + b', "events": ' + (payload or event()) + b"}"


def unsigned(epoch: str) -> Iterator[bytes]:
    """What no gateway publishes."""
    yield from (b"", b"\x00", b"\xff\xfe", b"{", b'{"v":1,"sig":"', random.Random(7).randbytes(10_000))  # noqa: S311  # no secret
    yield from (b"[]", b"null", b"1", b'"x"', b"{}", b"true", b'{"v":1}', b'{"events":[]}')
    yield from (b"x" * 1_900_000, row(epoch, b"[%s]" % b",".join([event()[1:-1]] * 9000)))
    yield from (b"[" * 500_000, b'{"v":' * 200_000, row(epoch, b"[" * 100_000 + b"]" * 100_000))
    versions: list[object] = [0, 2, -1, 10**30, "1", 1.5, None]
    yield from (row(epoch, v=v) for v in versions)
    for time in TIMES:
        yield row(epoch, event(ts=time))
        yield row(epoch, event(received_at=time))
        yield row(epoch, event(ts=time, received_at=time))
        yield row(epoch, created_at=time)
    yield from (row(epoch, event().replace(b"666", number)) for number in NUMBERS)
    metrics: list[object] = [None, [], "x", 1, {"t": None}, {"t": {}}, {"t": [1]}, {"": 1}, {}]
    yield from (row(epoch, event(metrics=each)) for each in metrics)
    yield row(epoch, event(metrics={f"m{i}": i for i in range(100_000)}))
    yield from (row(epoch, event(device_id=each, region=each, key=each, metrics={each: 1})) for each in TEXTS)
    numbers: list[object] = [-1, 0, 1, 3, 4, 5, 100, 2**31, 2**63 - 1, 2**63, 10**400, 1.5, 4.0, "4", None]
    yield from (row(epoch, n=n) for n in numbers)
    epochs: list[object] = [str(uuid4()), "", "x", None, 5, "\x00"]
    yield from (row(each) for each in epochs)
    streams: list[object] = [1, 7, -1, GATEWAY_STREAMS - 1, GATEWAY_STREAMS, 10**9, 10**30, "0", None]
    yield from (row(epoch, stream=stream) for stream in streams)


def badly_signed(side: TopicSide) -> Iterator[bytes]:
    """Rows with signatures of other keys, of other rows, and cut ones."""
    assert side.key
    true = side.message(3, 3)
    yield from (true.replace(b'"n":3', b'"n":4'), true.replace(b'"t":3', b'"t":9'), true[:-1], true + b" ")
    yield true[:8] + b"0" * 32 + true[40:]
    yield true[:42] + side.message(4, 666)[42:]
    for key in (bytes(KEY_BYTES), b"k", side.key[::-1]):
        for n in (3, 4, 5):
            yield wrap(payload_of(n, 666), stream=0, n=n, epoch=str(side.epoch), created_at=START, key=key)


class Looks:
    """What is seen of the views and of the process while something else goes on."""

    def __init__(self, redis: Redis, http: httpx.AsyncClient) -> None:
        self.wrong: list[str] = []
        self.slowest_s = 0.0
        self.are_over = False
        self._redis = redis
        self._http = http

    async def watch(self) -> None:
        """Look until they are over: a client may keep a cancellation to itself."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch_views())
            tasks.create_task(self._watch_process())

    async def _watch_views(self) -> None:
        # Row n has the value n.
        sums = {n: n * (n + 1) / 2 for n in range(100)}
        while not self.are_over:
            keys = await self._redis.keys("device:stats:*")
            values = await cast(
                "Awaitable[list[bytes]]", self._redis.hmget("device:stats:d", ["sample_count", "sum_t"])
            )
            count, total = int(values[0]), float(values[1])
            if keys != [b"device:stats:d"] or total != sums[count]:
                self.wrong.append(f"views {keys[:3]!r}: {count} messages, sum {total}")
            await asyncio.sleep(0.01)

    async def _watch_process(self) -> None:
        loop = asyncio.get_running_loop()
        while not self.are_over:
            began = loop.time()
            answer = await self._http.get("/readyz")
            self.slowest_s = max(self.slowest_s, loop.time() - began)
            if answer.status_code != 200:
                self.wrong.append(answer.text)
            await asyncio.sleep(0.05)


@pytest.fixture
async def side(settings: Settings) -> AsyncIterator[TopicSide]:
    """The write side, which has written three rows."""
    async with playing(settings) as side:
        for n in (1, 2, 3):
            await side.append(n, n)
        yield side


@pytest.fixture
async def redis(settings: Settings) -> AsyncIterator[Redis]:
    """A client of the views' Redis."""
    async with Redis.from_url(settings.redis.url) as client:
        yield client


@pytest.fixture
async def http(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the projector's HTTP address."""
    async with httpx.AsyncClient(base_url=f"http://{settings.projector.http}", timeout=20) as client:
        yield client


async def start(run_command: RunCommand, **environment: str) -> RunningCommand:
    """A projector that has applied three rows and looked at all there is."""
    projector = await run_command("projector", "run", "--log-level", "debug", **environment)
    await projector.event("run_applied", last=3)
    await projector.event("history_written", last=3)
    return projector


@asynccontextmanager
async def watched(redis: Redis, http: httpx.AsyncClient) -> AsyncIterator[Looks]:
    """Look at views and process all the time."""
    async with asyncio.timeout(20):
        while (await http.get("/readyz")).status_code != 200:  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(0.02)
    looks = Looks(redis, http)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(looks.watch())
        try:
            yield looks
        finally:
            looks.are_over = True


async def confirmed(redis: Redis, n: int) -> None:
    """Wait until PostgreSQL has been asked whether the views have what it has, up to a row."""
    async with asyncio.timeout(20):
        while not str(await redis.hget("projector:epoch", "0:confirmed")).startswith(f"b'{n} "):  # noqa: ASYNC110  # Redis tells nobody
            await asyncio.sleep(0.02)


async def metric(http: httpx.AsyncClient, name: str) -> float:
    """A metric's value."""
    (value,) = [
        line.rpartition(" ")[2]
        for line in (await http.get("/metrics")).text.splitlines()
        if line.startswith(name)
    ]
    return float(value)


async def test_nothing_of_it_is_seen(
    run_command: RunCommand, side: TopicSide, redis: Redis, http: httpx.AsyncClient
) -> None:
    """No message of anybody else ends, halts or rebuilds anything, or is ever seen; a true one is at once."""
    projector = await start(run_command)
    so_far = len(projector.events)
    async with watched(redis, http) as looks:
        everything = [*unsigned(str(side.epoch)), *badly_signed(side)]
        await side.send(*everything)
        await side.send(*everything[::7], stream=GATEWAY_STREAMS)
        for level in ("devices", "devices/limits", "x", "00", "0 ", "\u0660", "9" * 30, "0/0", "-1"):
            await side.send(row(str(side.epoch)), side.message(4, 666), b"\xff", b"[" * 10_000, stream=level)
        await side.send(row(str(side.epoch)), retain=True)
        await side.publish(2, 2)  # an old one, once more
        await side.publish(4, 4)  # before PostgreSQL has it, whatever of it was forged
        await side.append(4, 4)
        await projector.event("run_applied", last=4)
        await confirmed(redis, 4)
    assert looks.wrong == []
    assert looks.slowest_s < 2
    said = {line["event"] for line in projector.events[so_far:]}
    assert said <= QUIET
    assert await metric(http, 'projector_messages_not_believed_total{reason="unsigned"}') > 100
    verified = await run_command("projector", "verify")
    assert await verified.exit_code() == 0, verified.output
    assert await projector.terminate() == 0


async def test_a_flood(
    run_command: RunCommand, side: TopicSide, redis: Redis, http: httpx.AsyncClient
) -> None:
    """However much is forged: true rows go on, memory stays, a line a minute, few questions to PostgreSQL."""
    projector = await start(run_command)
    epoch = str(side.epoch)
    loop = asyncio.get_running_loop()
    looked = "SELECT seq_scan + coalesce(idx_scan, 0) FROM pg_stat_user_tables WHERE relname = 'stream_keys'"
    before, began = await side.database.fetchval(looked), loop.time()
    memory = rss(projector)
    async with watched(redis, http) as looks:
        forged = [row(epoch), side.message(3, 3).replace(b'"n":3', b'"n":4'), row(epoch, n=9, v=7)]
        for n in (4, 5, 6):
            await side.send(*forged * 500)
            await side.append(n, n)
            await side.publish(n, n)
            for stream in range(5000 * n, 5000 * n + 3000, 3):
                await side.send(*forged[:1], stream=stream)
        await projector.event("run_applied", last=6)
        await confirmed(redis, 6)
    assert looks.wrong == []
    lines = [line["reason"] for line in projector.events if line["event"] == "topic_message_not_believed"]
    assert sorted(lines) == ["unsigned", "wrong_signature"]
    assert await metric(http, 'projector_messages_not_believed_total{reason="unsigned"}') == 3000
    assert await metric(http, "projector_messages_unknown_stream_total") == 3000
    assert rss(projector) - memory < 30_000_000
    seconds = loop.time() - began
    assert await side.database.fetchval(looked) - before <= 5 * seconds + 10
    assert await projector.terminate() == 0


async def test_gateways_that_do_not_sign(
    run_command: RunCommand, side: TopicSide, redis: Redis, http: httpx.AsyncClient
) -> None:
    """Rows of a gateway of before are read from PostgreSQL; once it signs, they are taken as they come.

    So they are when it signs with another key, after the first that is.
    """
    await side.database.execute("DELETE FROM stream_keys")
    key, side.key = side.key, None
    projector = await start(run_command)
    for n in (4, 5):
        await side.append(n, n)
        await side.publish(n, n)
        await projector.event("run_applied", last=n)
    told = await projector.event("topic_message_not_believed", reason="no_key")
    assert "rows are read from PostgreSQL" in told["advice"]
    assert await metric(http, 'projector_rows_caught_up_total{stream="0"}') == 5
    side.key = key
    await side.append(6, 6)
    await confirmed(redis, 6)
    await side.append(7, 7)
    await side.publish(7, 7)
    await projector.event("run_applied", last=7)
    assert await metric(http, 'projector_rows_caught_up_total{stream="0"}') == 6
    side.key = token_bytes(KEY_BYTES)
    await side.database.execute("UPDATE stream_keys SET key = $1", side.key)
    for n in (8, 9):
        await side.append(n, n)
        await side.publish(n, n)
        await projector.event("run_applied", last=n)
    assert await metric(http, 'projector_rows_caught_up_total{stream="0"}') == 7


async def test_rows_of_the_history_before(
    run_command: RunCommand, side: TopicSide, redis: Redis, http: httpx.AsyncClient
) -> None:
    """Once a stream has a new epoch, rows that were recorded before are worth nothing, key or no key."""
    projector = await start(run_command)
    recorded = [side.message(n, 666) for n in (3, 4, 5)]
    side.epoch, before = uuid4(), side.key
    await side.database.execute("UPDATE stream_leases SET epoch = $1", side.epoch)
    await projector.event("rebuild_finished")
    async with watched(redis, http) as looks:
        await side.send(*recorded)
        await projector.event("topic_message_not_believed", reason="no_key")
        side.key = token_bytes(KEY_BYTES)
        await side.database.execute("UPDATE stream_keys SET epoch = $1, key = $2", side.epoch, side.key)
        await side.append(4, 4)
        await side.publish(4, 4)
        await projector.event("run_applied", last=4)
        await confirmed(redis, 4)
        await side.send(*recorded)
        await projector.event("topic_message_not_believed", reason="wrong_signature")
    assert looks.wrong == []
    assert side.key != before
    assert [line["event"] for line in projector.events].count("rebuild_started") == 1


async def test_a_role_that_may_not_read_keys(
    run_command: RunCommand, side: TopicSide, settings: Settings, unique: str
) -> None:
    """Where the projector's role lacks that right it says so once, and everything is read from PostgreSQL."""
    await side.database.execute(
        f"CREATE ROLE {unique} LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO {unique};"
        f"REVOKE ALL ON stream_keys FROM {unique}"
    )
    try:
        dsn = settings.postgres.dsn.replace("postgres@", f"{unique}@")
        projector = await start(run_command, EDGE_POSTGRES_DSN=dsn)
        told = await projector.event("keys_unreadable")
        assert told["advice"].startswith("GRANT SELECT ON stream_keys")
        await side.append(4, 4)
        await side.publish(4, 4)
        await projector.event("run_applied", last=4)
        assert await projector.terminate() == 0
    finally:
        await side.database.execute(f"DROP OWNED BY {unique}; DROP ROLE {unique}")


def rss(projector: RunningCommand) -> int:
    """Memory of the process, in bytes."""
    return int(Path(f"/proc/{projector.pid}/statm").read_text().split()[1]) * 4096
