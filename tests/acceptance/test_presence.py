"""Whether a device is online is one answer, wherever it is asked for."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import asyncpg
import httpx
import pytest
from redis.asyncio import Redis

from contract.events import format_time
from tests.support.devices import publish

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

WILLS = ("plug", "gone", "back")


async def test_all_who_are_asked_agree(  # noqa: PLR0915  # all of them
    run_command: Callable[..., Awaitable[RunningCommand]], settings: Settings, broker_port: int, unique: str
) -> None:
    """Wills, births and a reading after a will: PostgreSQL, hash, API, page, top, list and verification."""
    prefix = f"{unique}/"
    routes = json.dumps([{"dialect": "tasmota", "prefix": prefix}])
    gateway = await run_command("gateway", "run", EDGE_ROUTE=routes)
    await gateway.event("connected", client_id=settings.broker.client_id)
    projector = await run_command("projector", "run")
    await projector.event("watch_begins")
    await projector.event("connected")

    def said(device: str, word: str) -> tuple[str, bytes]:
        return f"{prefix}tele/{device}/LWT", word.encode()

    def sent(device: str) -> tuple[str, bytes]:
        return f"{prefix}tele/{device}/STATE", b'{"Uptime": "0T00:00:10"}'

    await publish(broker_port, [said(device, "Online") for device in WILLS] + [sent("mute")], retain=True)
    await publish(broker_port, [said("gone", "Offline"), said("gone", "Offline"), said("back", "Offline")])
    await publish(broker_port, [sent("back"), sent("plug"), said("plug", "offline?")])

    expected = {"plug": True, "gone": False, "back": True, "mute": None}
    async with (
        asyncpg.create_pool(settings.postgres.dsn, min_size=1, max_size=1) as pool,
        Redis.from_url(settings.redis.url, decode_responses=True) as redis,
        httpx.AsyncClient(base_url=f"http://{settings.projector.http}", trust_env=False) as http,
        asyncio.timeout(30),
    ):
        line = 'projector_devices{region="(none)",state="offline"} 1.0'
        while line not in (await http.get("/metrics")).text:  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(0.1)
        while await pool.fetchval("SELECT count(*) FROM dead_letters") < 1:  # noqa: ASYNC110  # a table
            await asyncio.sleep(0.1)
        assert await pool.fetchval("SELECT reason FROM dead_letters") == "unknown_presence"
        while len(rows := await pool.fetch("SELECT * FROM devices")) < len(expected):  # noqa: ASYNC110  # a table
            await asyncio.sleep(0.1)
        since = {row["device_id"]: row["online_since"] for row in rows}
        assert {row["device_id"]: row["online"] for row in rows} == expected
        went = (
            "SELECT min(received_at) FROM measurements WHERE device_id = 'gone' AND metrics->>'online' = $1"
        )
        first = await pool.fetchval(went, "false")
        assert since["gone"] == first, "a repeat moves nothing"
        in_views = {
            device: None if online is None else str(online).lower() for device, online in expected.items()
        }
        hashes: dict[str, dict[bytes | str, bytes | str]] = {}
        while {device: each.get("online") for device, each in hashes.items()} != in_views:
            await asyncio.sleep(0.05)  # the watch and the views take rows by themselves
            hashes = {device: await redis.hgetall(f"device:stats:{device}") for device in expected}
        assert hashes["gone"]["online_since"] == format_time(first)
        listed = {each["device_id"]: each for each in (await http.get("/devices")).json()["devices"]}
        assert {device: each["online"] for device, each in listed.items()} == expected
        assert {device: each["state"] for device, each in listed.items() if device != "mute"} == {
            "plug": "ok",
            "gone": "offline",
            "back": "ok",
        }
        assert listed["gone"]["online_since"] == format_time(first)
        row = (await http.get("/live/devices/gone")).json()["row"]
        assert (row["standing"], row["offline_since_ms"]) == ("offline", int(first.timestamp()) * 1000)

    top = await run_command("projector", "top", "--once", "--json")
    assert await top.exit_code() == 0, top.output
    told = json.loads(top.stdout[0])
    assert (told["offline"], told["silent"]) == (1, 0)
    assert {each["device_id"]: each["online"] for each in told["listed"]} == expected
    shown = await run_command("projector", "top", "--once")
    assert await shown.exit_code() == 0, shown.output
    assert f"offline since {first:%Y-%m-%d %H:%M}Z" in "\n".join(shown.stdout)
    listing = await run_command("projector", "devices", "list", "--state", "offline", "--json")
    assert await listing.exit_code() == 0, listing.output
    (each,) = map(json.loads, listing.stdout)
    assert (each["device_id"], each["state"], each["online"]) == ("gone", "offline", False)
    verify = await run_command("projector", "verify")
    assert await verify.exit_code() == 0, verify.output
    rebuild = await run_command("projector", "rebuild")
    assert await rebuild.exit_code() == 0, rebuild.output
    async with Redis.from_url(settings.redis.url, decode_responses=True) as redis:
        assert (await redis.hgetall("device:stats:gone"))["online_since"] == format_time(first)


@pytest.mark.parametrize("driver", ["mqtt5", "mqtt311", "aiomqtt"])
async def test_what_a_broker_had_kept_revives_nobody(
    run_command: Callable[..., Awaitable[RunningCommand]],
    database: str,
    broker_port: int,
    unique: str,
    driver: str,
) -> None:
    """A new session brings wills and last readings of devices that are gone; only a live one is a return."""
    prefix = f"{unique}/"
    will = [(f"{prefix}{device}/status", b"offline") for device in ("a", "b", "back")]
    reading = [(f"{prefix}{device}/sensor/soil/state", b"31.2") for device in ("a", "b", "back")]
    kept = [will[0], reading[0], reading[1], will[1], will[2]]
    await publish(broker_port, kept, retain=True)
    routes = json.dumps([{"dialect": "esphome", "prefix": prefix}])
    gateway = await run_command(
        "gateway", "run", "--log-level", "debug", EDGE_ROUTE=routes, EDGE_BROKER_DRIVER=driver
    )
    await gateway.event("subscriptions_remembered")
    await publish(broker_port, [reading[2]], retain=True)
    async with (
        asyncpg.create_pool(database, min_size=1, max_size=1) as pool,
        asyncio.timeout(20),
    ):
        while await pool.fetchval("SELECT count(*) FROM measurements") < len(kept) + 1:  # noqa: ASYNC110  # a table
            await asyncio.sleep(0.05)
        assert await gateway.terminate() == 0
        rows = await pool.fetch("SELECT device_id, online FROM device_presence")
    assert dict(map(tuple, rows)) == {"a": False, "b": False, "back": True}
    await publish(broker_port, [(topic, b"") for topic, _ in kept + reading[2:]], retain=True)
