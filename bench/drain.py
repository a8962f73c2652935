"""The floor under the gateway: the bare `mqtt5` codec, which takes messages, acknowledges them, and no more.

    python -m bench.drain --port 1883 --messages 200000

As a process of its own, on uvloop, like the gateway. It subscribes to what devices publish, prints `ready`,
and when so many messages are acknowledged a `Drained` as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import cast

import mqtt5
import msgspec
import uvloop
from mqtt5 import PublishPacket

from runtime.mqtt.wire import PUBACK, encode_acks

_RECEIVE_MAXIMUM = 3000  # the gateway's


class Drained(msgspec.Struct, frozen=True):
    """What a drain came to.

    Attributes:
        messages: taken and acknowledged.
        seconds: from the first of them to the last.
        cpu_s: CPU seconds of the process meanwhile.
    """

    messages: int
    seconds: float
    cpu_s: float


class Drain(asyncio.Protocol):
    """One connection, for messages of QoS 1.

    Args:
        messages: how many to take.

    Attributes:
        subscribed: done when the broker has granted the subscription.
        drained: done when all messages are acknowledged.
    """

    def __init__(self, messages: int) -> None:
        loop = asyncio.get_running_loop()
        self.subscribed: asyncio.Future[None] = loop.create_future()
        self.drained: asyncio.Future[Drained] = loop.create_future()
        self._wanted = messages
        self._taken = 0
        self._rest = b""
        self._started = (0.0, 0.0)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connect and subscribe."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        connect = mqtt5.ConnectPacket("bench-drain", clean_start=True, receive_max=_RECEIVE_MAXIMUM)
        wanted = mqtt5.TopicFilter("devices/+/telemetry", max_qos=mqtt5.QoS.AT_LEAST_ONCE)
        self._transport.write(connect.write() + mqtt5.SubscribePacket(1, [wanted]).write())

    def data_received(self, data: bytes) -> None:
        """Take what is complete and acknowledge all of it in one write."""
        if not self._taken:
            self._started = time.monotonic(), time.process_time()
        view = memoryview(self._rest + data if self._rest else data)
        position, end = 0, len(view)
        acks = []
        while position < end:
            try:
                packet, length = mqtt5.read(view[position:])
            except IndexError:  # the rest of it has not come yet
                break
            position += length
            if type(packet) is PublishPacket:
                acks.append(PUBACK | cast("int", packet.packet_id))
            elif type(packet) is mqtt5.SubAckPacket:
                self.subscribed.set_result(None)
        self._rest = bytes(view[position:])
        if acks and self._transport is not None:
            self._transport.write(encode_acks(acks))
            self._count(len(acks))

    def _count(self, messages: int) -> None:
        self._taken += messages
        if self._taken >= self._wanted and not self.drained.done():
            started, cpu = self._started
            self.drained.set_result(
                Drained(self._taken, time.monotonic() - started, time.process_time() - cpu)
            )


async def drain(port: int, messages: int) -> Drained:
    """Take so many messages from the broker on this port."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(lambda: Drain(messages), "127.0.0.1", port)
    await protocol.subscribed
    print("ready", flush=True)
    drained = await protocol.drained
    transport.close()
    return drained


def main() -> None:
    """Drain; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--messages", type=int, required=True)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        drained = runner.run(drain(options.port, options.messages))
    print(msgspec.json.encode(drained).decode(), flush=True)


if __name__ == "__main__":
    main()
