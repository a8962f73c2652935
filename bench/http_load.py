"""The readers: a process that asks one HTTP server over keep-alive connections, and does little else.

    python -m bench.http_load --port 9102 --connections 16 --seconds 10

Each connection sends a prebuilt `GET /devices/<device>/stats`, waits for the whole answer and sends the next,
the devices in turn: at once, or with `--rate` when it is due, and an answer's time counts from then, however
late the request could be sent. Prints an `Asked` as JSON. Any answer but 200 is an error.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from typing import cast

import msgspec
import uvloop

from bench.options import add_arguments, read_arguments

_OK = b"HTTP/1.1 200 "
_LENGTH = b"content-length: "
_MS = 1e3


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What to ask, and for how long.

    Attributes:
        devices: their statistics are asked for in turn, `d000000` and so on.
        rate: requests a second of all connections together; 0 is as fast as they are answered.
    """

    connections: int = 16
    seconds: float = 10.0
    devices: int = 1000
    rate: float = 0.0


class Asked(msgspec.Struct, frozen=True):
    """What came of it.

    Attributes:
        requests: answered.
        p50_ms: from a request to the last byte of its answer, for half of them; likewise the others.
        cpu_us: µs of this process's CPU a request.
    """

    requests: int
    per_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_us: float


class HttpLoadError(Exception):
    """The server answered something else, or nothing; the message says what."""


class Reader(asyncio.Protocol):
    """One connection, which asks until it is told to stop.

    Args:
        requests: sent in turn.
        every_s: seconds from one request to the next; 0 asks again as soon as it is answered.

    Attributes:
        took_s: seconds that each answer took.
        ended: done when the last answer is there, or failed.
    """

    def __init__(self, requests: list[bytes], every_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self.took_s: list[float] = []
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._requests = requests
        self._every_s = every_s
        self._next = 0
        self._due = 0.0
        self._answer = b""
        self._stopping = False
        self._transport: asyncio.Transport | None = None

    def stop(self) -> None:
        """Ask no more."""
        self._stopping = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask the first."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self._due = time.perf_counter()
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        """A server keeps its connections."""
        if not self.ended.done():
            self.ended.set_exception(HttpLoadError(f"the server closed the connection: {exc}"))

    def data_received(self, data: bytes) -> None:
        """Take an answer's bytes; when it is complete ask the next."""
        self._answer += data
        head, separator, body = self._answer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.lower().partition(_LENGTH)[2].partition(b"\r\n")[0] or 0)
        if len(body) < length:
            return
        if not head.startswith(_OK):
            self.ended.set_exception(HttpLoadError(str(self._answer, "utf-8", "replace")))
            return
        self._answer = b""
        now = time.perf_counter()
        self.took_s.append(now - self._due)
        if self._stopping:
            if not self.ended.done():
                self.ended.set_result(None)
            return
        self._due = self._due + self._every_s if self._every_s else now
        if self._due > now:
            self._loop.call_later(self._due - now, self._ask)
        else:
            self._ask()

    def _ask(self) -> None:
        assert self._transport is not None
        self._transport.write(self._requests[self._next])
        self._next = (self._next + 1) % len(self._requests)


async def ask(port: int, reading: Reading) -> Asked:
    """Ask the server on this port.

    Raises:
        HttpLoadError: it answers anything but 200.
    """
    requests = [
        f"GET /devices/d{i:06d}/stats HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
        for i in range(reading.devices)
    ]
    loop = asyncio.get_running_loop()
    every_s = reading.connections / reading.rate if reading.rate else 0.0
    readers = []
    started, cpu = time.monotonic(), time.process_time()
    for number in range(reading.connections):
        first = number * reading.devices // reading.connections
        made = Reader(requests[first:] + requests[:first], every_s)
        await loop.create_connection(lambda made=made: made, "127.0.0.1", port)  # type: ignore[misc]  # a default binds the loop's variable
        readers.append(made)
    await asyncio.wait([made.ended for made in readers], timeout=reading.seconds)
    for made in readers:
        made.stop()
    async with asyncio.timeout(reading.seconds):
        await asyncio.gather(*(made.ended for made in readers))
    seconds, cpu_s = time.monotonic() - started, time.process_time() - cpu
    took = sorted(took_s for made in readers for took_s in made.took_s)
    count = len(took)
    p50, p99 = took[count // 2], took[count * 99 // 100]
    return Asked(count, count / seconds, p50 * _MS, p99 * _MS, took[-1] * _MS, cpu_s / count * _MS * _MS)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    add_arguments(parser, Reading)
    arguments = parser.parse_args()
    try:
        asked = uvloop.run(ask(arguments.port, read_arguments(arguments, Reading)))
    except (HttpLoadError, OSError) as error:
        sys.exit(f"http_load: {error}")
    print(msgspec.json.encode(asked).decode(), flush=True)


if __name__ == "__main__":
    main()
