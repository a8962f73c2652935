"""An edge node of Sparkplug B that does as it is told: it is born, sends by aliases, answers, dies."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Self

import aiomqtt

from tests.support.sparkplug import DOUBLE, bd_seq, metric, payload

if TYPE_CHECKING:
    from types import TracebackType


class EdgeNode:
    """One edge node, used as an async context manager for as long as it is connected.

    Args:
        port: of the broker on 127.0.0.1.
        base: of its topics, such as `spBv1.0/north`.
        name: its own.
        names: of its metrics, whose aliases are their places; by device, empty for itself.

    Attributes:
        rebirths: how many it was asked for.
        answers: whether it answers them.
    """

    def __init__(
        self, port: int, base: str, name: str, names: dict[str, list[str]], *, session: int = 0
    ) -> None:
        self._port = port
        self._base, self._name = base, name
        self.names = names
        self.session = session
        self.rebirths = 0
        self.answers = True
        self.seq = 0
        self.asked = asyncio.Event()
        self._client: aiomqtt.Client | None = None
        self._listening: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        will = aiomqtt.Will(self.topic("NDEATH"), payload([bd_seq(self.session)], ts=now_ms()), qos=1)
        self._client = aiomqtt.Client("127.0.0.1", self._port, will=will)
        await self._client.__aenter__()
        await self._client.subscribe(self.topic("NCMD"), qos=1)
        self._listening = asyncio.create_task(self._listen())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._client is not None
        assert self._listening is not None
        self._listening.cancel()
        await asyncio.wait([self._listening])
        with contextlib.suppress(aiomqtt.MqttError):
            await self._client.__aexit__(kind, error, trace)

    def topic(self, kind: str, device: str = "") -> str:
        """The topic of a kind of message."""
        return f"{self._base}/{kind}/{self._name}{'/' if device else ''}{device}"

    async def birth(self) -> None:
        """Be born, with all devices."""
        self.seq = 0
        for device, names in self.names.items():
            metrics = [metric(name, 0.5, alias=alias, datatype=DOUBLE) for alias, name in enumerate(names)]
            if not device:
                metrics.insert(0, bd_seq(self.session))
            await self.send("DBIRTH" if device else "NBIRTH", device, metrics)

    async def data(self, value: float, device: str = "", alias: int = 0) -> None:
        """Send a value by its alias alone."""
        await self.send("DDATA" if device else "NDATA", device, [metric(None, value, alias=alias)])

    async def send(self, kind: str, device: str, metrics: list[bytes]) -> None:
        """Send whatever it is, with the next number."""
        assert self._client is not None
        message = payload(metrics, ts=now_ms(), seq=self.seq)
        self.seq = (self.seq + 1) % 256
        await self._client.publish(self.topic(kind, device), message, qos=1)

    async def die(self) -> None:
        """Lose the connection without a word, so that the broker publishes the will."""
        assert self._client is not None
        self._client._client._sock_close()  # a cable that is pulled

    async def _listen(self) -> None:
        assert self._client is not None
        with contextlib.suppress(aiomqtt.MqttError):
            async for message in self._client.messages:
                assert isinstance(message.payload, bytes)
                assert b"Node Control/Rebirth" in message.payload
                assert (message.qos, message.retain) == (0, False)
                self.rebirths += 1
                self.asked.set()
                if self.answers:
                    await self.birth()


def now_ms() -> int:
    """Now, by the clock of the edge node."""
    return time.time_ns() // 1_000_000
