"""`projector devices`: what people say of devices, in real processes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import httpx
import pytest
from redis.asyncio import Redis

from contract.changes import decode_change
from contract.topics import devices_topic
from runtime.mqtt import MqttSession, Subscription, options_from
from tests.support.devices import publish
from tests.support.silent import leave_silent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from contract.changes import DeviceChange
    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

    Run = Callable[..., Awaitable[RunningCommand]]

SECOND = {"EDGE_PROJECTOR_HTTP": "127.0.0.1:0"}


class Plant:
    """A gateway, its devices, and what is told of them."""

    def __init__(self, run: Run, settings: Settings, session: MqttSession, port: int, prefix: str) -> None:
        self._run = run
        self._settings = settings
        self._session = session
        self._port = port
        self._prefix = prefix

    async def send(self, *ids: str, region: str = "north") -> None:
        """Each of these devices sends a message."""
        message = json.dumps({"region": region, "x": 1}).encode()
        await publish(self._port, [(f"{self._prefix}/{id_}/telemetry", message) for id_ in ids])

    async def command(self, *words: str, code: int = 0) -> list[str]:
        """Run `projector devices …` to its end; returns what it wrote."""
        command = await self._run("projector", "devices", *words)
        assert await command.exit_code() == code, command.output
        return command.output

    async def listed(self, *words: str) -> list[dict[str, Any]]:
        """What `projector devices list` says."""
        return [json.loads(line) for line in await self.command("list", "--json", *words)]

    async def told(self) -> DeviceChange:
        """Wait for the next message on the topic of devices."""
        async with asyncio.timeout(20):
            chunk = await self._session.receive()
        (delivery,) = chunk.deliveries
        chunk.ack()
        return decode_change(delivery.payload)

    async def answer(self, path: str) -> Any:  # noqa: ANN401  # JSON
        """What a projector answers."""
        async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(20):
            while (answer := await http.get(f"http://{self._settings.projector.http}{path}")).is_server_error:
                pass  # the views are not whole yet
            return answer.json()

    async def metric(self, line: str) -> None:
        """Wait until a projector's metrics have a line."""
        async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(20):
            while line not in (await http.get(f"http://{self._settings.projector.http}/metrics")).text:
                pass


@pytest.fixture
async def plant(
    run_command: Run, settings: Settings, broker_port: int, topic_prefix: str
) -> AsyncIterator[Plant]:
    """A plant whose gateway is connected."""
    broker = settings.events_broker(f"{settings.broker.client_id}-hears")
    subscription = Subscription(devices_topic(settings.events.topic))
    options = options_from(broker, subscriptions=[subscription], clean_start=True)
    gateway = await run_command("gateway", "run")
    await gateway.event("connected", client_id=settings.broker.client_id)
    async with MqttSession(options) as session:
        await session.connected()
        yield Plant(run_command, settings, session, broker_port, topic_prefix)


async def known(settings: Settings, many: int) -> None:
    """Wait until so many devices are in PostgreSQL, which notes them beside the path."""
    connection = await asyncpg.connect(settings.postgres.dsn)
    async with asyncio.timeout(20):
        while await connection.fetchval("SELECT count(*) FROM devices") < many:
            pass
    await connection.close()


async def test_a_mute_from_its_word_to_its_end(plant: Plant, run_command: Run, settings: Settings) -> None:
    """Two projectors tell once; it is a state everywhere, and a restart and an empty Redis end nothing."""
    await plant.send("lost", "fine")
    await known(settings, 2)
    await leave_silent({"lost": 20}, postgres_dsn=settings.postgres.dsn, redis_url=settings.redis.url)
    running = [await run_command("projector", "run", **each) for each in ({}, SECOND)]
    for each in running:
        await each.event("watch_begins", silent=1)
    (lost,) = await plant.listed("--state", "silent")
    assert (lost["device_id"], lost["region"], lost["clock"]) == ("lost", "north", "right")

    words = ("mute", "lost", "--for", "2h", "--reason", "new battery", "--by", "ann", "--json")
    (said,) = map(json.loads, await plant.command(*words))
    change = await plant.told()
    assert (change.device_id, change.state, change.by) == ("lost", "muted", "ann")
    assert change.until is not None
    until = datetime.fromisoformat(change.until)
    assert datetime.fromisoformat(said["until"]) == until
    assert timedelta(minutes=119) < until - datetime.now(UTC) <= timedelta(hours=2)
    lines = [line for each in running for line in each.events if line["event"] == "device_muted"]
    assert [line["device"] for line in lines] == ["lost"]
    await plant.metric('projector_devices{region="north",state="muted"} 1.0')
    await plant.metric('projector_devices{region="north",state="silent"} 0.0')
    for _ in range(2):
        answer = await plant.answer("/devices/lost/stats")
        assert answer["state"] == "muted"
        assert answer["care"] == {
            "since": change.at,
            "until": change.until,
            "by": "ann",
            "reason": "new battery",
        }
        row = (await plant.answer("/live/device?id=lost"))["row"]
        assert (row["standing"], row["care"]) == ("muted", "ann: new battery")
        assert (await plant.answer("/lag"))["devices"]["muted"] == 1
        (listed,) = await plant.listed("--state", "muted")
        assert (listed["by"], listed["until"]) == ("ann", said["until"])
        for each in running:
            assert await each.terminate() == 0
        async with Redis.from_url(settings.redis.url) as redis:
            await redis.flushdb()
        running = [await run_command("projector", "run")]
        await running[0].event("watch_begins")
        await running[0].event("connected")

    assert await plant.command("unmute", "lost", "--by", "bob") == ["1 device unmuted"]
    change = await plant.told()
    assert (change.device_id, change.state, change.by, change.until) == ("lost", "unmuted", "bob", None)
    assert await plant.command("unmute", "lost") == ["0 devices unmuted", "1 already so, or never otherwise"]


async def test_a_retired_device_is_back_when_it_sends(
    plant: Plant, run_command: Run, settings: Settings
) -> None:
    """It is in no list and no count; what it sent stays, and with its next message it is in service again."""
    await plant.send("old", "fine")
    await known(settings, 2)
    projector = await run_command("projector", "run", "--log-level", "debug")
    await projector.event("watch_begins")
    await projector.event("connected")
    assert await plant.command("retire", "old", "--by", "ann") == ["1 device retired"]
    assert await plant.command("retire", "old") == ["0 devices retired", "1 already so, or never otherwise"]
    change = await plant.told()
    assert (change.device_id, change.state, change.by, change.reason) == ("old", "retired", "ann", None)
    await plant.metric('projector_devices{region="north",state="retired"} 1.0')
    answer = await plant.answer("/devices/old/stats")
    assert (answer["state"], answer["sample_count"]) == ("retired", 1)
    output = await plant.command("mute", "old", "fine", "--for", "1h", code=1)
    assert output == ["error: 'old': retired, so nobody is told of it; unretire it first"]
    assert await plant.listed("--state", "muted") == []

    await plant.send("old")
    change = await plant.told()
    assert (change.device_id, change.state, change.by) == ("old", "ok", None)
    await projector.event("device_back", device="old")
    await plant.metric('projector_devices{region="north",state="retired"} 0.0')
    assert (await plant.answer("/devices/old/stats"))["state"] == "ok"
    assert await plant.listed("--state", "retired") == []


async def test_an_id_that_nobody_knows(plant: Plant, settings: Settings) -> None:
    """It is an error that says what was meant, and nothing is changed; ids come from stdin too."""
    await plant.send("pump-7", "Pump-8", "valve-1")
    await known(settings, 3)
    output = await plant.command("retire", "valve-1", "pump7", "xyz", code=1)
    meant = "'pump7', did you mean 'pump-7' or 'Pump-8'?; 'xyz'"
    assert output == [f"error: nothing has ever been stored of {meant}; nothing was changed"]
    assert await plant.listed("--state", "retired") == []
    many = [f"no-{n}" for n in range(7)]
    assert "'no-4'; and 2 more; nothing was changed" in (await plant.command("unmute", *many, code=1))[0]
    assert "no device is named" in "".join(await plant.command("retire", "-", code=2))
    for wrong in ("0s", "x", "3651d"):
        await plant.command("mute", "valve-1", "--for", wrong, code=2)


async def test_what_is_no_text_ends_in_a_line(run_command: Run) -> None:
    """Bytes that are not UTF-8, a NUL, and what is too long, wherever it stands; it is not repeated whole."""
    long = "x" * 50_000
    for words, said in (
        (("retire", "\udcff"), "is not UTF-8"),
        (("retire", "a", "--reason", "\udcff"), "is not UTF-8"),
        (("mute", "a", "--for", "1h", "--by", "\udcff"), "is not UTF-8"),
        (("list", "--prefix", "\udcff"), "is not UTF-8"),
        (("list", "--region", "\udcff"), "is not UTF-8"),
        (("retire", long), "has more than 500 characters"),
        (("retire", "a", "--reason", long), "has more than 500 characters"),
    ):
        command = await run_command("projector", "devices", *words)
        assert await command.exit_code() == 2
        output = "\n".join(command.output)
        assert said in output
        assert "Traceback" not in output
        assert len(output) < 1000


def test_ids_on_stdin_that_are_no_text() -> None:
    """They are refused like those of the command line."""
    command = [sys.executable, "-m", "projector", "devices", "retire", "-"]
    for given in (b"a\xff\n", b"a\0\n"):
        with pytest.raises(subprocess.CalledProcessError) as error:
            subprocess.run(command, input=given, check=True, capture_output=True)
        assert error.value.returncode == 2
        assert b"Traceback" not in error.value.stderr


async def test_the_list(plant: Plant, settings: Settings) -> None:
    """By id, narrowed in several ways, also before anybody ever watched; with a pace where one is known."""
    await plant.send("b", "a", region="north")
    await known(settings, 2)
    pool = await asyncpg.connect(settings.postgres.dsn)
    await pool.execute("INSERT INTO devices VALUES ($1, 'south', now(), now())", "c\x1b")
    now = datetime.now(UTC)
    await pool.executemany(
        """INSERT INTO measurements (device_id, ts, received_at, region, message_key, metrics)
        VALUES ('b', $1, $1, 'north', $2, '{}')""",
        [(now - timedelta(minutes=5 * n), f"k{n}") for n in range(1, 9)],
    )
    await pool.close()
    assert [(each["device_id"], each["state"], each["usual_seconds"]) for each in await plant.listed()] == [
        ("a", "unknown", None),
        ("b", "unknown", 480),
        ("c\x1b", "unknown", None),
    ]
    async with Redis.from_url(settings.redis.url) as redis:
        await redis.hset("projector:silent", mapping={"": "1", "a": "1795945200"})
        await redis.hset("projector:clocks", mapping={"b": "1 1795945200000000", "a": "0 5", "c": "rubbish"})
    await plant.command("retire", "a")

    async def ids(*words: str) -> list[str]:
        return [each["device_id"] for each in await plant.listed(*words)]

    assert await ids("--region", "south", "--region", "west") == ["c\x1b"]
    assert await ids("--prefix", "b", "--no-pace") == ["b"]
    assert await ids("--limit", "2") == ["a", "b"]
    assert await ids("--state", "clock-wrong") == ["b"]
    assert await ids("--state", "ok", "--all") == ["b", "c\x1b"]
    assert await ids("--state", "silent") == [], "it is retired"
    lines = await plant.command("list", "--no-pace")
    assert lines[0].split("\t")[:3] == ["device", "region", "state"]
    assert lines[2].split("\t")[:6] == ["b", "north", "ok", "-", "-", "behind"]
    assert lines[3].startswith("c\\x1b\tsouth\tok")
    await plant.command("mute", "b", "--for", "1h")
    assert await ids("--state", "clock-wrong") == []
    (muted,) = await plant.listed("--state", "muted")
    assert (muted["clock"], muted["clock_since"]) == (None, None), "nothing is told of it"
    assert await plant.command("list", "--prefix", "zz") == ["no devices"]
