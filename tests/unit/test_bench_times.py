"""How benchmarks time: from when something was due, and when it was first seen."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from bench.http_load import Reader
from bench.latency import Watch

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


class Stalling(asyncio.Protocol):
    """A server that holds its first answer back.

    Attributes:
        asked: one item a request.
    """

    def __init__(self, asked: asyncio.Queue[Stalling]) -> None:
        self.asked = asked

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Hand the request to whoever decides about it."""
        assert data == b"request"
        self.asked.put_nowait(self)

    def answer(self) -> None:
        """Give an answer."""
        self._transport.write(ANSWER)


async def test_a_stalled_server_is_timed_from_when_each_request_was_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Requests that could not be sent in time count their wait: no coordinated omission."""
    clock = [100.0]
    monkeypatch.setattr("bench.http_load.time.perf_counter", lambda: clock[0])
    asked: asyncio.Queue[Stalling] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: Stalling(asked), "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        reader = Reader([b"request"], every_s=1.0)
        transport, _ = await loop.create_connection(lambda: reader, "127.0.0.1", port)
        stalled = await asked.get()
        clock[0] += 3.5
        stalled.answer()
        for _ in range(2):
            (await asked.get()).answer()
        last = await asked.get()
        reader.stop()
        last.answer()
        await reader.ended
        transport.close()
    assert reader.took_s == [3.5, 2.5, 1.5, 0.5]


@pytest.mark.parametrize(("n", "when"), [(1, 10.0), (3, 10.0), (4, 11.0), (7, 11.0), (9, 12.0)])
def test_a_position_is_there_when_it_was_first_seen_or_passed(n: int, when: float) -> None:
    """Between two looks the later one counts, so a time is never too short."""
    watch = Watch(ask=pytest.fail)
    watch.seen = [(3, 10.0), (7, 11.0), (9, 12.0)]
    assert watch.at(n) == when
