"""Devices over real MQTT, with a log of what they know.

Each connection is a stock client (aiomqtt) of its own, which shares no code with what is tested. A device
whose publish got no answer does what devices do: it either sends the same message again or gives it up, and
then its outcome stays unknown.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from contextlib import asynccontextmanager
from itertools import islice
from random import Random
from typing import TYPE_CHECKING

import aiomqtt

from tests.faults.messages import Generator, Mix, Sent
from tests.faults.watch import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

CONNECTIONS = 4
WINDOW = 10
ANSWER_TIMEOUT_S = 4.0
RETRY_S = 0.1


class Fleet:
    """Sends messages and keeps the books of their devices.

    Args:
        port: of the broker, asked before each connection.
        seed: of messages and of what devices do after a failure.
        name: the fleet's devices and keys start with it.

    Attributes:
        log: every distinct payload that was handed to the network, in order.
    """

    def __init__(
        self,
        port: Callable[[], int],
        seed: int,
        *,
        name: str = "d",
        devices: int = 20,
        mix: Mix | None = None,
    ) -> None:
        self.log: list[Sent] = []
        self.generator = Generator(seed, devices, mix or Mix(), name)
        self._port = port
        self._name = name
        self._random = Random(seed)  # noqa: S311  # a replayable scenario, no secret
        self._messages = iter(self.generator)
        self._clients = 0

    @property
    def acked(self) -> list[Sent]:
        """What the broker has acknowledged."""
        return [sent for sent in self.log if sent.acked_at is not None]

    async def send(self, count: int, *, rate: float = 2000) -> None:
        """Send so many messages at `rate` a second, until each was acknowledged or given up."""
        await self.deliver(islice(self._messages, count), rate=rate)

    async def deliver(self, messages: Iterable[Sent], *, rate: float = 2000) -> None:
        """Send these messages, in order within a connection."""
        source = _Source(messages, rate)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CONNECTIONS):
                tasks.create_task(self._drive(source))

    async def deliver_in_order(self, messages: Iterable[Sent]) -> None:
        """Send these messages over one connection, each when the one before it is acknowledged."""
        async with self._client() as client:
            for sent in messages:
                self.log.append(sent)
                sent.attempts += 1
                await client.publish(sent.topic, sent.payload, qos=sent.qos)
                sent.acked_at = time.monotonic()

    @asynccontextmanager
    async def load(self, rate: float = 300) -> AsyncIterator[None]:
        """Send at `rate` a second while inside; on leaving, wait for what is not acknowledged or given up."""
        source = _Source(self._messages, rate)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CONNECTIONS):
                tasks.create_task(self._drive(source))
            try:
                yield
            finally:
                source.close()

    async def sent(self, count: int) -> None:
        """Wait until so many distinct messages have been handed to the network."""

        async def ask() -> str:
            return "" if len(self.log) >= count else f"{len(self.log)} of {count} sent"

        await until(ask, within_s=30)

    async def _drive(self, source: _Source) -> None:
        """Keep one connection up until the source is dry and nothing waits to be sent again."""
        again: deque[Sent] = deque()
        while True:
            try:
                async with self._client() as client, asyncio.TaskGroup() as tasks:
                    for _ in range(WINDOW):
                        tasks.create_task(self._publish(client, source, again))
            except* (aiomqtt.MqttError, OSError):
                await asyncio.sleep(RETRY_S)
            else:
                if not again:
                    return

    def _client(self) -> aiomqtt.Client:
        self._clients += 1
        return aiomqtt.Client(
            "127.0.0.1",
            self._port(),
            identifier=f"{self._name}-{self._clients}",
            timeout=ANSWER_TIMEOUT_S,
            max_inflight_messages=WINDOW,
        )

    async def _publish(self, client: aiomqtt.Client, source: _Source, again: deque[Sent]) -> None:
        while sent := again.popleft() if again else await source.next():
            if not sent.attempts:
                self.log.append(sent)
            sent.attempts += 1
            answered = False
            try:
                await client.publish(sent.topic, sent.payload, qos=sent.qos)
                answered = True
            finally:
                if answered and sent.qos:
                    sent.acked_at = sent.acked_at or time.monotonic()
                elif sent.qos and self._random.random() < 0.5:
                    again.append(sent)


class _Source:
    """Messages at a pace, shared by the connections."""

    def __init__(self, messages: Iterable[Sent], rate: float) -> None:
        self._messages: Iterator[Sent] = iter(messages)
        self._interval_s = 1 / rate
        self._due = time.monotonic()
        self._closed = asyncio.Event()

    def close(self) -> None:
        self._closed.set()

    async def next(self) -> Sent | None:
        now = time.monotonic()
        self._due = max(self._due + self._interval_s, now - 1)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self._due - now)):
                await self._closed.wait()
        return None if self._closed.is_set() else next(self._messages, None)
