"""Two gateways that share the messages of edge nodes: what the one has heard the other goes by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from deploy.local.server import free_port
from tests.acceptance.test_sparkplug import Rows, start
from tests.support.edge_node import EdgeNode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

    Run = Callable[..., Awaitable[RunningCommand]]

ROUNDS = 12


@pytest.fixture
def base(config_file: Path, unique: str, topic_prefix: str) -> str:
    """Where edge nodes of the test publish; two gateways share what comes there."""
    text = config_file.read_text(encoding="utf-8")
    before = f'topic = "{topic_prefix}/{{device_id}}/telemetry"'
    assert before in text
    route = f'dialect = "sparkplug"\nprefix = "$share/both/{unique}/"'
    config_file.write_text(text.replace(before, route), encoding="utf-8")
    return f"{unique}/spBv1.0/north"


async def start_second(run_command: Run, unique: str) -> RunningCommand:
    """The other gateway, once it is subscribed."""
    process = await run_command(
        "gateway",
        "run",
        "--log-level",
        "debug",
        EDGE_GATEWAY_STREAM="1",
        EDGE_BROKER_CLIENT_ID=f"{unique}-second",
        EDGE_GATEWAY_HTTP=f"127.0.0.1:{free_port()}",
    )
    await process.event("connected", client_id=f"{unique}-second")
    return process


@pytest.mark.full
async def test_values_births_and_deaths_of_one_node(
    base: str, run_command: Run, settings: Settings, database: str, broker_port: int, unique: str
) -> None:
    """Names are those of the birth, whoever got it; who is online is so, whoever got the will."""
    gateways = [await start(run_command, settings), await start_second(run_command, unique)]
    rows = Rows(database)
    for session in range(ROUNDS):
        names = {"": ["a", "b"], "d": ["c"]} if session % 2 else {"": ["b", "a"], "d": ["e"]}
        async with EdgeNode(broker_port, base, "n", names, session=session) as node:
            await node.birth()
            await node.data(session + 0.25)
            await node.data(session + 0.75, "d")
            await rows.online("n", is_=True)
            await rows.online("n/d", is_=True)
            await rows.metric("n", names[""][0], session + 0.25)
            await rows.metric("n/d", names["d"][0], session + 0.75)
            await node.die()
            await rows.online("n", is_=False)
            await rows.online("n/d", is_=False)
            assert node.rebirths == 0
    assert [await each.terminate() for each in gateways] == [0, 0]
    assert all(" dead_lettered=0 in_flight=0" in each.stdout[-1] for each in gateways)


@pytest.mark.full
async def test_a_gateway_that_comes_back(
    base: str, run_command: Run, settings: Settings, database: str, broker_port: int, unique: str
) -> None:
    """Births that the other one got are kept, and name what comes; nobody says that a device is gone."""
    first, second = await start(run_command, settings), await start_second(run_command, unique)
    rows = Rows(database)
    async with EdgeNode(broker_port, base, "n", {"": ["old"], "d": ["old"]}) as node:
        for name in ("old", "new"):
            node.names = {"": [name], "d": [name]}
            await node.birth()
            await rows.metric("n/d", name, 0.5)
        await first.kill()
        first = await start(run_command, settings)
        await node.asked.wait()
        for i in range(ROUNDS):
            await node.data(100.0 + i)
            await node.data(200.0 + i, "d")
        for i in range(ROUNDS):
            await rows.metric("n", "new", 100.0 + i)
            await rows.metric("n/d", "new", 200.0 + i)
        await rows.online("n/d", is_=True)
        await rows.until("SELECT count(*) FROM measurements WHERE metrics->>'online' = 'false'", is_=0)
    await rows.until("SELECT count(*) FROM dead_letters", is_=0)
    assert [await first.terminate(), await second.terminate()] == [0, 0]
