"""`gateway trace`: each verdict, on messages that real processes took, stored, refused and projected."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from redis.asyncio import Redis

from gateway.dead_letters import REPLAY_STREAM
from tests.support.devices import publish

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

    Run = Callable[..., Awaitable[RunningCommand]]

OLD = "2026-01-02T03:04:05.250Z"


def message(key: str, **fields: object) -> bytes:
    return json.dumps({"id": key, "region": "north", **fields}).encode()


async def finished(run_command: Run, *arguments: str, code: int, **environment: str) -> RunningCommand:
    """Run `gateway trace …` to its end."""
    command = await run_command("gateway", "trace", *arguments, **environment)
    assert await command.exit_code() == code, command.output
    return command


async def story(run_command: Run, *arguments: str, code: int, **environment: str) -> dict[str, Any]:
    """The same with --json, and what it says."""
    command = await finished(run_command, *arguments, "--json", code=code, **environment)
    (line,) = command.stdout
    told: dict[str, Any] = json.loads(line)
    return told


def steps(told: dict[str, Any]) -> dict[str, dict[str, Any]]:
    (only,) = told["messages"]
    return {step["step"]: step for step in only["steps"]}


@pytest.fixture
async def gateway(run_command: Run, settings: Settings) -> RunningCommand:
    """A connected gateway that takes payloads of up to 128 bytes only."""
    process = await run_command(
        "gateway", "run", "--log-level", "debug", EDGE_GATEWAY_MAX_PAYLOAD_BYTES="128"
    )
    await process.event("connected", client_id=settings.broker.client_id)
    await process.event("connected", client_id=f"{settings.broker.client_id}-relay")
    return process


@pytest.fixture
async def projector(run_command: Run) -> RunningCommand:
    """A projector that listens."""
    process = await run_command("projector", "run", "--log-level", "debug")
    await process.event("connected")
    return process


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection to look and to break things with."""
    made = await asyncpg.connect(database)
    yield made
    await made.close()


async def test_a_message_on_its_way(
    run_command: Run, gateway: RunningCommand, projector: RunningCommand, broker_port: int, topic_prefix: str
) -> None:
    """Stored and projected is exit code 0, with when and where of each step; not yet projected is 1."""
    topic = f"{topic_prefix}/a1/telemetry"
    await publish(broker_port, [(topic, message("k-1", x=1)), (topic, message("k-1", x=1))])
    await projector.event("run_applied")
    told = await story(run_command, "k-1", "--device", "a1", code=0)
    assert (told["verdict"], told["key"], told["redis_away"]) == ("projected", "k-1", None)
    found = steps(told)
    assert list(found)[:6] == ["sent", "received", "committed", "outboxed", "published", "projected"]
    assert list(found)[6:] == ["history", "repeats"]
    assert found["outboxed"]["detail"] == "stream 0 row 1"
    assert found["received"]["at"] <= found["committed"]["at"]
    assert found["projected"]["state"] == "yes"
    assert "device:stats:a1 last changed" in found["projected"]["detail"]
    assert found["repeats"]["detail"].startswith("recognised and only counted, until about ")

    assert await projector.terminate() == 0
    await publish(broker_port, [(topic, message("k-2", x=2))])
    await gateway.event("batch_stored", committed=1, n=2)
    told = await story(run_command, "k-2", code=1)
    assert told["verdict"] == "not_projected"
    assert steps(told)["projected"]["detail"].startswith("it is at row 1, 1 behind")
    text = "\n".join((await finished(run_command, "k-2", "--device", "a1", code=1)).stdout)
    assert "NOT_PROJECTED  stored, and not yet projected: it is at row 1, 1 behind" in text
    assert "a1  north  key=k-2" in text
    assert "outboxed             yes" in text
    assert "\x1b" not in text
    assert await gateway.terminate() == 0


async def test_what_was_refused(
    run_command: Run, gateway: RunningCommand, broker_port: int, topic_prefix: str
) -> None:
    """A conflict, another refusal, and bytes that nobody can read are found, the last as a perhaps."""
    topic = f"{topic_prefix}/a1/telemetry"
    refused = [
        (topic, message("c-1", x=1)),
        (topic, message("c-1", x=2)),
        (topic, message("r-1", ts="1970-01-01T00:00:00Z")),
        (topic, message("r-2", ts="1970-01-01T00:00:00Z", x="r-1")),
        (topic, message("Pumpe-ü", ts="1970-01-01T00:00:00Z")),
        (topic, b'{"id": "m-1", '),
        *((topic, b'{"id": "%s", "ts": 0}' % key) for key in ("ü-1".encode(), b"\\u00fc-1", b"\\u00FC-1")),
    ]
    await publish(broker_port, refused)
    await gateway.event("message_rejected", reason="malformed_json")
    await gateway.event("message_rejected", reason="conflict")
    spelt = await story(run_command, "ü-1", "--device", "a1", code=1)
    assert [letter["certain"] for letter in spelt["dead_letters"]] == [True] * 3, "however it is spelt"
    both = await story(run_command, "c-1", "--device", "a1", code=1)
    assert both["messages"][0]["metrics"] == {"x": 1}
    assert [letter["reason"] for letter in both["dead_letters"]] == ["conflict"]
    assert both["verdict"] == "not_projected", "no projector has ever run"

    told = await story(run_command, "r-1", "--device", "a1", code=1)
    assert told["verdict"] == "dead_letter"
    (letter,) = told["dead_letters"]
    assert letter["certain"]
    assert f"gateway dead-letters show {letter['id']}" in told["why"]
    assert (await story(run_command, "Pumpe-ü", code=1))["dead_letters"][0]["certain"], "sent with an escape"
    assert (await story(run_command, "r-1", "--device", "b2", code=1))["dead_letters"] == []
    (perhaps,) = (await story(run_command, "m-1", code=1))["dead_letters"]
    assert not perhaps["certain"]
    assert perhaps["reason"] == "malformed_json"
    assert await gateway.terminate() == 0


async def test_a_conflict_whose_other_is_gone(
    run_command: Run,
    gateway: RunningCommand,
    connection: asyncpg.Connection[asyncpg.Record],
    broker_port: int,
    topic_prefix: str,
) -> None:
    """Of what is no longer kept, the dedup window and the dead letters still tell."""
    topic = f"{topic_prefix}/a1/telemetry"
    await publish(broker_port, [(topic, message("k-1", x=1)), (topic, message("k-2", x=1))])
    await publish(broker_port, [(topic, message("k-2", x=2))])
    await gateway.event("message_rejected", reason="conflict")
    assert await gateway.terminate() == 0
    await connection.execute("DELETE FROM measurements")
    told = await story(run_command, "k-1", "--device", "a1", code=1)
    assert (told["verdict"], told["messages"]) == ("known_key", [])
    assert (await story(run_command, "k-2", code=1))["verdict"] == "conflict"


@pytest.mark.full
async def test_what_time_has_taken(
    run_command: Run,
    gateway: RunningCommand,
    projector: RunningCommand,
    connection: asyncpg.Connection[asyncpg.Record],
    redis_url: str,
    broker_port: int,
    topic_prefix: str,
) -> None:
    """A trimmed row was projected, unless the views were lost; beyond the window a key is searched widely."""
    topic = f"{topic_prefix}/a1/telemetry"
    await publish(
        broker_port, [(topic, message("k-1", x=1, ts=OLD)), (topic, b'{"x": 1, "ts": "%s"}' % OLD.encode())]
    )
    await projector.event("run_applied")
    assert await gateway.terminate() == 0
    assert await projector.terminate() == 0
    await connection.execute("DELETE FROM outbox")
    await connection.execute("UPDATE measurements SET received_at = received_at - interval '61 minutes'")
    told = await story(run_command, "k-1", code=0)
    found = steps(told)
    assert found["committed"]["at"] is None
    assert "trimmed" in found["outboxed"]["detail"]
    assert found["projected"]["state"] == "yes"
    assert told["searched"].startswith("a1, "), "the key tables named the device, and its age did not matter"

    async with Redis.from_url(redis_url) as redis:
        await redis.hset("projector:epoch", "unfinished", "1")
        told = await story(run_command, "k-1", code=1)
        assert "a rebuild is putting the views in place" in steps(told)["projected"]["detail"]
        await redis.hdel("projector:epoch", "unfinished")
        await redis.rename("device:stats:a1", "elsewhere")
        told = await story(run_command, "k-1", code=1)
        assert (told["verdict"], steps(told)["projected"]["state"]) == ("not_projected", "unknown")
        await redis.rename("elsewhere", "device:stats:a1")

    await connection.execute("TRUNCATE message_keys_0, message_keys_1")
    late = await finished(run_command, "k-1", code=1)
    assert "looking through everybody's measurements since" in late.output[0]
    assert "NEVER_SEEN" in "\n".join(late.stdout)
    told = await story(run_command, "k-1", "--since", "2026-01-01", code=0)
    assert "beyond the dedup window" in steps(told)["repeats"]["detail"]
    assert (await story(run_command, "k-1", "--device", "a1", code=1))["verdict"] == "never_seen"
    made_here = await connection.fetchval(
        "SELECT message_key FROM measurements WHERE message_key LIKE 'auto:%'"
    )
    assert (await story(run_command, made_here, "--device", "a1", code=0))["messages"][0]["ts"][:19] == OLD[
        :19
    ]


async def test_views_that_are_gone_as_well(
    run_command: Run,
    gateway: RunningCommand,
    projector: RunningCommand,
    connection: asyncpg.Connection[asyncpg.Record],
    redis_url: str,
    broker_port: int,
    topic_prefix: str,
) -> None:
    """Without its outbox row a message is in the views only if these are there, and the row had its time."""
    await publish(broker_port, [(f"{topic_prefix}/a1/telemetry", message("k-1", x=1))])
    await projector.event("run_applied")
    assert await gateway.terminate() == 0
    assert await projector.terminate() == 0
    await connection.execute("UPDATE outbox SET created_at = '2026-01-01Z', payload = '[]'")  # an older row
    found = steps(await story(run_command, "k-1", code=1))
    assert "too young to have been trimmed" in found["outboxed"]["detail"]
    assert (found["projected"]["state"], "projector verify" in found["projected"]["detail"]) == (
        "unknown",
        True,
    )

    await connection.execute("DELETE FROM outbox")
    assert "too young" in steps(await story(run_command, "k-1", code=1))["outboxed"]["detail"]
    await connection.execute("UPDATE measurements SET received_at = received_at - interval '61 minutes'")
    found = steps(await story(run_command, "k-1", code=0))
    assert "trimmed; device:stats:a1 last changed" in found["projected"]["detail"]
    assert found["published"]["state"] == "unknown"
    async with Redis.from_url(redis_url) as redis:
        await redis.delete("device:stats:a1")
        await redis.hset("projector:expired", "a1", "{}")
        found = steps(await story(run_command, "k-1", code=0))
        assert found["projected"]["detail"] == "its device has left the views since: silent for too long"
        await redis.flushdb()
    told = await story(run_command, "k-1", code=1)
    assert (told["verdict"], steps(told)["projected"]["state"]) == ("not_projected", "unknown")
    assert told["why"] == (
        "stored, and not known to be projected: "
        "its outbox row is not there, and the view device:stats:a1 is empty"
    )


async def test_a_replayed_message(
    run_command: Run, gateway: RunningCommand, broker_port: int, topic_prefix: str
) -> None:
    """A dead letter that was replayed is told with the measurement that it became, which nobody published."""
    await publish(broker_port, [(f"{topic_prefix}/a1/telemetry", message("k-1", x=1, note="y" * 100))])
    await gateway.event("message_rejected", reason="payload_too_large")
    replay = await run_command("gateway", "dead-letters", "replay")
    assert await replay.exit_code() == 0, replay.output
    told = await story(run_command, "k-1", code=1)
    (letter,) = told["dead_letters"]
    assert letter["replayed_at"]
    found = steps(told)
    assert found["outboxed"]["detail"] == f"stream {REPLAY_STREAM} row 1"
    assert (found["published"]["state"], found["published"]["detail"][:12]) == ("no", "replays are ")
    assert found["projected"]["detail"].startswith("no projector has come by yet")
    assert await gateway.terminate() == 0


async def test_servers_away(
    run_command: Run,
    gateway: RunningCommand,
    projector: RunningCommand,
    redis_url: str,
    broker_port: int,
    topic_prefix: str,
) -> None:
    """Without Redis the projector's own reports count; other views than PostgreSQL's are noticed."""
    await publish(broker_port, [(f"{topic_prefix}/a1/telemetry", message("k-1", x=1))])
    await projector.event("run_applied")
    assert await gateway.terminate() == 0
    assert await projector.terminate() == 0
    told = await story(run_command, "k-1", code=0, EDGE_REDIS_URL="redis://127.0.0.1:9/0")
    assert "refused" in told["redis_away"].lower() or "111" in told["redis_away"]
    assert "as reported" in steps(told)["projected"]["detail"]
    async with Redis.from_url(redis_url) as redis:
        await redis.hset("projector:epoch", "0", "00000000-0000-4000-8000-000000000000")
        told = await story(run_command, "k-1", code=1)
        assert "another history of stream 0" in steps(told)["projected"]["detail"]
        await redis.hset("projector:epoch", "unfinished", "1")
        told = await story(run_command, "k-1", code=1)
        assert "a rebuild is putting the views in place" in steps(told)["projected"]["detail"]
        await redis.flushdb()
    assert (await story(run_command, "k-1", code=1))["verdict"] == "not_projected"
    away = await finished(
        run_command, "k-1", code=1, EDGE_POSTGRES_DSN="postgresql://nobody@127.0.0.1:9/none"
    )
    assert "error: postgres: 127.0.0.1:9" in away.output[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["k", "--since", "soon"], "neither a time"),
        ([""], "is empty"),
        ([], "MESSAGE-KEY"),
        (["k", "--devise", "a"], "--device"),
    ],
)
async def test_wrong_usage(run_command: Run, arguments: list[str], said: str) -> None:
    """It is refused with exit code 2 and what would be right."""
    command = await finished(run_command, *arguments, code=2)
    assert said in "\n".join(command.output)
