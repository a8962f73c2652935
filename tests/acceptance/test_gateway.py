"""`gateway run` as a real process between real servers."""

from __future__ import annotations

import json
import re
import signal
from typing import TYPE_CHECKING

import asyncpg
import httpx
import pytest

from deploy.local import servers
from deploy.local.servers import MOSQUITTO_CONF
from deploy.local.services import LocalServices
from tests.support.devices import publish
from tests.unit.test_decode import REJECTED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

    Run = Callable[..., Awaitable[RunningCommand]]


def good(key: str, value: float = 1.0) -> bytes:
    return json.dumps({"id": key, "ts": "2025-06-01T04:00:00Z", "region": "north", "x": value}).encode()


@pytest.fixture
async def gateway(run_command: Run, settings: Settings) -> RunningCommand:
    """A gateway that is connected and subscribed."""
    process = await run_command("gateway", "run", "--log-level", "debug")
    await process.event("connected", client_id=settings.broker.client_id)
    await process.event("connected", client_id=f"{settings.broker.client_id}-relay")
    return process


async def count(dsn: str, table: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))  # noqa: S608  # a name of ours
    finally:
        await connection.close()


async def test_bad_input_disturbs_nobody(
    gateway: RunningCommand, database: str, broker_port: int, topic_prefix: str
) -> None:
    """Each kind of rubbish becomes a dead letter with its bytes; the good messages around it are stored."""
    topic = f"{topic_prefix}/a1/telemetry"
    messages = [(topic, good("first"))]
    for i, (payload, _reason) in enumerate(REJECTED.values()):
        messages += [(topic, payload), (topic, good(f"after-{i}"))]
    messages += [
        (topic, b"x" * 300_000),
        (f"{topic_prefix}//telemetry", good("k")),
        (f"{topic_prefix}/{'d' * 129}/telemetry", good("k")),
        (topic, good("first")),
        (topic, good("first", 2.0)),
    ]
    await publish(broker_port, messages)
    bad = len(REJECTED) + 4
    await gateway.total("batch_stored", len(messages), "committed", "duplicates", "dead_letters")
    assert await gateway.terminate() == 0
    line = (
        f"received={len(messages)} committed={len(REJECTED) + 1} duplicate=1 dead_lettered={bad} in_flight=0"
    )
    assert gateway.stdout[-1] == f"{line} spooled=0 projected=0"
    connection = await asyncpg.connect(database)
    kept = {bytes(row["payload"]) for row in await connection.fetch("SELECT payload FROM dead_letters")}
    reasons = {row["reason"] for row in await connection.fetch("SELECT reason FROM dead_letters")}
    assert await connection.fetchval("SELECT count(*) FROM measurements") == len(REJECTED) + 1
    await connection.close()
    assert {payload for payload, _ in REJECTED.values()} - kept == {b"[1]"}  # its element is kept instead
    assert reasons == {reason for _, reason in REJECTED.values()} | {
        "payload_too_large",
        "conflict",
        "invalid_device_id",
    }
    rejected = [event for event in gateway.events if event["event"] == "message_rejected"]
    assert all(event["dead_letter"] and event["reason"] and event["detail"] for event in rejected)


async def test_a_crash_loses_and_doubles_nothing(
    run_command: Run, settings: Settings, database: str, broker_port: int, topic_prefix: str
) -> None:
    """Killed in the middle of a load and started again, it ends with every message stored once."""
    messages = [(f"{topic_prefix}/d{i % 7}/telemetry", good(str(i))) for i in range(3000)]
    for part in range(3):
        process = await run_command(
            "gateway",
            "run",
            "--log-level",
            "debug",
            EDGE_GATEWAY_BATCH_MESSAGES="50",
            EDGE_BROKER_RECEIVE_MAXIMUM="200",
        )
        await process.event("connected", client_id=settings.broker.client_id)
        await publish(broker_port, messages[part * 1000 : (part + 1) * 1000])
        await process.event("batch_stored", skip=3)
        await process.kill()
    last = await run_command("gateway", "run", "--log-level", "debug")
    await last.event("connected", client_id=settings.broker.client_id, session_present=True)
    seen = 0
    while await count(database, "measurements") < len(messages):
        await last.event("batch_stored", skip=seen)
        seen += 1
    assert await last.terminate() == 0
    assert await count(database, "measurements") == len(messages)
    connection = await asyncpg.connect(database)
    assert (
        await connection.fetchval("SELECT count(DISTINCT (device_id, message_key)) FROM measurements") == 3000
    )
    assert await connection.fetchval("SELECT sum(events) FROM outbox") == 3000
    await connection.close()


@pytest.mark.parametrize("driver", ["mqtt5", "mqtt311", "aiomqtt"])
async def test_retained_messages_are_not_stored_again(
    run_command: Run, broker_port: int, topic_prefix: str, driver: str
) -> None:
    """A restart with a live session does not take retained messages again, keyed or not."""
    topic = f"{topic_prefix}/a1/telemetry"
    lines = []
    for payload in (b'{"x":1}', good("next")):
        gateway = await run_command("gateway", "run", "--log-level", "debug", EDGE_BROKER_DRIVER=driver)
        await gateway.event("subscriptions_remembered")
        await publish(broker_port, [(topic, payload)], retain=payload == b'{"x":1}')
        await gateway.event("batch_stored", committed=1)
        assert await gateway.terminate() == 0
        lines.append(gateway.stdout[-1])
    assert all(line.startswith("received=1 committed=1 ") for line in lines)
    await publish(broker_port, [(topic, b"")], retain=True)


async def test_a_filter_taken_out_of_the_configuration_is_unsubscribed(
    settings: Settings, run_command: Run, broker_port: int, topic_prefix: str
) -> None:
    """A session that outlives a changed configuration brings nothing of the old filters any more."""
    old, new = f"{topic_prefix}/a1/telemetry", f"{topic_prefix}/a1/other"
    route = f'[{{"topic": "{topic_prefix}/{{device_id}}/other"}}]'
    first = await run_command("gateway", "run", "--log-level", "debug")
    await first.event("subscriptions_remembered")
    assert await first.terminate() == 0
    second = await run_command("gateway", "run", "--log-level", "debug", EDGE_ROUTE=route)
    await second.event("connected", client_id=settings.broker.client_id, session_present=True)
    await publish(broker_port, [(old, good("1")), (new, good("2"))])
    await second.event("batch_stored", committed=1)
    assert await second.terminate() == 0
    assert second.stdout[-1].startswith("received=1 committed=1 ")


async def test_a_second_gateway_with_the_stream_is_refused(gateway: RunningCommand, run_command: Run) -> None:
    """It leaves with exit code 1 and says who holds the stream and what to change."""
    second = await run_command(
        "gateway", "run", EDGE_BROKER_CLIENT_ID="other", EDGE_GATEWAY_HTTP="127.0.0.1:0"
    )
    assert await second.exit_code() == 1
    stopped = await second.event("stopped")
    assert "stream 0 is held by" in stopped["reason"]
    assert "gateway.stream" in stopped["reason"]
    assert await gateway.terminate() == 0


async def test_what_the_broker_drops_is_a_metric(
    run_command: Run, settings: Settings, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker with too small a queue acknowledges and drops; its own count of that is told and a metric."""
    small = re.sub(
        r"(?m)^max_(inflight|queued)_messages .*", r"max_\1_messages 1", MOSQUITTO_CONF.read_text()
    )
    (tmp_path / "small.conf").write_text(small.replace("sys_interval 5", "sys_interval 1"))
    monkeypatch.setattr(servers, "MOSQUITTO_CONF", tmp_path / "small.conf")
    async with LocalServices(["mosquitto"], environ={}) as own, httpx.AsyncClient() as client:
        port = {"EDGE_BROKER_PORT": str(own.mqtt_port), "EDGE_BROKER_RECEIVE_MAXIMUM": "1"}
        gateway = await run_command("gateway", "run", **port)
        for client_id in (settings.broker.client_id, f"{settings.broker.client_id}-watch"):
            await gateway.event("connected", client_id=client_id)
        gateway.signal(signal.SIGSTOP)
        await publish(own.mqtt_port, [(f"{topic_prefix}/a/telemetry", good(str(i))) for i in range(50)])
        gateway.signal(signal.SIGCONT)
        told = await gateway.event("broker_dropped_messages")
        metrics = (await client.get(f"http://{settings.gateway.http}/metrics")).text
        assert f"gateway_broker_dropped_messages_total {told['since_its_start']}.0" in metrics
        assert await gateway.terminate() == 0


async def test_absent_servers_are_waited_for(run_command: Run, settings: Settings) -> None:
    """Without PostgreSQL, then without a broker, it lives, says what it waits for, and then is ready."""
    url = f"http://{settings.gateway.http}"
    async with LocalServices(environ={}) as own, httpx.AsyncClient() as client:
        await own.postgres.stop()
        await own.mosquitto.stop()
        gateway = await run_command("gateway", "run", **own.environment())
        waiting = await gateway.event("waiting", what="postgres")
        assert "refused" in waiting["reason"]
        assert (await client.get(f"{url}/healthz")).status_code == 200
        ready = await client.get(f"{url}/readyz")
        assert ready.status_code == 503
        assert "postgres" in ready.json()["reasons"]
        await own.postgres.start()
        await gateway.event("gateway_started")
        reasons = (await client.get(f"{url}/readyz")).json()["reasons"]
        assert "broker" in reasons
        await own.mosquitto.start()
        await gateway.event("connected", client_id=settings.broker.client_id)
        await gateway.event("connected", client_id=f"{settings.broker.client_id}-relay")
        assert (await client.get(f"{url}/readyz")).status_code == 200
        assert "gateway_in_flight 0.0" in (await client.get(f"{url}/metrics")).text
        assert await gateway.terminate() == 0


async def test_a_stop_while_waiting(run_command: Run) -> None:
    """A gateway that has nothing to wait for any more leaves at the first signal."""
    gateway = await run_command("gateway", "run", EDGE_POSTGRES_DSN="postgresql://nobody@127.0.0.1:9/none")
    await gateway.event("waiting", what="postgres")
    gateway.signal(signal.SIGINT)
    assert await gateway.exit_code() == 0


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("EDGE_BROKER_PORT", "http", "broker.port"),
        ("EDGE_GATEWAY_BATCH_MESAGES", "10", "EDGE_GATEWAY_BATCH_MESSAGES"),
        ("EDGE_CONFIG", "/nowhere/edge.toml", "/nowhere/edge.toml"),
    ],
)
async def test_wrong_configuration(run_command: Run, variable: str, value: str, said: str) -> None:
    """It is refused at start with exit code 2, the key and the reason on stderr."""
    gateway = await run_command("gateway", "run", **{variable: value})
    assert await gateway.exit_code() == 2
    assert said in "\n".join(gateway.output)
    assert gateway.stdout == []
