"""What a broker says of itself: under `$SYS`, and by how it answers.

On a connection of its own, because some brokers answer a subscription that they do not allow by closing.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from runtime.mqtt import Disconnected, Subscription
from runtime.mqtt.connection import Refused
from runtime.mqtt.opening import Opener

if TYPE_CHECKING:
    from runtime.mqtt import Qos, SessionOptions
    from runtime.mqtt.connection import Connection, ReceivedChunk

SYS_S: Final = 1.0
_VERSION: Final = "$SYS/broker/version"
_DROPPED: Final = ("$SYS/broker/publish/messages/dropped", "$SYS/broker/messages/dropped")
_OTHERS: Final = ("$SYS/brokers/+/version", "$SYS/+/new/subscribes")
_PROBE: Final = "mqtt-edge-gateway/check"


@dataclass
class Heard:
    """What was heard.

    Attributes:
        topics: text by topic of `$SYS`.
        refusal: why nothing is heard there, when the broker says so.
        qos: granted to a subscription that asked for 2; None when it was refused.
        takes_spaces: whether a filter with a space in it is taken.
    """

    topics: dict[str, str] = field(default_factory=dict)
    refusal: str = ""
    qos: int | None = None
    takes_spaces: bool = True
    complete: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def version(self) -> str:
        """What it calls itself; empty when it does not."""
        text = self.topics.get(_VERSION, "")
        return text if text.isprintable() else ""

    @property
    def dropped(self) -> int:
        """Messages dropped since it started, as far as it says so."""
        texts = [self.topics.get(topic, "") for topic in _DROPPED]
        return sum(int(text) for text in texts if text.isdecimal())

    def deliver(self, chunk: ReceivedChunk) -> None:
        """Take what has come."""
        for delivery in chunk.deliveries:
            if delivery.topic.startswith("$SYS/"):
                self.topics[delivery.topic] = delivery.payload.decode("utf-8", "replace")[:80]
        if _VERSION in self.topics and any(topic in self.topics for topic in _DROPPED):
            self.complete.set()


async def hear(options: SessionOptions, driver: str) -> Heard:
    """Ask a broker that a connection by this driver has just been made to."""
    heard = Heard()
    named = f"{options.client_id[:110]}-{secrets.token_hex(4)}"
    opener = Opener(dataclasses.replace(options, client_id=named, driver=driver))  # type: ignore[arg-type]  # one of them
    with contextlib.suppress(Disconnected, TimeoutError):  # it need not tell us anything
        connection = await opener.open(heard.deliver)
        try:
            async with asyncio.timeout(4 * SYS_S):
                await _ask(connection, heard)
        finally:
            await connection.close()
    return heard


async def _ask(connection: Connection, heard: Heard) -> None:
    heard.qos = await _granted(connection, _PROBE, 2)
    if heard.qos is not None:
        heard.takes_spaces = await _granted(connection, f"{_PROBE} a", 1) is not None
    for topic in _OTHERS:
        await _granted(connection, topic, 0)
    try:
        await connection.subscribe([Subscription(topic, 0) for topic in (_VERSION, *_DROPPED)])
    except Refused as error:
        heard.refusal = error.reason
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SYS_S):
            await heard.complete.wait()


async def _granted(connection: Connection, topic_filter: str, qos: Qos) -> int | None:
    """The quality of service that a subscription gets; None when it is refused."""
    try:
        return (await connection.subscribe([Subscription(topic_filter, qos)]))[0]
    except Refused:
        return None
