"""Dead letters from a device's rubbish to a hash in Redis, through real processes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import httpx
import pytest
from redis.asyncio import Redis

from gateway.dead_letters import REPLAY_STREAM
from tests.support.devices import publish

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

    Run = Callable[..., Awaitable[RunningCommand]]


def message(key: str, **metrics: object) -> bytes:
    return json.dumps({"id": key, "ts": "2026-11-23T04:00:00Z", "region": "north", **metrics}).encode()


@pytest.fixture
async def gateway(run_command: Run, settings: Settings) -> RunningCommand:
    """A connected gateway that takes payloads of up to 128 bytes only."""
    process = await run_command(
        "gateway", "run", "--log-level", "debug", EDGE_GATEWAY_MAX_PAYLOAD_BYTES="128"
    )
    await process.event("connected", client_id=settings.broker.client_id)
    return process


async def finished(run_command: Run, *arguments: str, code: int = 0, **environment: str) -> list[str]:
    """Run `gateway dead-letters …` to its end and return the lines of its stdout."""
    command = await run_command("gateway", "dead-letters", *arguments, **environment)
    assert await command.exit_code() == code, command.output
    return command.stdout


async def test_rubbish_is_looked_at_mended_and_replayed(
    gateway: RunningCommand, run_command: Run, redis_url: str, broker_port: int, topic_prefix: str
) -> None:
    """With a limit raised, what it had refused is stored beside a running gateway and seen in Redis."""
    projector = await run_command("projector", "run", "--log-level", "debug")
    await projector.event("connected")
    big = message("2", x=2, note="y" * 100)
    topic = f"{topic_prefix}/a1/telemetry"
    await publish(broker_port, [(topic, message("1", x=1)), (topic, big), (topic, b"\x00rubbish\xff")])
    await gateway.event("message_rejected", reason="payload_too_large")
    rejected = await gateway.event("message_rejected", reason="not_utf8")
    await projector.event("run_applied", stream=0)

    lines = await finished(run_command, "list", "--json", "--topic", f"{topic_prefix}/+/telemetry")
    letters: list[dict[str, Any]] = [json.loads(line) for line in lines]
    assert [letter["reason"] for letter in letters] == ["not_utf8", "payload_too_large"]
    assert letters[0]["id"] == rejected["dead_letter"]
    assert any("payload_too_large" in line and topic in line for line in await finished(run_command, "list"))
    shown = "\n".join(await finished(run_command, "show", str(letters[0]["id"])))
    assert "00 72 75 62 62 69 73 68 ff" in shown
    assert "|.rubbish.|" in shown
    assert await finished(run_command, "show", "--raw", str(letters[1]["id"])) == [big.decode()]

    (line,) = await finished(run_command, "replay", "--json", "--reason", "payload_too_large")
    assert json.loads(line) == {
        "selected": 1,
        "replayed": 1,
        "stored": 1,
        "duplicates": 0,
        "failing": {},
        "orphans": 0,
        "stopped": False,
        "others": 0,
    }
    await projector.event("run_applied", stream=REPLAY_STREAM, events=1)
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        device = await redis.hgetall("device:stats:a1")
    assert (device["sample_count"], device["sum_x"], device["last_x"]) == ("2", "3", "2")

    summary = await finished(run_command, "replay", code=1)
    assert summary[0].startswith("0 of 1 dead letters replayed")
    assert summary[1] == "1 still fail: not_utf8"
    assert await finished(run_command, "list", "--since", "1h", "--device", "b2") == ["no dead letters"]
    assert await gateway.terminate() == 0
    assert await projector.terminate() == 0


async def test_a_replay_killed_half_way(
    gateway: RunningCommand,
    run_command: Run,
    database: str,
    redis_url: str,
    broker_port: int,
    topic_prefix: str,
) -> None:
    """Killed and repeated beside a gateway that stores, it ends with each reading stored and shown once."""
    refused = [(f"{topic_prefix}/d{i % 5}/telemetry", message(str(i), x=i, y="y" * 100)) for i in range(600)]
    await publish(broker_port, refused)
    await gateway.total("batch_stored", len(refused), "dead_letters")
    for _ in range(2):
        replay = await run_command(
            "gateway", "dead-letters", "replay", "--log-level", "debug", EDGE_GATEWAY_BATCH_MESSAGES="5"
        )
        await replay.event("letters_replayed", skip=10)
        await replay.kill()
        await publish(broker_port, [(f"{topic_prefix}/d0/telemetry", message("while", x=0))])
    lines = await finished(run_command, "replay", EDGE_GATEWAY_BATCH_MESSAGES="50")
    assert lines[0].endswith("0 were there already")

    connection = await asyncpg.connect(database)
    assert await connection.fetchval("SELECT count(*) FROM dead_letters WHERE replayed_at IS NULL") == 0
    distinct = "SELECT count(DISTINCT (device_id, message_key)) FROM measurements"
    assert await connection.fetchval(distinct) == 601
    assert await connection.fetchval("SELECT count(*) FROM measurements") == 601
    assert await connection.fetchval("SELECT sum(events) FROM outbox") == 601
    head = await connection.fetchval("SELECT head FROM streams WHERE stream = $1", REPLAY_STREAM)
    await connection.close()
    projector = await run_command("projector", "run", "--log-level", "debug")
    await projector.event("run_applied", stream=REPLAY_STREAM, last=head)
    await projector.event("run_applied", stream=0)
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        counts = [await redis.hget(f"device:stats:d{i}", "sample_count") for i in range(5)]
    assert counts == ["121", "120", "120", "120", "120"]
    assert await projector.terminate() == 0
    assert await gateway.terminate() == 0


async def test_a_running_gateway_keeps_the_bounds_and_tells_lag(
    gateway: RunningCommand, run_command: Run, settings: Settings, broker_port: int, topic_prefix: str
) -> None:
    """It removes the oldest letters beyond the bound, counts them, and measures every step of the path."""
    topic = f"{topic_prefix}/a1/telemetry"
    await publish(broker_port, [(topic, b"rubbish-%d" % i) for i in range(5)])
    await gateway.event("message_rejected", skip=4)
    assert await gateway.terminate() == 0
    again = await run_command("gateway", "run", EDGE_GATEWAY_DEAD_LETTERS_MAX="2")
    assert (await again.event("dead_letters_evicted"))["letters"] == 3
    await again.event("connected", client_id=settings.broker.client_id)
    ts = (datetime.now(UTC) - timedelta(seconds=5)).isoformat()
    await publish(broker_port, [(topic, message("1", x=1, ts=ts))])
    summary = await again.event("summary", committed=1)
    assert 5000 < summary["event_lag_ms"] < 15_000
    assert 0 < summary["committed_lag_ms"] < 5000
    assert 0 < summary["published_lag_ms"] < 5000
    assert "unkeyed" not in summary
    async with httpx.AsyncClient(base_url=f"http://{settings.gateway.http}") as client:
        metrics = (await client.get("/metrics")).text
    assert "gateway_dead_letters_evicted_total 3.0" in metrics
    assert 'gateway_lag_seconds{step="event"}' in metrics
    assert "gateway_event_lag_seconds_count 1.0" in metrics
    assert await again.terminate() == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["replay", "--topic", "a#"], "whole level"),
        (["list", "--since", "yesterday"], "neither a time"),
        (["show", "--raw", "--json", "1"], "one of them"),
        (["replay", "--reson", "conflict"], "--reason"),
    ],
)
async def test_wrong_usage(run_command: Run, arguments: list[str], said: str) -> None:
    """It is refused with exit code 2 and what would be right."""
    command = await run_command("gateway", "dead-letters", *arguments)
    assert await command.exit_code() == 2
    assert said in "\n".join(command.output)


async def test_an_absent_letter_and_an_absent_server(run_command: Run) -> None:
    """A command that cannot do its work leaves with exit code 1 and says why."""
    nowhere = await run_command(
        "gateway", "dead-letters", "list", EDGE_POSTGRES_DSN="postgresql://nobody@127.0.0.1:9/none"
    )
    assert await nowhere.exit_code() == 1
    assert "error: postgres: 127.0.0.1:9" in nowhere.output[-1]
    absent = await run_command("gateway", "dead-letters", "show", "1")
    assert await absent.exit_code() == 1
    assert absent.output == ["error: there is no dead letter 1"]


async def test_letters_of_another_gateway_are_left_alone(
    gateway: RunningCommand, run_command: Run, settings: Settings, broker_port: int, topic_prefix: str
) -> None:
    """A replay by other routes keeps their reasons, counts them, and takes them when it is told to."""
    await publish(broker_port, [(f"{topic_prefix}/a1/telemetry", b"\x00rubbish\xff")])
    await gateway.event("message_rejected", reason="not_utf8")
    other = {
        "EDGE_BROKER_CLIENT_ID": "another",
        "EDGE_ROUTE": json.dumps([{"topic": "elsewhere/{device_id}"}]),
    }
    (line,) = await finished(run_command, "replay", "--json", code=0, **other)
    assert {"selected": 0, "others": 1}.items() <= json.loads(line).items()
    (letter,) = map(json.loads, await finished(run_command, "list", "--json"))
    assert (letter["reason"], letter["gateway"]) == ("not_utf8", settings.broker.client_id)
    (line,) = await finished(
        run_command, "replay", "--json", "--gateway", settings.broker.client_id, code=1, **other
    )
    assert json.loads(line)["failing"] == {"no_route": 1}
    assert await gateway.terminate() == 0
