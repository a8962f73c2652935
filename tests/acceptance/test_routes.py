"""Routes as the broker sees them: one publish is one row, whatever routes overlap or share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.devices import publish

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.commands import RunningCommand

    Run = Callable[..., Awaitable[RunningCommand]]

# Without key and time each delivery is stored, so that nothing but the subscriptions keeps it one row.
PAYLOAD = b'{"device_id": "a", "x": 1}'


@pytest.mark.parametrize("driver", ["mqtt5", "mqtt311"])
async def test_a_covered_route_costs_no_second_row(
    run_command: Run, broker_port: int, unique: str, driver: str
) -> None:
    """A device's route beside a catch-all: one publish is one row, by either version of MQTT."""
    routes = [{"topic": f"{unique}/ov/{{device_id}}/up"}, {"topic": f"{unique}/ov/#"}]
    gateway = await run_command(
        "gateway", "run", "--log-level", "debug", EDGE_ROUTE=json.dumps(routes), EDGE_BROKER_DRIVER=driver
    )
    remembered = await gateway.event("subscriptions_remembered")
    assert remembered["filters"] == [f"{unique}/ov/#"]
    await publish(broker_port, [(f"{unique}/ov/a/up", PAYLOAD), (f"{unique}/ov/a/down", PAYLOAD)])
    await publish(broker_port, [(f"{unique}/ov/a/end", PAYLOAD)])
    await gateway.total("batch_stored", 3, "committed")
    assert await gateway.terminate() == 0
    assert gateway.stdout[-1].startswith("received=3 committed=3 ")


async def test_routes_that_overlap_in_part(run_command: Run, broker_port: int, unique: str) -> None:
    """Where neither route covers the other the copies of a message are told apart by MQTT 5."""
    routes = [{"topic": f"{unique}/+/up"}, {"topic": f"{unique}/a/+"}]
    gateway = await run_command("gateway", "run", "--log-level", "debug", EDGE_ROUTE=json.dumps(routes))
    await gateway.event("subscriptions_remembered")
    await publish(broker_port, [(f"{unique}/a/up", PAYLOAD)] * 3 + [(f"{unique}/b/up", PAYLOAD)])
    await publish(broker_port, [(f"{unique}/a/end", PAYLOAD)])
    await gateway.total("batch_stored", 5, "committed")
    assert await gateway.terminate() == 0
    assert gateway.stdout[-1].startswith("received=5 committed=5 ")


async def test_a_shared_route(run_command: Run, broker_port: int, unique: str) -> None:
    """Messages of a `$share` route match it by their own topics and are stored."""
    route = [{"topic": f"$share/edge/{unique}/{{device_id}}/up"}]
    gateway = await run_command("gateway", "run", "--log-level", "debug", EDGE_ROUTE=json.dumps(route))
    await gateway.event("subscriptions_remembered")
    await publish(broker_port, [(f"{unique}/a/up", PAYLOAD)])
    assert (await gateway.event("batch_stored"))["committed"] == 1
    assert await gateway.terminate() == 0
    assert gateway.stdout[-1].startswith("received=1 committed=1 ")
