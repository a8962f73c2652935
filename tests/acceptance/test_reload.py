"""SIGHUP and `gateway reload`, on real processes."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import asyncpg
import httpx

from tests.faults.watch import until
from tests.support.devices import publish

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

    Run = Callable[..., Awaitable[RunningCommand]]


def write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def message(key: str) -> bytes:
    return json.dumps({"id": key, "ts": "2026-11-23T04:00:00Z", "t": 1}).encode()


async def test_routes_and_retention_change_without_a_restart(
    run_command: Run, settings: Settings, config_file: Path, broker_port: int, unique: str, topic_prefix: str
) -> None:
    """A new route is subscribed and the old one not any more, and what the site keeps is in force."""
    gateway = await run_command("gateway", "run", "--log-level", "debug")
    await gateway.event("connected", client_id=settings.broker.client_id)
    await publish(broker_port, [(f"{topic_prefix}/a/telemetry", message("1"))])
    await gateway.event("batch_stored")
    text = read(config_file)
    changed = text.replace(f"{topic_prefix}/{{device_id}}/telemetry", f"{unique}/other/{{device_id}}")
    changed = changed.replace("[gateway]\n", '[gateway]\nretention = "90d"\nbatch_messages = 7\n')
    write(config_file, changed)
    asking = await run_command("gateway", "reload")
    assert await asking.exit_code() == 0, asking.output
    told = await gateway.event("reloaded")
    assert (told["changed"], told["needs_restart"]) == (
        ["gateway.retention", "route"],
        ["gateway.batch_messages"],
    )
    await gateway.event("unsubscribed")
    await publish(broker_port, [(f"{unique}/other/b", message("2"))])
    await gateway.event("batch_stored", skip=1)
    connection = await asyncpg.connect(settings.postgres.dsn)
    rows = await connection.fetch("SELECT device_id FROM measurements ORDER BY 1")
    assert [row["device_id"] for row in rows] == ["a", "b"]
    await connection.close()
    assert await gateway.terminate() == 0


async def test_a_wrong_configuration_changes_nothing(
    run_command: Run, settings: Settings, config_file: Path, broker_port: int, topic_prefix: str
) -> None:
    """It is refused as a whole with its key, by the command and by the gateway, which goes on as it was."""
    gateway = await run_command("gateway", "run", "--log-level", "debug")
    await gateway.event("connected", client_id=settings.broker.client_id)
    text = read(config_file)
    wrong = text.replace("telemetry", "other").replace("[gateway]\n", '[gateway]\ndedup_window = "1ms"\n')
    write(config_file, wrong)
    asking = await run_command("gateway", "reload")
    assert await asking.exit_code() == 2
    assert "gateway.dedup_window" in "\n".join(asking.output)
    gateway.signal(signal.SIGHUP)
    told = await gateway.event("reload_refused")
    assert told["reason"].startswith('gateway.dedup_window: shorter than "1m"')
    await publish(broker_port, [(f"{topic_prefix}/a/telemetry", message("1"))])
    await gateway.event("batch_stored")
    write(config_file, text)
    assert await gateway.terminate() == 0


async def test_limits_units_and_log_level_of_a_projector(
    run_command: Run, settings: Settings, config_file: Path, broker_port: int, topic_prefix: str
) -> None:
    """They change at SIGHUP, the first as at a start; what is wrong is refused as a whole, and it goes on."""
    gateway = await run_command("gateway", "run")
    await gateway.event("connected", client_id=settings.broker.client_id)
    projector = await run_command("projector", "run")
    await projector.event("connected")
    await publish(broker_port, [(f"{topic_prefix}/a/telemetry", message("1"))])
    text = read(config_file)
    changed = text.replace("[projector]\n", '[projector]\nlog_level = "debug"\nmax_metrics = 9\n')
    write(config_file, changed + '\n[units]\nt = "°C"\n[[limit]]\nmetric = "t"\ncrit = 0.5\n')
    projector.signal(signal.SIGHUP)
    told = await projector.event("reloaded")
    assert sorted(told["changed"]) == ["limit", "projector.log_level", "units"]
    assert told["needs_restart"] == ["projector.max_metrics"]
    await projector.event("limit_crit", device="a")
    async with httpx.AsyncClient(base_url=f"http://{settings.projector.http}") as http:
        assert (await http.get("/live/site")).json()["units"] == {"t": "°C"}

        async def ask() -> str:  # all are learned with the next turn
            answer = await http.get("/limits")
            return "" if answer.status_code == 200 else answer.text

        await until(ask, within_s=20)
        assert (await http.get("/limits")).json()["limits"][0]["device_id"] == "a"
        await publish(broker_port, [(f"{topic_prefix}/a/telemetry", message("2"))])
        await projector.event("run_applied")
        write(config_file, text.replace('http = "127.0.0.1:', 'http = "0.0.0.0:'))
        projector.signal(signal.SIGHUP)
        assert "can be reached from other machines" in (await projector.event("reload_refused"))["reason"]
        write(config_file, text)
        projector.signal(signal.SIGHUP)
        await projector.event("limits_changed", limits=0)
        await projector.event("limit_ok", device="a")
        answer = (await http.get("/limits")).json()
        assert (answer["limits"], answer["counts"]) == ([], [])
    assert await projector.terminate() == 0
