"""Who is silent is one answer, wherever it is asked for."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import httpx

from tests.support.devices import publish
from tests.support.silent import leave_silent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from runtime.settings import Settings
    from tests.support.commands import RunningCommand


async def test_page_top_api_and_metrics_agree(
    run_command: Callable[..., Awaitable[RunningCommand]],
    settings: Settings,
    broker_port: int,
    topic_prefix: str,
) -> None:
    """Who the watch calls silent is so everywhere; who sends with a clock hours off, either way, nowhere."""
    gateway = await run_command("gateway", "run")
    await gateway.event("connected", client_id=settings.broker.client_id)
    now = datetime.now(UTC)

    async def send(device: str, at: datetime) -> None:
        message = json.dumps({"region": "north", "ts": at.isoformat(), "x": 1}).encode()
        await publish(broker_port, [(f"{topic_prefix}/{device}/telemetry", message)])

    await send("lost", now)
    await leave_silent(
        {"lost": 20}, postgres_dsn=settings.postgres.dsn, redis_url=settings.redis.url, prefix=""
    )
    projector = await run_command("projector", "run", "--log-level", "debug")
    await projector.event("watch_begins", silent=1)
    await projector.event("connected")
    for skip, (device, hours) in enumerate((("slow", -5), ("fast", 5))):
        await send(device, now + timedelta(hours=hours))
        await projector.event("run_applied", skip=skip)

    expected = {"lost": "silent", "slow": "ok", "fast": "ok"}
    async with httpx.AsyncClient(base_url=f"http://{settings.projector.http}", trust_env=False) as http:
        listed = (await http.get("/devices")).json()["devices"]
        assert {each["device_id"]: each["state"] for each in listed} == expected
        alone = {device: (await http.get(f"/devices/{device}/stats")).json() for device in expected}
        assert {device: each["state"] for device, each in alone.items()} == expected
        shown = {device: (await http.get(f"/live/devices/{device}")).json()["row"] for device in expected}
        assert {device: row["standing"] for device, row in shown.items()} == expected
        for device, row in shown.items():
            assert row["heard_ms"] == datetime.fromisoformat(alone[device]["heard_at"]).timestamp() * 1000
        while 'projector_devices{region="north",state="ok"} 2.0' not in (
            metrics := (await http.get("/metrics")).text
        ):
            pass
        assert 'projector_devices{region="north",state="silent"} 1.0' in metrics
        assert 'projector_devices{region="north",state="unknown"} 0.0' in metrics
    top = await run_command("projector", "top", "--once", "--json")
    assert await top.exit_code() == 0, top.output
    told = json.loads(top.stdout[0])
    assert told["silent"] == 1
    assert {each["device_id"]: each["silent"] for each in told["listed"]} == {
        device: state == "silent" for device, state in expected.items()
    }
