"""A network that can fail: between one of our processes and one server, over TCP."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter

READ_BYTES = 65536


class Proxy:
    """Forwards connections to a port of 127.0.0.1 until told otherwise.

    Attributes:
        port: where to connect instead.
        target: the port behind it, of connections to come.
        half_open: whether a client's end is kept from the server, as by a machine that lost its power.
        delay_s: how long data is under way in each direction.
        trips: how often a client has said something after the server had answered, or as the first.
        most_at_once: most connections whose last word was the client's.
        swallowed: how many answers were taken away by `swallow_answer`.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.half_open = False
        self.delay_s = 0.0
        self.swallowed = 0
        self.trips = self.most_at_once = 0
        self._asking: set[_Link] = set()
        self.target = target
        self._open = asyncio.Event()
        self._open.set()
        self._dark = asyncio.Event()
        self._refusing = False
        self._pattern = b""
        self._before = b""
        self._swallow_left = 0
        self._writers: set[StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        self.heal()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def blackhole(self) -> None:
        """Let nothing through and tell nobody: connections stay open, bytes stay under way."""
        self._open.clear()
        self._dark.set()

    def refuse(self) -> None:
        """End all connections and every new one."""
        self._refusing = True
        self.cut()

    def heal(self) -> None:
        """Let everything through again, what was under way too."""
        self._refusing = False
        self._dark.clear()
        self._open.set()

    def cut(self) -> None:
        """End all connections."""
        for writer in list(self._writers):
            writer.transport.abort()

    def swallow_answer(self, pattern: bytes, times: int) -> None:
        """The next times a client sends the pattern, pass it on, keep the answer and cut the connection."""
        self._pattern = pattern
        self._swallow_left = times

    async def dark_before(self, pattern: bytes) -> None:
        """Go dark just before a client's next message with this pattern goes through, and return then."""
        self._before = pattern
        await self._dark.wait()

    async def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if not self._refusing:
                await self._connect(reader, writer)
        except asyncio.CancelledError:  # ours, at the end; the stream's own callback would report it
            pass
        finally:
            writer.transport.abort()
            self._connections.discard(task)

    async def _connect(self, reader: StreamReader, writer: StreamWriter) -> None:
        await self._open.wait()
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            return
        link = _Link()
        self._writers |= {writer, back}
        try:
            pumps = [
                asyncio.create_task(self._pump(reader, back, link, to_server=True)),
                asyncio.create_task(self._pump(there, writer, link, to_server=False)),
            ]
            try:
                ended, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                if self.half_open and pumps[1] not in ended:
                    await asyncio.wait(pumps[1:])
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.wait(pumps)
        finally:
            self._asking.discard(link)
            self._writers -= {writer, back}
            back.transport.abort()

    async def _pump(
        self, reader: StreamReader, writer: StreamWriter, link: _Link, *, to_server: bool
    ) -> None:
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        arriving = asyncio.create_task(self._arrive(under_way, writer))
        try:
            with contextlib.suppress(OSError):
                while data := await reader.read(READ_BYTES):
                    if to_server and self._before and self._before in data:
                        self._before = b""
                        self.blackhole()
                    await self._open.wait()
                    self._count(link, to_server=to_server)
                    if to_server and self._swallow_left and self._pattern in data:
                        self._swallow_left -= 1
                        link.swallowing = True
                    elif not to_server and link.swallowing:
                        self.swallowed += 1
                        return
                    under_way.put_nowait((asyncio.get_running_loop().time() + self.delay_s, data))
                await under_way.join()
        finally:
            arriving.cancel()
            await asyncio.wait([arriving])

    async def _arrive(self, under_way: asyncio.Queue[tuple[float, bytes]], writer: StreamWriter) -> None:
        """Hand over what has been under way for long enough."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while True:
                due, data = await under_way.get()
                if due > loop.time():
                    await asyncio.sleep(due - loop.time())
                writer.write(data)
                await writer.drain()
                under_way.task_done()

    def _count(self, link: _Link, *, to_server: bool) -> None:
        if not to_server:
            self._asking.discard(link)
        elif link not in self._asking:
            self._asking.add(link)
            self.trips += 1
            self.most_at_once = max(self.most_at_once, len(self._asking))


class _Link:
    swallowing = False
