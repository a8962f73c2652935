"""`projector run` between a real broker, PostgreSQL and Redis; the write side is played by the test."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import httpx
import msgspec
import pytest
from redis.asyncio import Redis

from contract.events import RawEvent, encode_events, format_time, wrap
from contract.views import FORMAT, VIEWS_FORMAT
from deploy.local.services import LocalServices
from gateway.migrate import migrate
from projector import cli
from tests.support.topic_side import START, payload_of, playing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

    from runtime.settings import Settings
    from tests.support.commands import RunningCommand
    from tests.support.topic_side import TopicSide

    RunCommand = Callable[..., Awaitable[RunningCommand]]

WRONG_TIMES = encode_events([RawEvent("d", None, "today", "now", "1", msgspec.Raw(b'{"t": 1}'))])


@pytest.fixture
async def writer(settings: Settings) -> AsyncIterator[TopicSide]:
    """The write side of the test's own configuration."""
    async with playing(settings) as side:
        yield side


@pytest.fixture
async def redis(settings: Settings) -> AsyncIterator[Redis]:
    """A client of the views' Redis."""
    async with Redis.from_url(settings.redis.url) as client:
        yield client


@pytest.fixture
async def http(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the projector's HTTP address."""
    async with httpx.AsyncClient(base_url=f"http://{settings.projector.http}") as client:
        yield client


async def start(run_command: RunCommand, **environment: str) -> RunningCommand:
    """Start a projector that logs each run."""
    return await run_command("projector", "run", "--log-level", "debug", **environment)


async def applied(projector: RunningCommand, last: int, *, stream: int = 0) -> None:
    """Wait until a run that ends with row `last` has been applied."""
    await projector.event("run_applied", last=last, stream=stream)


async def total(redis: Redis) -> tuple[int, float]:
    """Messages and sum of device `d`."""
    count, sum_t = await cast(
        "Awaitable[list[bytes]]", redis.hmget("device:stats:d", ["sample_count", "sum_t"])
    )
    return int(count), float(sum_t)


async def ready(http: httpx.AsyncClient, reason: str | None) -> None:
    """Wait until `/readyz` gives the reason, or is 200 when there is none."""
    async with asyncio.timeout(15):
        while True:
            with contextlib.suppress(httpx.ConnectError):  # it may not listen yet, where it is one of two
                answer = await http.get("/readyz")
                if answer.status_code == (503 if reason else 200) and (reason or "") in answer.text:
                    return
            await asyncio.sleep(0.02)


async def test_catches_up_and_answers(
    run_command: RunCommand, writer: TopicSide, http: httpx.AsyncClient
) -> None:
    """Rows written before the start are in the views, and the write side is told how far they are."""
    for n in (1, 2, 3):
        await writer.append(n, n, n + 0.5)
    projector = await start(run_command)
    await applied(projector, 3)
    await ready(http, None)
    answer = await http.get("/devices/d/stats")
    assert answer.status_code == 200
    stats: dict[str, Any] = answer.json()
    assert (stats["device_id"], stats["region"], stats["sample_count"]) == ("d", "north", 6)
    assert stats["metrics"]["t"] == {
        "last": 3.5,
        "min": 1.0,
        "max": 3.5,
        "avg": 2.25,
        "sum": 13.5,
        "count": 6,
    }
    unknown = await http.get("/devices/nobody/stats")
    assert (unknown.status_code, unknown.headers["content-type"]) == (404, "application/problem+json")
    await projector.event("history_written", last=3)
    metrics = (await http.get("/metrics")).text
    assert 'projector_events_applied_total{stream="0"} 6.0' in metrics
    for step in ("received", "committed", "projected"):
        assert f'projector_lag_seconds{{step="{step}",stream="0"}}' in metrics
    (lag,) = (await http.get("/lag")).json()["streams"]
    assert (lag["stream"], lag["head"], lag["cursor"], lag["behind_rows"]) == (0, 3, 3, 0)
    assert lag["lag_seconds"].keys() == {"received", "committed", "published", "projected"}
    assert lag["history"].keys() == {"cursor", "behind_rows", "behind_seconds"}
    assert lag["newest"]["event"] == lag["newest"]["received"] == "2026-11-23T09:00:00.000000Z"
    assert await projector.terminate() == 0
    reported = await writer.database.fetch("SELECT projection, stream, n, epoch FROM projections ORDER BY 1")
    assert [tuple(row) for row in reported] == [
        ("history", 0, 3, writer.epoch),
        ("redis", 0, 3, writer.epoch),
    ]
    assert await writer.database.fetchval("SELECT count FROM measurements_1h") == 6


async def test_a_site_without_a_gateway(run_command: RunCommand, http: httpx.AsyncClient) -> None:
    """Where nothing has ever been stored there are no devices, and that is the answer."""
    projector = await start(run_command)
    await projector.event("connected")
    async with asyncio.timeout(15):
        while (answer := await http.get("/devices")).status_code == 503:
            assert "not been asked" in answer.text
    assert answer.json()["devices"] == []
    assert (await http.get("/devices/nobody/stats")).status_code == 404


async def test_says_how_old_the_backlog_is(
    run_command: RunCommand, writer: TopicSide, http: httpx.AsyncClient
) -> None:
    """After a restart the views and history are as far behind as the oldest row they lack is old, at once."""
    await writer.append(1, 1)
    projector = await start(run_command)
    await applied(projector, 1)
    await projector.event("history_written", last=1)
    assert await projector.terminate() == 0
    hours_ago = datetime.now(UTC) - timedelta(hours=3)
    await writer.append(2, 2)
    await writer.append(3, 3)
    await writer.database.execute(  # which it cannot take, so that it stays behind
        "UPDATE outbox SET created_at = $1, payload = 'no events' WHERE n = 2", hours_ago
    )
    projector = await start(run_command)
    await projector.event("projection_halted", reason="undecodable_row")
    views = history = None
    async with asyncio.timeout(15):
        while not (views and history):
            for lag in (await http.get("/lag")).json()["streams"]:
                history = lag["history"]
                for behind in (lag, history):
                    if behind and behind["behind_rows"]:
                        assert (behind["cursor"], behind["behind_rows"]) == (1, 2)
                        assert 10_800 <= behind["behind_seconds"] < 10_900
                views = lag["behind_rows"]
    metrics = (await http.get("/metrics")).text
    for name in ("projector_behind_seconds", "projector_history_behind_seconds"):
        assert re.search(rf'^{name}{{stream="0"}} 108\d\d\.', metrics, re.MULTILINE), name


async def test_topic_repeats_loses_and_reorders(
    run_command: RunCommand, writer: TopicSide, redis: Redis
) -> None:
    """Whatever the topic does, each row counts once: repeats, gaps, a lost tail, strays and garbage."""
    await writer.append(1, 1)
    projector = await start(run_command)
    await applied(projector, 1)
    await writer.append(2, 2)
    await writer.publish(2, 2)
    await applied(projector, 2)
    undated = wrap(b"[]", stream=0, n=3, epoch=str(writer.epoch), created_at=START).replace(
        b"2026-11", b"2026-13"
    )
    for garbage in (b"", b"{", b"[]", b'{"v":2}', b"\xff", b'{"v":1,"stream":"x"}', undated):
        await writer.send(garbage)
    await writer.publish(2, 2)
    await writer.publish(9, 9, stream=7)
    await writer.publish(4, 1000, epoch=uuid4())
    await writer.append(3, 3)
    await writer.append(4, 4)
    await writer.publish(4, 4)
    await applied(projector, 4)
    await writer.append(5, 5)
    await applied(projector, 5)  # never published
    assert await total(redis) == (5, 15.0)
    await projector.event("topic_message_not_believed", reason="unsigned")


async def test_flushed_redis_is_filled_again(
    run_command: RunCommand, writer: TopicSide, redis: Redis
) -> None:
    """Views that vanish in quiet times come back from the outbox as long as it has every row."""
    await writer.append(1, 1)
    await writer.append(2, 2)
    projector = await start(run_command)
    await applied(projector, 2)
    await redis.flushdb()
    await projector.event("views_went_back", cursor=0)
    await projector.event("run_applied", last=2, skip=1)
    assert await total(redis) == (2, 3.0)


async def replace_rows(writer: TopicSide, *rows: int) -> None:
    """Write other rows in place of all after the first, as after a database was put back."""
    writer.written_at.clear()
    async with writer.database.transaction():
        await writer.database.execute("DELETE FROM outbox WHERE n > 1")
        await writer.database.execute("DELETE FROM measurements WHERE message_key >= '000002'")
        for n in rows:
            await writer.append(n, 100)


@pytest.mark.parametrize("running", [True, False])
async def test_rows_replaced_under_the_same_epoch(
    run_command: RunCommand, writer: TopicSide, redis: Redis, http: httpx.AsyncClient, *, running: bool
) -> None:
    """A database put back to row 1 has come past the cursor before anybody looks: the views follow it."""
    for n in (1, 2, 3):
        await writer.append(n, n)
    projector = await start(run_command)
    await applied(projector, 3)
    assert await total(redis) == (3, 6.0)
    if not running:
        assert await projector.terminate() == 0
    await replace_rows(writer, 2, 3, 4, 5)
    for n in (2, 3, 4, 5):
        await writer.publish(n, 100)
    if not running:
        projector = await start(run_command)
    await projector.event("history_replaced")
    await projector.event("rebuild_finished", cursors={"0": 5})
    await ready(http, None)
    assert await total(redis) == (5, 401.0)
    await writer.append(6, 1)
    await applied(projector, 6)
    assert await total(redis) == (6, 402.0)


async def test_histories_crossed_between_two_looks(
    run_command: RunCommand, writer: TopicSide, redis: Redis, http: httpx.AsyncClient
) -> None:
    """A projector that ended on another history's row is told by the last row that had been confirmed."""
    for n in (1, 2, 3):
        await writer.append(n, n)
    projector = await start(run_command)
    await applied(projector, 3)
    async with asyncio.timeout(20):
        while not str(await redis.hget("projector:epoch", "0:confirmed")).startswith("b'3 "):  # noqa: ASYNC110  # Redis tells nobody
            await asyncio.sleep(0.05)
    assert await projector.terminate() == 0
    await replace_rows(writer, 2, 3, 4)
    await redis.hset("projector:cursor", "0", "4")  # as when row 4 came by the topic
    await redis.hset("projector:epoch", "0:written_at", format_time(writer.written_at[0, 4]))
    projector = await start(run_command)
    await projector.event("history_replaced")
    await projector.event("rebuild_finished", cursors={"0": 4})
    await ready(http, None)
    assert await total(redis) == (4, 301.0)


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize(
    "gone",
    [["projector:cursor"], ["projector:cursor", "projector:epoch"], ["projector:epoch"]],
    ids=["cursor", "both", "epoch"],
)
async def test_a_cursor_that_is_gone(
    run_command: RunCommand,
    writer: TopicSide,
    redis: Redis,
    http: httpx.AsyncClient,
    gone: list[str],
    *,
    running: bool,
) -> None:
    """Views without their cursor are made anew, not counted into again, though the outbox has every row."""
    for n in (1, 2, 3):
        await writer.append(n, n)
    projector = await start(run_command)
    await applied(projector, 3)
    if not running:
        assert await projector.terminate() == 0
    await redis.delete(*gone)
    if not running:
        projector = await start(run_command)
    await projector.event(
        "projection_halted",
        reason="views_outdated" if len(gone) == 1 and "epoch" in gone[0] else "views_damaged",
    )
    await projector.event("rebuild_finished", cursors={"0": 3})
    await ready(http, None)
    assert await total(redis) == (3, 6.0)
    await writer.append(4, 4)
    await applied(projector, 4)
    assert await total(redis) == (4, 10.0)


async def test_a_view_that_is_gone(
    run_command: RunCommand, writer: TopicSide, redis: Redis, http: httpx.AsyncClient
) -> None:
    """A device's view that somebody has deleted does not begin anew at one: it comes back whole."""
    for n in (1, 2, 3):
        await writer.append(n, n)
    projector = await start(run_command)
    await applied(projector, 3)
    await redis.delete("device:stats:d")
    await writer.append(4, 4)
    await projector.event("view_lost", key="device:stats:d")
    await projector.event("rebuild_finished", cursors={"0": 4})
    await ready(http, None)
    assert await total(redis) == (4, 10.0)
    await writer.append(5, 5)
    await applied(projector, 5)
    assert await total(redis) == (5, 15.0)


async def first(*waits: Coroutine[Any, Any, object]) -> None:
    """Wait for the first of several signals, and no longer for the others."""
    tasks = [asyncio.create_task(each) for each in waits]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.result()


@pytest.mark.parametrize(
    "cause", ["cursor_missing", "cursor_too_old", "cursor_beyond_head", "epoch_changed", "views_outdated"]
)
async def test_rebuilds_what_it_cannot_follow(
    run_command: RunCommand, writer: TopicSide, redis: Redis, http: httpx.AsyncClient, cause: str
) -> None:
    """Views that cannot be followed to what PostgreSQL holds are made anew: once, and then all goes on."""
    for n in (1, 2, 3, 4):
        await writer.append(n, n)
    cursor = {"cursor_missing": 0, "cursor_too_old": 1, "cursor_beyond_head": 9}.get(cause, 4)
    epoch = uuid4() if cause == "epoch_changed" else writer.epoch
    if cause != "cursor_missing":
        await redis.hset("projector:cursor", "0", str(cursor))
        await redis.hset("projector:epoch", "0", str(epoch))
        if cause != "views_outdated":
            await redis.hset("projector:epoch", FORMAT, VIEWS_FORMAT)
        await redis.hset("device:stats:old", "sample_count", "7")
    await writer.database.execute("DELETE FROM outbox WHERE n < 3")
    both = [await start(run_command, **each) for each in ({}, {"EDGE_PROJECTOR_HTTP": "127.0.0.1:0"})]
    await first(*(projector.event("projection_halted", reason=cause) for projector in both))
    await first(*(projector.event("rebuild_finished") for projector in both))
    await ready(http, None)
    assert await total(redis) == (4, 10.0)
    assert await redis.keys("device:stats:*") == [b"device:stats:d"]
    await writer.append(5, 5)
    await first(*(applied(projector, 5) for projector in both))
    assert await total(redis) == (5, 15.0)
    for projector in both:
        assert await projector.terminate() == 0
    assert [line["event"] for each in both for line in each.events].count("rebuild_finished") == 1


async def test_who_did_not_rebuild_follows_too(
    run_command: RunCommand, writer: TopicSide, redis: Redis
) -> None:
    """Two cannot go on from where the views are and one makes them anew; both are ready while rows flow."""
    for n in (1, 2, 3, 4):
        await writer.append(n, n)
    await redis.hset("projector:cursor", "0", "1")
    await redis.hset("projector:epoch", items=["0", str(writer.epoch), FORMAT, VIEWS_FORMAT])
    await writer.database.execute("DELETE FROM outbox WHERE n < 3")
    address = "127.0.0.1:0"
    both = [await start(run_command, EDGE_PROJECTOR_HTTP=address) for _ in range(2)]
    for projector in both:
        await projector.event("projection_halted", reason="cursor_too_old")

    async def rows_flow() -> None:
        for n in range(5, 100_000):
            await writer.append(n, 1)
            await writer.publish(n, 1)

    flowing = asyncio.create_task(rows_flow())
    try:
        for projector in both:
            listening = await projector.event("http_listening")
            async with httpx.AsyncClient(base_url=f"http://{listening['address']}") as http:
                await ready(http, None)
        assert not flowing.done()
    finally:
        flowing.cancel()
        await asyncio.wait([flowing])
    for projector in both:
        assert await projector.terminate() == 0
    assert [line["event"] for each in both for line in each.events].count("rebuild_finished") == 1


async def test_says_that_it_rebuilds(
    run_command: RunCommand, writer: TopicSide, redis: Redis, http: httpx.AsyncClient
) -> None:
    """While another process holds the rebuild, `/readyz` says so and names the cause; then it is our turn."""
    for n in (1, 2):
        await writer.append(n, n)
    await writer.database.execute("DELETE FROM outbox WHERE n < 2")
    await redis.set("projector:lock:rebuild", "somebody")
    projector = await start(run_command)
    await projector.event("projection_halted")
    await ready(http, "rebuilding, by another process")
    await ready(http, "rebuild_needed: cursor_missing")
    assert await redis.keys("device:stats:*") == []
    refused = await run_command("projector", "rebuild")
    assert await refused.exit_code() == 1
    assert "another rebuild of these views is under way" in "\n".join(refused.output)
    await redis.delete("projector:lock:rebuild")
    await projector.event("rebuild_started", reasons={"0": "cursor_missing"})
    await ready(http, None)
    assert await total(redis) == (2, 3.0)


async def test_two_projectors_count_once(run_command: RunCommand, writer: TopicSide, redis: Redis) -> None:
    """Two projectors with one configuration neither fight at the broker nor count anything twice."""
    address = "127.0.0.1:0"
    both = [await start(run_command, EDGE_PROJECTOR_HTTP=address) for _ in range(2)]
    await writer.append(1, 1)
    for projector in both:
        await projector.event("stream_found")
    for n in range(2, 30):
        await writer.append(n, n)
        await writer.publish(n, n)
    await first(*(applied(projector, 29) for projector in both))
    assert await total(redis) == (29, float(sum(range(1, 30))))
    for projector in both:
        assert await projector.terminate() == 0


@pytest.mark.parametrize("payload", [b"x", WRONG_TIMES])
async def test_undecodable_row_stops_its_stream_only(
    run_command: RunCommand, writer: TopicSide, http: httpx.AsyncClient, payload: bytes
) -> None:
    """A row that holds no events, or times that are none, halts its own stream, loudly; others go on."""
    await writer.append(1, 1)
    await writer.append(1, 1, stream=1)
    await writer.append(2, 2)
    await writer.database.execute("UPDATE outbox SET payload = $1 WHERE stream = 1", payload)
    projector = await start(run_command)
    await projector.event("projection_halted", stream=1, reason="undecodable_row")
    await applied(projector, 2, stream=0)
    await ready(http, "undecodable_row")


async def test_a_row_edited_by_hand_ends_nothing(
    run_command: RunCommand, writer: TopicSide, http: httpx.AsyncClient
) -> None:
    """A row that no gateway wrote halts its stream, or history, by its number, until it is right."""
    edited = "UPDATE outbox SET payload = $2 WHERE n = $1"
    await writer.append(1, 1)
    projector = await start(run_command)
    await applied(projector, 1)
    nested = b'[{"later":' + b"[" * 100_000 + b"]" * 100_000 + b"}]"
    for n, payload in enumerate((payload_of(2, 8).replace(b"8", b"9" * 400), nested), 2):
        async with writer.database.transaction():
            await writer.append(n, n)
            await writer.database.execute(edited, n, payload)
        told = await projector.event("outbox_row_undecodable", skip=n - 2)
        assert f"outbox row {n} of stream 0" in told["detail"]
        at, epoch = writer.written_at[0, n], str(writer.epoch)
        message = wrap(payload, stream=0, n=n, epoch=epoch, created_at=at, key=writer.key)
        await writer.send(message)  # as a gateway does that knows nothing of it
        await projector.event("topic_message_not_believed", reason="undecodable")
        await writer.database.execute(edited, n, payload_of(n, n))
        await applied(projector, n)
    in_9999 = payload_of(4, 4).replace(b'"received_at":"2026-11-23T09:00', b'"received_at":"9999-12-31T23:58')
    await writer.append(4, 4)
    await writer.database.execute(
        edited, 4, in_9999.replace(b'"ts":"2026-11-23T09:00', b'"ts":"9999-12-31T23:59')
    )
    await applied(projector, 4)
    await ready(http, None)
    await writer.append(5, 5)
    random_name = b64encode(random.Random(7).randbytes(6000))  # noqa: S311  # which cannot be made shorter
    await writer.database.execute(edited, 5, payload_of(5, 5).replace(b'"t":', b'"%s":' % random_name))
    await applied(projector, 5)
    assert await projector.terminate() == 0
    told = await projector.event("waiting", what="history")
    assert "to 5 of stream 0" in told["reason"]


async def test_what_the_topic_says_is_not_trusted(
    run_command: RunCommand, writer: TopicSide, redis: Redis
) -> None:
    """A row from the topic whose times are none ends nothing: PostgreSQL has the row, and it is counted."""
    await writer.append(1, 1)
    projector = await start(run_command)
    await applied(projector, 1)
    await writer.append(2, 2)
    epoch = str(writer.epoch)
    await writer.send(wrap(WRONG_TIMES, stream=0, n=2, epoch=epoch, created_at=START, key=writer.key))
    await projector.event("topic_message_not_believed", reason="undecodable")
    await applied(projector, 2)
    assert await total(redis) == (2, 3.0)


async def test_servers_away(run_command: RunCommand, settings: Settings, http: httpx.AsyncClient) -> None:
    """Without PostgreSQL the topic's rows flow on; without Redis they wait; each counts once."""
    async with LocalServices(["postgres", "redis"], environ={}) as own:
        dsn, url = own.postgres.dsn(), own.redis.url()
        await migrate(dsn)
        replace = msgspec.structs.replace
        mine = replace(settings, postgres=replace(settings.postgres, dsn=dsn))
        async with playing(mine) as writer, Redis.from_url(url) as redis:
            for n in (1, 2, 3, 4):
                await writer.append(n, n)
            await own.postgres.stop("immediate")
            await own.redis.stop()
            projector = await start(run_command, EDGE_POSTGRES_DSN=dsn, EDGE_REDIS_URL=url)
            await projector.event("waiting", what="postgres")
            await ready(http, "postgres")
            assert (await http.get("/healthz")).status_code == 200
            away = await http.get("/devices/d/stats")
            assert (away.status_code, away.headers["retry-after"]) == (503, "5")

            await own.postgres.start()
            await projector.event("waiting", what="redis")
            await own.redis.start()
            await applied(projector, 4)
            await ready(http, None)

            await own.postgres.stop("immediate")
            await projector.event("waiting", what="postgres", skip=1)
            await writer.publish(5, 5)
            await applied(projector, 5)

            await own.redis.stop()
            await projector.event("waiting", what="redis", skip=1)
            await writer.publish(6, 6)
            await own.redis.start()
            await applied(projector, 6)
            assert await total(redis) == (6, 21.0)


def test_command_line() -> None:
    """The command and its options are those that scripts use."""
    assert set(cli.main.commands) == {"run", "verify", "rebuild", "top", "devices", "token"}
    assert {parameter.name for parameter in cli.main.commands["verify"].params} >= {"limit", "as_json"}
    assert {parameter.name for parameter in cli.main.commands["rebuild"].params} >= {"as_json"}
    options = {option for parameter in cli.main.commands["run"].params for option in parameter.opts}
    assert options >= {"--config", "--log-format", "--log-level"}
