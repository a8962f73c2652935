"""The gateway as a host application of edge nodes that others wrote, with kills of both sides."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from tests import edges
from tests.acceptance.test_sparkplug import WAIT_S, Rows, start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

    Run = Callable[..., Awaitable[RunningCommand]]


class Edge:
    """An edge node in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def tell(self, order: str) -> None:
        """Let it do something, and wait until it has."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{order}\n".encode())
        await self.said(order)

    async def said(self, text: str) -> None:
        """Wait until it says something."""
        assert self.process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            while (line := await self.process.stdout.readline()).strip() != text.encode():
                assert line, f"it ended without saying {text!r}"

    async def kill(self) -> None:
        """End it without a word."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


@pytest.fixture(params=edges.NAMES)
async def start_edge(
    request: pytest.FixtureRequest, broker_port: int, unique: str
) -> AsyncIterator[Callable[[], Awaitable[Edge]]]:
    """Starts the edge node of the test, which publishes as `<unique>` of the group `<unique>`."""
    command = edges.command(str(request.param))
    started: list[Edge] = []

    async def start_one() -> Edge:
        process = await asyncio.create_subprocess_exec(
            *command,
            str(broker_port),
            unique,
            unique,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        started.append(Edge(process))
        await started[-1].said("ready")
        return started[-1]

    yield start_one
    for edge in started:
        await edge.kill()


@pytest.fixture(autouse=True)
def _dialect(config_file: Path, topic_prefix: str) -> None:
    text = config_file.read_text(encoding="utf-8")
    before = f'topic = "{topic_prefix}/{{device_id}}/telemetry"'
    assert before in text
    config_file.write_text(text.replace(before, 'dialect = "sparkplug"'), encoding="utf-8")


async def test_kills_of_both_sides(
    start_edge: Callable[[], Awaitable[Edge]],
    run_command: Run,
    settings: Settings,
    database: str,
    unique: str,
) -> None:
    """Values by names and by aliases, kills of the node and of the gateway, an end in order: all is told."""
    rows, node, press = Rows(database), unique, f"{unique}/press"
    gateway = await start(run_command, settings, EDGE_SPARKPLUG_REORDER_TIMEOUT="300ms")
    edge = await start_edge()
    await edge.tell("values 1.5")
    await rows.values(node, [("Pressure", 1.5)])
    await edge.tell("aliases 2.5")
    await rows.values(node, [("Pressure", 1.5), ("Pressure", 2.5)])
    await rows.values(press, [("Speed", 1.5), ("Speed", 2.5)])
    await rows.online(press, is_=True)

    await edge.kill()
    await rows.online(node, is_=False)
    await rows.online(press, is_=False)

    edge = await start_edge()
    await rows.online(press, is_=True)
    await edge.tell("aliases 3.5")
    await rows.values(press, [("Speed", 0.5), ("Speed", 3.5)])

    await gateway.kill()
    gateway = await start(run_command, settings, EDGE_SPARKPLUG_REORDER_TIMEOUT="300ms")
    await edge.said("rebirth")
    await edge.tell("aliases 4.5")
    await rows.values(press, [("Speed", 4.5)])
    await rows.online(node, is_=True)

    assert edge.process.stdin is not None
    edge.process.stdin.write(b"leave\n")
    await rows.online(node, is_=False)
    await rows.online(press, is_=False)
    await rows.until("SELECT count(*) FROM dead_letters", is_=0)
    assert await gateway.terminate() == 0
