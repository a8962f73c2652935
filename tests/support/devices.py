"""Devices for tests: a stock MQTT client that publishes and waits for the broker's acknowledgement."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import aiomqtt

if TYPE_CHECKING:
    from collections.abc import Iterable


async def publish(
    port: int, messages: Iterable[tuple[str, bytes]], *, qos: int = 1, retain: bool = False
) -> None:
    """Publish (topic, payload) pairs in order; return when the broker has acknowledged all of them."""
    async with aiomqtt.Client("127.0.0.1", port, identifier=f"device-{uuid4().hex[:8]}") as client:
        for topic, payload in messages:
            await client.publish(topic, payload, qos=qos, retain=retain)
