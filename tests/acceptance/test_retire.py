"""`gateway retire`, on a real broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg

from tests.support.devices import publish

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

    Run = Callable[..., Awaitable[RunningCommand]]


async def test_a_session_left_behind_is_ended(
    run_command: Run, settings: Settings, broker_port: int, topic_prefix: str
) -> None:
    """It is refused while that gateway runs, and told of after; then what waited is gone with the session."""
    name = settings.broker.client_id
    gateway = await run_command("gateway", "run", "--log-level", "debug")
    await gateway.event("subscriptions_remembered")
    refused = await run_command("gateway", "retire", name)
    assert await refused.exit_code() == 1
    assert f"a gateway runs as {name}" in "\n".join(refused.output)
    assert await gateway.terminate() == 0
    await publish(broker_port, [(f"{topic_prefix}/a/telemetry", b'{"id": "1", "t": 1}')])
    renamed = await run_command("gateway", "run", EDGE_BROKER_CLIENT_ID=f"{name}-2")
    assert (await renamed.event("gateway_started"))["retention"] == "for ever"
    assert (await renamed.event("sessions_abandoned"))["client_ids"] == [name]
    assert await renamed.terminate() == 0
    retired = await run_command("gateway", "retire", name)
    assert await retired.exit_code() == 0, retired.output
    assert retired.stdout == [f"{name} has no session any more"]
    connection = await asyncpg.connect(settings.postgres.dsn)
    left = await connection.fetch("SELECT DISTINCT client_id FROM subscriptions")
    assert [row["client_id"] for row in left] == [f"{name}-2"]
    await connection.close()
    again = await run_command("gateway", "run", "--log-level", "debug")
    told = await again.event("connected", client_id=name)
    assert told["session_present"] is False
    assert await again.terminate() == 0
