"""Many viewers of the live page over real sockets: those who read, and those who do not."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from deploy.local.server import free_port
from projector.live.board import Board
from projector.live.feed import VIEWERS, Feed
from projector.live.routes import live_routes
from projector.meters import Meters
from projector.query import Queries
from projector.views import Keys
from projector.watch.said import Watch
from runtime.http import Access, Health, create_app, serve
from runtime.redis import open_redis
from runtime.settings import Projector

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GONE_WITHIN_S = 30
REQUEST = b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.fixture
def registry() -> CollectorRegistry:
    """What is measured."""
    return CollectorRegistry()


@pytest.fixture
async def port(redis_url: str, registry: CollectorRegistry) -> AsyncIterator[int]:
    """Where a live page is served; its fleet is empty, so that next to nothing is sent."""
    stop, port, meters = asyncio.Event(), free_port(), Meters(registry)
    async with open_redis(redis_url) as redis, asyncio.TaskGroup() as tasks:
        board = Board(
            redis,
            Keys(),
            queries=Queries(redis, Keys()),
            meters=meters,
            health=Health(),
            watch=Watch(),
            now=lambda: datetime.now(UTC),
        )
        feed = Feed(board, meters)
        tasks.create_task(feed.run(stop))
        access = Access(Projector(), "projector")
        app = create_app(live_routes(board, feed, access), access=access)
        tasks.create_task(serve(app, f"127.0.0.1:{port}", stop))
        while (await _ask(port))[0] != 200:
            pass
        yield port
        stop.set()


class Stream:
    """A viewer's end of the stream of events."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def event(self) -> bytes:
        """The data of the next frame."""
        while True:
            line = await self._reader.readline()
            if line.startswith(b"data: {") and line != b"data: {}\n":
                return line
            assert line

    async def read_on(self) -> None:
        """Take whatever comes, until there is no more."""
        while await self._reader.read(65536):
            pass


async def _open(port: int) -> Stream:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST % b"/live/events")
    return Stream(reader, writer)


async def _ask(port: int, path: bytes = b"/live/events") -> tuple[int, dict[str, str]]:
    """Status and headers of an answer, whose body is left."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return 0, {}
    writer.write(REQUEST % path)
    head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
    writer.close()
    return int(head[0].split()[1]), dict(line.lower().split(": ", 1) for line in head[1:] if line)


async def _until(port: int, status: int) -> None:
    async with asyncio.timeout(10):
        while (await _ask(port))[0] != status:  # noqa: ASYNC110  # the server tells nobody
            await asyncio.sleep(0.1)


async def test_five_hundred_are_served_and_one_more_is_refused(port: int) -> None:
    """Each of them gets frame after frame; one more is told when to come again, and is served then."""
    assert VIEWERS >= 500
    viewers = await asyncio.gather(*(_open(port) for _ in range(VIEWERS)))
    async with asyncio.timeout(30):
        await asyncio.gather(*(viewer.event() for viewer in viewers))
        await asyncio.gather(*(viewer.event() for viewer in viewers))
    status, headers = await _ask(port)
    assert (status, int(headers["retry-after"])) == (503, 5)
    viewers.pop().writer.close()
    await _until(port, 200)
    for viewer in viewers:
        viewer.writer.close()


@pytest.mark.full
async def test_who_does_not_read_loses_the_place(port: int, registry: CollectorRegistry) -> None:
    """All places but one are taken by who never reads: half a minute later only that one is left."""
    reader = await _open(port)
    await reader.event()
    reading = asyncio.create_task(reader.read_on())
    with ExitStack() as stack:
        for _ in range(VIEWERS - 1):
            silent = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            silent.sendall(REQUEST % b"/live/events")
        await _until(port, 503)
        async with asyncio.timeout(GONE_WITHIN_S):
            while registry.get_sample_value("projector_live_viewers") != 1:
                await _ask(port)
                await asyncio.sleep(0.5)
        assert (await _ask(port))[0] == 200
    assert not reading.done()
    reader.writer.close()
    await reading
