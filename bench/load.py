"""The load generator: a process of its own that publishes QoS 1 and does as little else as can be.

    python -m bench.load --port 1883 --seconds 10                 # a flood, as fast as acknowledgements come
    python -m bench.load --port 1883 --seconds 10 --rate 5000     # open loop

It makes its packets (`bench/packets.py`), connects, prints `ready` and waits for orders on its standard
input, one a line: `go`; `limit N`, never to have sent more than N messages; `stop`. When all is sent and
acknowledged it prints a `Sent` as JSON and ends; it ends as well when its standard input does.

A flood keeps a window of unacknowledged messages full on every connection: `--window`, or the broker's
Receive Maximum when that is less. Open loop sends message k when it is due, k / rate seconds after the
start, on its schedule alone: a slow broker delays nothing, a message that is late by our fault is sent all
the same, and its device time says when it was due. It looks once a millisecond what is due: a load that
looked all the time would take from the plant the core that it waits for. A Receive Maximum that is reached
is an error and no brake.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, cast

import mqtt5
import msgspec
import uvloop

from bench import options
from bench.packets import Contents, Lap, Shape, fill, timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_CHUNK = 64
_REFUSED = 0x80
_PUBACK = 0x40
_REASONED = 5  # bytes of a PUBACK with a reason code and no properties (MQTT5 §3.4.2.1)
_READ_EVERY_S = 0.003
_SEND_EVERY_S = 0.001  # at most: uvloop sleeps whole milliseconds, and for less it would spin
_ACKED_WITHIN_S = 60.0
_MS = 1e3


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What to send. Ends when `messages` are sent or `seconds` are over, whichever is first.

    Attributes:
        rate: messages a second, open loop; 0 is a flood.
        messages: how many; 0 is no bound.
        seconds: for how long; 0 is no bound.
        connections: over how many connections, to which the devices are dealt out.
        window: most unacknowledged messages of a connection in a flood.
        limit: most messages to send until a `limit` raises it; 0 is no limit.
        shape: of the messages.
    """

    rate: float = 0.0
    messages: int = 0
    seconds: float = 0.0
    connections: int = 8
    window: int = 1000
    limit: int = 0
    shape: Shape = Shape()


class Sent(msgspec.Struct, frozen=True):
    """What was sent.

    Attributes:
        messages: how many, all of them acknowledged.
        contents: what they held, in readings.
        started: when, in seconds of the monotonic clock, which all processes of a machine share.
        seconds: from then until the last acknowledgement.
        cpu_s: CPU seconds of this process meanwhile.
        late_ms: open loop: by how much the message that was sent latest missed its time.
    """

    messages: int
    contents: Contents
    started: float
    seconds: float
    cpu_s: float
    late_ms: float


class LoadError(Exception):
    """The broker refused or ended something; the message says what."""


class Publisher(asyncio.Protocol):
    """One connection: knows MQTT as far as a publisher needs it.

    Attributes:
        accepted: done when the broker has accepted the connection.
        sent: messages sent so far.
        unacked: of them, those not acknowledged.
    """

    def __init__(
        self,
        number: int,
        lap: Lap,
        *,
        window: int,
        acked: Callable[[Publisher], None],
        failed: Callable[[str], None],
    ) -> None:
        self.accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sent = 0
        self.unacked = 0
        self._number = number
        self._lap = lap
        self._window = window
        self._receive_maximum = 0
        self._acked = acked
        self._failed = failed
        self._rest = b""
        self._transport: asyncio.Transport | None = None
        packets = lap.packets
        self._chunks = [b"".join(packets[i : i + _CHUNK]) for i in range(0, len(packets), _CHUNK)]
        self._ts = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send CONNECT."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self._transport.write(mqtt5.ConnectPacket(f"bench-load-{self._number}", clean_start=True).write())

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail: a broker does not close a healthy connection."""
        self._failed(f"the broker closed the connection: {exc}")

    def data_received(self, data: bytes) -> None:
        """Count acknowledgements."""
        data = self._rest + data
        position, acks, size = 0, 0, len(data)
        while position + 2 <= size and (end := position + 2 + data[position + 1]) <= size:
            refused = data[end - 1] >= _REFUSED if end - position == _REASONED else False
            if data[position] == _PUBACK and not refused:
                acks += 1
            else:
                self._on_other(data[position:end])
            position = end
        self._rest = data[position:]
        self._pause()
        if acks:
            self.unacked -= acks
            self._acked(self)

    def send_chunk(self, most: int) -> int:
        """Send what fits into the window and is in one piece, at most so many messages; returns how many."""
        lap, place = divmod(self.sent, len(self._lap.packets))
        if not place or not self._lap.repeats:
            self._ts = timestamp(time.time())
        chunk = self._chunks[place // _CHUNK]
        messages = min(_CHUNK, len(self._lap.packets) - place)
        if messages > min(self._window, self._receive_maximum) - self.unacked:
            return 0
        if messages > most:
            messages = most
            chunk = b"".join(self._lap.packets[place : place + most])
        self._write(fill(chunk, lap, self._ts), messages)
        return messages

    def send_due(self, due_s: Sequence[float]) -> None:
        """Send the next messages, each with the time when it was due."""
        packets = self._lap.packets
        if len(due_s) > self._receive_maximum - self.unacked:
            self._failed("the broker does not acknowledge as fast as messages are due")
        filled = []
        for number, due in enumerate(due_s, self.sent):
            lap, place = divmod(number, len(packets))
            filled.append(fill(packets[place], lap, timestamp(due)))
        self._write(b"".join(filled), len(filled))

    def contents(self) -> Contents:
        """What it has sent."""
        return self._lap.contents(self.sent)

    def _pause(self) -> None:
        """Let acknowledgements gather: the broker writes each by itself, and reading each would cost most."""
        assert self._transport is not None
        self._transport.pause_reading()
        asyncio.get_running_loop().call_later(_READ_EVERY_S, self._transport.resume_reading)

    def _write(self, data: bytes, messages: int) -> None:
        assert self._transport is not None
        self.sent += messages
        self.unacked += messages
        self._transport.write(data)

    def _on_other(self, data: bytes) -> None:
        packet, _ = mqtt5.read(memoryview(data))
        if isinstance(packet, mqtt5.ConnAckPacket) and packet.reason_code == packet.reason_code.SUCCESS:
            self._receive_maximum = packet.receive_max
            self.accepted.set_result(None)
        else:
            self._failed(f"the broker answered {packet}")


class Sender:
    """All connections, and the orders they follow.

    Attributes:
        go: starts the sending.
        failure: raises when a connection has failed.
    """

    def __init__(self, port: int, load: Load) -> None:
        self.go = asyncio.Event()
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._port = port
        self._load = load
        self._limit = load.limit or sys.maxsize
        self._most = load.messages or sys.maxsize
        self._sent = 0
        self._publishers: list[Publisher] = []
        self._flooding = False
        self._stopped = asyncio.Event()
        self._acked = asyncio.Event()

    async def connect(self) -> None:
        """Make the packets and connect."""
        loop = asyncio.get_running_loop()
        count = self._load.connections
        for number in range(count):
            lap = Lap(self._load.shape, number, count)
            make = partial(
                Publisher, number, lap, window=self._load.window, acked=self._on_acked, failed=self._fail
            )
            _, publisher = await loop.create_connection(make, "127.0.0.1", self._port)
            await asyncio.wait((publisher.accepted, self.failure), return_when=asyncio.FIRST_COMPLETED)
            self._publishers.append(publisher)

    async def run(self) -> Sent:
        """Wait for the order to go, send everything and wait for the last acknowledgement."""
        await self.go.wait()
        started, cpu = time.monotonic(), time.process_time()
        late_s = await (self._send_on_schedule() if self._load.rate else self._flood())
        async with asyncio.timeout(_ACKED_WITHIN_S):
            while any(publisher.unacked for publisher in self._publishers):
                self._acked.clear()
                await self._acked.wait()
        contents = sum((publisher.contents() for publisher in self._publishers), Contents())
        seconds = time.monotonic() - started
        used = time.process_time() - cpu
        return Sent(self._sent, contents, started, seconds, used, late_s * _MS)

    def limit(self, messages: int) -> None:
        """Let no more than so many be sent in all."""
        self._limit = messages
        self._pump_all()

    def stop(self) -> None:
        """Send no more."""
        self._flooding = False
        self._stopped.set()

    async def _flood(self) -> float:
        self._flooding = True
        self._pump_all()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._load.seconds or None):
                await self._stopped.wait()
        self._flooding = False
        return 0.0

    def _pump_all(self) -> None:
        for publisher in self._publishers:
            self._pump(publisher)

    def _pump(self, publisher: Publisher) -> None:
        while self._flooding and self._limit - self._sent >= _CHUNK:
            messages = publisher.send_chunk(self._most - self._sent)
            if not messages:
                return
            self._sent += messages
            if self._sent == self._most:
                self.stop()

    def _on_acked(self, publisher: Publisher) -> None:
        self._acked.set()
        self._pump(publisher)

    def _fail(self, reason: str) -> None:
        if not self.failure.done():
            self.failure.set_exception(LoadError(reason))

    async def _send_on_schedule(self) -> float:
        rate, count = self._load.rate, self._load.connections
        messages = min(self._most, int(self._load.seconds * rate) or self._most)
        started, wall = time.monotonic(), time.time()
        late_s = 0.0
        while self._sent < messages and not self._stopped.is_set():
            elapsed = time.monotonic() - started
            due = min(messages, int(elapsed * rate) + 1)
            late_s = max(late_s, elapsed - self._sent / rate)
            for first in range(self._sent, min(due, self._sent + count)):
                self._publishers[first % count].send_due(
                    [wall + number / rate for number in range(first, due, count)]
                )
            self._sent = due
            await asyncio.sleep(max(_SEND_EVERY_S, started + due / rate - time.monotonic()))
        return late_s


async def serve(port: int, load: Load) -> Sent | None:
    """Follow the orders on standard input; see the module. None when the orders ended first."""
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
    )
    sender = Sender(port, load)
    await sender.connect()
    print("ready", flush=True)
    running = asyncio.create_task(sender.run(), name="sender")
    obeying = asyncio.create_task(_obey(orders, sender), name="orders")
    await asyncio.wait((running, obeying, sender.failure), return_when=asyncio.FIRST_COMPLETED)
    if sender.failure.done():
        sender.failure.result()
    return running.result() if running.done() else None


async def _obey(orders: asyncio.StreamReader, sender: Sender) -> None:
    while line := await orders.readline():
        match line.split():
            case [b"go"]:
                sender.go.set()
            case [b"limit", messages]:
                sender.limit(int(messages))
            case [b"stop"]:
                sender.stop()
            case _:
                raise LoadError(f"unknown order {line!r}; expected go, limit N or stop")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    options.add_arguments(parser, Load)
    options.add_arguments(parser, Shape)
    arguments = parser.parse_args()
    load = options.read_arguments(arguments, Load, shape=options.read_arguments(arguments, Shape))
    gc.disable()  # nothing here is cyclic, and a collection would make messages late
    try:
        sent = uvloop.run(serve(arguments.port, load))
    except (LoadError, OSError, TimeoutError) as error:
        sys.exit(f"load: {error!r}")
    if sent:
        print(msgspec.json.encode(sent).decode(), flush=True)


if __name__ == "__main__":
    main()
