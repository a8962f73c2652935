"""`gateway devices`, and what the registry makes of messages: in real processes."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import asyncpg
import httpx
import pytest
from redis.asyncio import Redis

from tests.support.devices import publish

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

    Run = Callable[..., Awaitable[RunningCommand]]

HOLD = {"EDGE_GATEWAY_UNKNOWN_DEVICES": "hold"}


class Door:
    """A gateway that holds whom it does not know, and those who send to it."""

    def __init__(self, run: Run, settings: Settings, connection: Any, port: int, prefix: str) -> None:  # noqa: ANN401  # asyncpg's
        self._run = run
        self._settings = settings
        self.connection = connection
        self._port = port
        self._prefix = prefix
        self._sent = 0

    async def gateway(self) -> RunningCommand:
        """A connected gateway."""
        gateway = await self._run("gateway", "run", **HOLD)
        await gateway.event("connected", client_id=self._settings.broker.client_id)
        return gateway

    async def send(self, device_id: str, times: int = 1) -> None:
        """A device sends messages, each with its number."""
        topic = f"{self._prefix}/{device_id}/telemetry"
        messages = [
            json.dumps({"id": f"m{self._sent + n}", "n": self._sent + n}).encode() for n in range(times)
        ]
        self._sent += times
        await publish(self._port, [(topic, message) for message in messages])

    async def command(self, *words: str, code: int = 0, **environ: str) -> list[str]:
        """Run `gateway devices …` to its end; returns what it wrote."""
        command = await self._run("gateway", "devices", *words, **HOLD, **environ)
        assert await command.exit_code() == code, command.output
        return command.stdout if code == 0 else command.output

    async def until(self, device_id: str, query: str) -> None:
        """A device sends until a query gives something that is not 0."""
        async with asyncio.timeout(30):
            while not await self.connection.fetchval(query):
                await self.send(device_id)

    async def rows(self, query: str, wanted: object) -> None:
        """Wait until a query gives this."""
        async with asyncio.timeout(30):
            while (found := await self.connection.fetchval(query)) != wanted:
                pass
        assert found == wanted


@pytest.fixture
async def door(
    run_command: Run, settings: Settings, broker_port: int, topic_prefix: str
) -> AsyncIterator[Door]:
    """A site without a gateway yet; its database is migrated."""
    connection = await asyncpg.connect(settings.postgres.dsn)
    yield Door(run_command, settings, connection, broker_port, topic_prefix)
    await connection.close()


LETTERS = "SELECT count(*) FROM dead_letters"
WAITING = "SELECT count(*) FROM dead_letters WHERE replayed_at IS NULL"
STORED = (
    "SELECT string_agg(metrics ->> 'n', ' ' ORDER BY received_at) FROM measurements WHERE device_id = 'a1'"
)


async def test_what_was_held_is_stored_when_its_device_is_added(door: Door) -> None:
    """Each once, in order of arrival, beside a gateway that goes on; the log shows the device once."""
    gateway = await door.gateway()
    await door.send("a1", 3)
    await door.send("b1")
    refused = await gateway.event("device_refused", device="a1", reason="unknown_device")
    assert refused["mend"] == "gateway devices set a1"
    await door.rows(LETTERS, 4)
    listed = [json.loads(line) for line in await door.command("list", "--json", "--state", "unknown")]
    assert [(each["device_id"], each["held"]) for each in listed] == [("a1", 3), ("b1", 1)]

    added = await door.command(
        "set", "a1", "--name", "Pump 3", "--label", "site=north", "--expected-every", "15m"
    )
    assert added == [
        "1 device: 1 added, 0 changed",
        "3 held messages replayed: 3 readings stored, 0 were there already",
    ]
    assert await door.connection.fetchval(STORED) == "0 1 2"
    await door.rows("SELECT last_seen IS NOT NULL FROM devices WHERE device_id = 'a1'", True)  # noqa: FBT003  # a value
    await door.send("a1", 2)
    await door.rows(STORED, "0 1 2 4 5")
    await door.rows(WAITING, 1)

    assert await gateway.terminate() == 0
    line = gateway.stdout[-1]
    books = dict(word.split("=") for word in line.split())
    assert int(books["received"]) == sum(
        int(books[each]) for each in ("committed", "duplicate", "dead_lettered", "in_flight")
    )
    assert len([each for each in gateway.events if each.get("device") == "a1"]) == 1


async def test_who_is_blocked_is_refused_until_unblocked(door: Door) -> None:
    """A running gateway knows it within seconds, both ways; what it refused is there to be replayed."""
    await door.gateway()
    await door.command("set", "a1")
    await door.send("a1")
    await door.rows(STORED, "0")
    assert await door.command("block", "a1") == ["1 device: 0 added, 1 changed"]
    await door.until("a1", f"{LETTERS} WHERE reason = 'device_blocked'")
    said = await door.command("unblock", "a1")
    assert said[1].endswith(
        "`gateway dead-letters replay --reason device_blocked`, with --device those of one"
    )
    before = await door.connection.fetchval("SELECT count(*) FROM measurements")
    await door.until("a1", f"SELECT count(*) > {before} FROM measurements")  # noqa: S608  # a number


async def test_what_was_changed_is_said_whatever_comes_after(
    door: Door, settings: Settings, unique: str
) -> None:
    """Also by who may not read what is held."""
    await door.connection.execute(
        f"CREATE ROLE {unique} LOGIN; GRANT SELECT, INSERT, UPDATE ON devices TO {unique}"
    )
    dsn = settings.postgres.dsn.replace("postgres@", f"{unique}@")
    said = await door.command("set", "a1", code=1, EDGE_POSTGRES_DSN=dsn)
    assert "1 device: 1 added, 0 changed" in said
    assert any("permission denied for table dead_letters" in line for line in said)
    assert await door.command("block", "a1", EDGE_POSTGRES_DSN=dsn) == ["1 device: 0 added, 1 changed"]
    await door.connection.execute(f"DROP OWNED BY {unique}; DROP ROLE {unique}")


async def test_what_is_exported_is_what_was_imported(door: Door, tmp_path: Path) -> None:
    """Whatever devices are called; and importing it again changes nothing."""
    written = tmp_path / "devices.csv"
    written.write_text(
        "device_id,name,state,expected_every,labels\r\n"
        "'-7,'=1+1;'=2,blocked,36h,\r\n"
        'a1,"Kühlung, Süd ""2""",active,15m,"{""line"":""3"",""site"":""<b>north</b>""}"\r\n'
        "b1,,unknown,,\r\n",
        encoding="utf-8",
        newline="",
    )
    assert await door.command("import", str(written)) == ["3 devices: 3 added, 0 changed"]
    exported = [line.rstrip("\r") for line in await door.command("export")]
    assert exported == written.read_text(encoding="utf-8").splitlines()
    assert await door.connection.fetchval("SELECT name FROM devices WHERE device_id = '-7'") == "=1+1;=2"
    assert await door.command("import", str(written)) == ["3 devices: 0 added, 0 changed, 3 as they were"]


async def test_a_file_with_a_wrong_row_changes_nothing(door: Door, tmp_path: Path) -> None:
    """Each wrong row is named, and the exit code is that of wrong usage."""
    wrong = tmp_path / "devices.csv"
    wrong.write_text("device_id,name,expected_every\na1,Pump,15m\nb#1,,\na1,,soon\n", encoding="utf-8")
    said = await door.command("import", str(wrong), code=2)
    assert said == [
        f"error: {wrong}: row 3: device id 'b#1' has one of + # in it",
        f'error: {wrong}: row 4: expected_every \'soon\': expected a duration such as "90s", "15m" or "1d"',
        "error: nothing was changed",
    ]
    assert await door.connection.fetchval("SELECT count(*) FROM devices") == 0
    assert (await door.command("set", "a//1", code=2))[-1].endswith("has nothing on one side of a /")
    assert await door.command("list") == ["no devices"]


async def test_what_people_say_is_shown_wherever_devices_are(
    door: Door, run_command: Run, settings: Settings
) -> None:
    """By a projector that runs, in what it answers and on terminals; who never sent is said to be so."""
    gateway = await run_command("gateway", "run")
    await gateway.event("connected", client_id=settings.broker.client_id)
    projector = await run_command("projector", "run", "--log-level", "debug")
    await projector.event("watch_begins")
    await projector.event("connected")
    await door.send("a1")
    await projector.event("run_applied")
    await door.rows("SELECT count(*) FROM devices", 1)
    await door.command("set", "a1", "--name", "Pump 3", "--label", "site=north", "--expected-every", "15m")
    await door.command("set", "z9", "--name", "Spare")

    async def answer(path: str) -> Any:  # noqa: ANN401  # JSON
        async with httpx.AsyncClient(trust_env=False) as http:
            return (await http.get(f"http://{settings.projector.http}{path}")).json()

    async with asyncio.timeout(20):
        while (await answer("/lag"))["devices"]["never_heard"] != 1:
            pass
    (listed,) = (await answer("/devices"))["devices"]
    said = {name: listed[name] for name in ("name", "labels", "expected_seconds", "blocked")}
    assert said == {"name": "Pump 3", "labels": {"site": "north"}, "expected_seconds": 900, "blocked": False}
    assert (await answer("/devices/a1/stats"))["name"] == "Pump 3"
    unheard = (await answer("/devices/z9/stats"))["detail"]
    assert unheard == "device 'z9', 'Spare' is in the registry and was never heard"

    async def finished(*words: str) -> list[Any]:
        command = await run_command("projector", *words)
        assert await command.exit_code() == 0, command.output
        return [json.loads(line) for line in command.stdout]

    a1, z9 = await finished("devices", "list", "--json")
    assert (a1["name"], a1["labels"], a1["expected_seconds"]) == ("Pump 3", {"site": "north"}, 900)
    assert (z9["state"], z9["name"], z9["clock"]) == ("never-heard", "Spare", None)
    assert [
        each["device_id"] for each in await finished("devices", "list", "--json", "--state", "never-heard")
    ] == ["z9"]
    async with Redis.from_url(settings.redis.url) as redis:
        async with asyncio.timeout(20):
            while await redis.hlen("projector:names") != 2:
                pass
    (picture,) = await finished("top", "--once", "--json")
    (line,) = picture["listed"]
    assert (line["name"], line["expected_seconds"], picture["never_heard"]) == ("Pump 3", 900, 1)
