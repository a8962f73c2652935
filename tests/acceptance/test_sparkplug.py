"""`gateway run` as a host application of Sparkplug B, between a real broker, PostgreSQL and edge nodes."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import aiomqtt
import asyncpg
import pytest

from tests.support.edge_node import EdgeNode, now_ms
from tests.support.sparkplug import metric, payload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

    Run = Callable[..., Awaitable[RunningCommand]]

WAIT_S = 20


@pytest.fixture
def base(config_file: Path, unique: str, topic_prefix: str) -> str:
    """Where edge nodes of the test publish; the gateway has the dialect there."""
    text = config_file.read_text(encoding="utf-8")
    before = f'topic = "{topic_prefix}/{{device_id}}/telemetry"'
    route = f'dialect = "sparkplug"\nprefix = "{unique}/"'
    assert before in text
    config_file.write_text(text.replace(before, route), encoding="utf-8")
    return f"{unique}/spBv1.0/north"


async def start(run_command: Run, settings: Settings, **environment: str) -> RunningCommand:
    """A gateway that is connected and subscribed."""
    process = await run_command("gateway", "run", "--log-level", "debug", **environment)
    await process.event("connected", client_id=settings.broker.client_id)
    return process


class Rows:
    """What a database holds, waited for."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    async def values(self, device_id: str, expected: list[tuple[str, float]]) -> None:
        """Wait until the metrics of a device, in their order of arrival, end in these."""
        query = "SELECT metrics FROM measurements WHERE device_id = $1 ORDER BY received_at"
        found: list[tuple[str, float]] = []
        connection = await asyncpg.connect(self._dsn)
        try:
            async with asyncio.timeout(WAIT_S):
                while found[-len(expected) :] != expected:
                    rows = await connection.fetch(query, device_id)
                    found = [
                        pair for (row,) in rows for pair in json.loads(row).items() if pair[0] != "online"
                    ]
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"expected {expected}, found {found}") from None
        finally:
            await connection.close()

    async def metric(self, device_id: str, name: str, value: float) -> None:
        """Wait until a value of a device is stored under a name."""
        query = "SELECT count(*) > 0 FROM measurements WHERE device_id = $1 AND (metrics->$2)::float8 = $3"
        await self.until(query, device_id, name, value, is_=True)

    async def until(self, query: str, *arguments: object, is_: object) -> None:
        """Wait until a query gives a value."""
        connection = await asyncpg.connect(self._dsn)
        found = None
        try:
            async with asyncio.timeout(WAIT_S):
                while (found := await connection.fetchval(query, *arguments)) != is_:  # noqa: ASYNC110  # a table
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"expected {is_!r}, found {found!r}") from None
        finally:
            await connection.close()

    async def online(self, device_id: str, *, is_: bool) -> None:
        """Wait until a device is online, or offline."""
        await self.until("SELECT online FROM devices WHERE device_id = $1", device_id, is_=is_)


async def test_a_session(
    base: str, run_command: Run, settings: Settings, database: str, broker_port: int
) -> None:
    """Births, data by aliases, a device and a death: values under their names, and who is online."""
    gateway = await start(run_command, settings)
    rows = Rows(database)
    async with EdgeNode(broker_port, base, "line-1", {"": ["Pressure"], "press": ["Speed", "Force"]}) as node:
        await node.birth()
        await node.data(4.5)
        await node.data(1475.0, "press", 0)
        await node.data(7.0, "press", 1)
        await rows.values("line-1", [("Pressure", 4.5)])
        await rows.values("line-1/press", [("Speed", 1475.0), ("Force", 7.0)])
        await rows.online("line-1", is_=True)
        await rows.online("line-1/press", is_=True)
        await node.die()
        await rows.online("line-1", is_=False)
        await rows.online("line-1/press", is_=False)
        assert node.rebirths == 0
    assert await gateway.terminate() == 0
    assert " dead_lettered=0 in_flight=0" in gateway.stdout[-1]


async def test_who_was_there_before_is_asked_once(
    base: str, run_command: Run, settings: Settings, database: str, broker_port: int
) -> None:
    """An edge node whose birth nobody heard is asked for it, and what it sent meanwhile gets its names."""
    await start(run_command, settings, EDGE_SPARKPLUG_REORDER_TIMEOUT="300ms")
    rows = Rows(database)
    async with EdgeNode(broker_port, base, "n", {"": ["a"], "d": ["b"]}) as node:
        node.seq = 17
        await node.data(1.0)
        await node.data(2.0, "d")
        await rows.values("n", [("a", 0.5), ("a", 1.0)])
        await rows.values("n/d", [("b", 0.5), ("b", 2.0)])
        await node.data(3.0)
        await rows.values("n", [("a", 3.0)])
        assert node.rebirths == 1
        await rows.until("SELECT count(*) FROM sparkplug_held", is_=0)


async def test_what_is_missing_is_asked_for(
    base: str, run_command: Run, settings: Settings, database: str, broker_port: int
) -> None:
    """After a gap in the sequence the edge node is born again, and nothing that came is lost."""
    await start(run_command, settings, EDGE_SPARKPLUG_REORDER_TIMEOUT="300ms")
    rows = Rows(database)
    async with EdgeNode(broker_port, base, "n", {"": ["a"]}) as node:
        await node.birth()
        await node.data(1.0)
        node.seq += 1
        await node.data(2.0)
        await node.asked.wait()
        await rows.values("n", [("a", 1.0), ("a", 0.5), ("a", 2.0)])


async def test_a_gateway_that_is_killed_forgets_nothing(
    base: str, run_command: Run, settings: Settings, database: str, broker_port: int
) -> None:
    """Births and what is held survive a kill: the next gateway asks for a rebirth, and gives them names."""
    first = await start(run_command, settings, EDGE_SPARKPLUG_REORDER_TIMEOUT="60s")
    rows = Rows(database)
    async with EdgeNode(broker_port, base, "n", {"": ["a"], "d": ["b"]}) as node:
        node.answers = False
        await node.birth()
        node.seq += 1
        await node.data(1.0, "d")
        await rows.until("SELECT count(*) FROM sparkplug_held", is_=1)
        await first.kill()
        node.answers = True
        await start(run_command, settings, EDGE_SPARKPLUG_REORDER_TIMEOUT="300ms")
        await node.asked.wait()
        await rows.values("n/d", [("b", 0.5), ("b", 1.0)])
        await rows.until("SELECT count(*) FROM sparkplug_held", is_=0)


async def test_never_by_another_birth(
    base: str, run_command: Run, settings: Settings, database: str, broker_port: int
) -> None:
    """What came while no birth was certain is not named by the next one, which says something else."""
    gateway = await start(run_command, settings)
    rows = Rows(database)
    async with EdgeNode(broker_port, base, "n", {"": ["a"], "d": ["b"]}) as node:
        await node.birth()
        await rows.values("n/d", [("b", 0.5)])
        assert await gateway.terminate() == 0
        node.answers = False
        second = await start(run_command, settings, EDGE_SPARKPLUG_REORDER_TIMEOUT="300ms")
        await node.data(1.0, "d")
        await node.asked.wait()
        await rows.until("SELECT count(*) FROM sparkplug_held", is_=1)
        node.names = {"": ["a"], "d": ["c"]}
        await node.birth()
        await second.event("message_rejected", reason="unknown_alias")
        await rows.values("n/d", [("b", 0.5), ("c", 0.5)])
        replay = await run_command("gateway", "dead-letters", "replay", "--quiet")
        assert await replay.exit_code() == 1
        assert await second.terminate() == 0
        assert " dead_lettered=1 in_flight=0" in second.stdout[-1]


async def test_a_letter_is_replayed_once_its_birth_is_known(
    base: str, run_command: Run, settings: Settings, database: str, broker_port: int
) -> None:
    """A birth that came too late for what was held names it in a replay, in the same session."""
    gateway = await start(run_command, settings)
    rows = Rows(database)
    async with EdgeNode(broker_port, base, "n", {"": ["a"]}) as node:
        await node.birth()
        await rows.values("n", [("a", 0.5)])
        assert await gateway.terminate() == 0
    connection = await asyncpg.connect(database)
    letter = payload([metric(None, 7.5, alias=0)], ts=now_ms(), seq=1)
    await connection.execute(
        "INSERT INTO dead_letters (received_at, topic, device_id, reason, error, payload)"
        " VALUES (now(), $1, 'n', 'not_born', '', $2)",
        f"{base}/NDATA/n",
        letter,
    )
    await connection.close()
    replay = await run_command("gateway", "dead-letters", "replay", "--quiet")
    assert await replay.exit_code() == 0
    await rows.values("n", [("a", 0.5), ("a", 7.5)])


async def test_the_primary_host(
    base: str, run_command: Run, settings: Settings, broker_port: int, unique: str
) -> None:
    """It says that it is online, with the timestamp of its will, when somebody denies it too, and its end."""
    topic = f"spBv1.0/STATE/{unique}"
    assert base
    async with aiomqtt.Client("127.0.0.1", broker_port) as other:
        await other.subscribe(topic, qos=1)
        heard = aiter(other.messages)

        async def state() -> dict[str, object]:
            async with asyncio.timeout(WAIT_S):
                message = await anext(heard)
            found: dict[str, object] = json.loads(message.payload)
            return found

        first = await start(run_command, settings, EDGE_SPARKPLUG_HOST_ID=unique)
        born = await state()
        assert born["online"] is True
        await other.publish(topic, json.dumps({"online": False, "timestamp": 1}), qos=1, retain=True)
        assert (await state())["online"] is False
        assert await state() == born
        await other.publish(topic, b"{}", qos=1, retain=True)
        assert await state() == {}
        assert await state() == born
        await first.kill()
        assert await state() == {"online": False, "timestamp": born["timestamp"]}
        second = await start(run_command, settings, EDGE_SPARKPLUG_HOST_ID=unique)
        again = await state()
        assert again["online"] is True
        assert await second.terminate() == 0
        while (last := await state()) == again:
            pass  # it may have heard the will of the first, and denied that
        assert last["online"] is False
        await other.publish(topic, b"", qos=1, retain=True)
