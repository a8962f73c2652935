"""Brokers and helpers of the conformance suite; the fixtures that hand them out are in `conftest`."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import structlog

from deploy.local import warden
from runtime.mqtt import Chunk, Delivery, Message, MqttSession, Qos, Subscription

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT_S = 20.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def warded(folder: Path) -> Iterator[int]:
    """A process group that a warden ends with this process, however that ends, and then removes a folder."""
    with warden.start(folder) as process:
        yield process.pid


@dataclass
class BrokerProcess:
    """A broker in a process of its own, that can be stopped hard and started again on the same port.

    Attributes:
        group: the process group of `warded`.
    """

    command: Sequence[str]
    port: int
    ready: str
    group: int
    ports: Mapping[str, int] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None
    reader: threading.Thread | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=self.group,
        )
        assert self.process.stdout is not None
        said = []
        for line in self.process.stdout:
            said.append(line)
            if self.ready in line:
                self.reader = threading.Thread(target=deque, args=(self.process.stdout, 0))
                self.reader.start()
                return
        raise RuntimeError("broker did not start: " + "".join(said))

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            if self.reader is not None:
                self.reader.join()
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = self.reader = None


StartBroker = Callable[..., BrokerProcess]


class OpenSession(Protocol):
    """Opens a session and waits until it is connected, unless told not to."""

    async def __call__(
        self,
        broker: BrokerProcess,
        *filters: str | Subscription,
        wait: bool = True,
        **options: Any,  # noqa: ANN401  # any of the options
    ) -> MqttSession: ...


class Events:
    """The log events of a test, each a dict with its name under `event`."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self._more = asyncio.Event()

    def __call__(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> NoReturn:
        self.seen.append(dict(event))
        self._more.set()
        raise structlog.DropEvent

    def named(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.seen if event["event"] == name]

    async def wait_for(self, name: str, count: int = 1) -> dict[str, Any]:
        """Wait for the n-th event of a name and return it."""
        async with asyncio.timeout(TIMEOUT_S):
            while len(self.named(name)) < count:
                self._more.clear()
                await self._more.wait()
        return self.named(name)[count - 1]


async def take(session: MqttSession, count: int, *, ack: bool = True) -> list[Delivery]:
    """Receive that many deliveries, in order, each chunk acknowledged at once unless told not to."""
    deliveries: list[Delivery] = []
    async with asyncio.timeout(TIMEOUT_S):
        while len(deliveries) < count:
            chunk = await session.receive()
            deliveries += chunk.deliveries
            if ack:
                chunk.ack()
    return deliveries


async def next_chunk(session: MqttSession) -> Chunk:
    async with asyncio.timeout(TIMEOUT_S):
        return await session.receive()


async def publish(session: MqttSession, *messages: Message) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        await session.publish(messages)


def payloads(deliveries: Sequence[Delivery]) -> list[bytes]:
    return [delivery.payload for delivery in deliveries]


def numbered(topic: str, count: int, qos: Qos = 1) -> list[Message]:
    return [Message(topic, b"%d" % n, qos) for n in range(count)]


def freeze(broker: BrokerProcess) -> None:
    """Let the broker hold its connections open and say nothing."""
    broker.signal(signal.SIGSTOP)


def thaw(broker: BrokerProcess) -> None:
    broker.signal(signal.SIGCONT)
