"""Listening: a session that disturbs nobody, until the time is over.

It has a client id of its own, begins clean and leaves nothing behind, and asks for QoS 0: there is nothing
to acknowledge, and a broker owes it nothing. What arrives faster than it is looked at is dropped here, and
counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NoReturn
from uuid import uuid4

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from gateway.discover.heard import Heard, Sample
from gateway.discover.known import outside_of_all
from runtime.errors import Stop
from runtime.lifecycle import unless
from runtime.mqtt import MqttSession, Subscription, options_from
from runtime.terminal import safe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from runtime.settings import Settings

_MAX_PENDING_BYTES: Final = 8_000_000
_MAX_PENDING: Final = 4000  # messages, which are more than their bytes
_BACKOFF_MAX_S: Final = 3.0  # somebody is watching
_LOOK_S: Final = 0.2


@dataclasses.dataclass
class Listening:
    """How it went.

    Attributes:
        seconds: from the first subscription on.
        reason: why nothing could be heard; empty when it could.
    """

    heard: Heard
    seconds: float = 0.0
    reason: str = ""


async def listen(
    settings: Settings, topic_filter: str, seconds: float, stop: asyncio.Event, *, progress: bool
) -> Listening:
    """Listen until the time is over or `stop` is set.

    Raises:
        ConfigurationError: a certificate or an address in the configuration cannot be used.
        Stop: the broker will never let this work; it says why.
    """
    listening = Listening(Heard())
    session = _session(settings, [topic_filter])
    async with session, _progress(listening, session, seconds, draw=progress):
        async with asyncio.TaskGroup() as tasks:
            follow = tasks.create_task(_follow(session, settings, listening), name="receive")
            watch = tasks.create_task(_watch(session, settings), name="session-status")
            beside = tasks.create_task(_beside(settings, topic_filter, listening), name="beside")
            connected = False
            try:
                async with asyncio.timeout(seconds):
                    connected = bool(await unless(stop, _connected(session)))
            except TimeoutError:
                pass
            if connected:
                began = time.monotonic()
                try:
                    async with asyncio.timeout(seconds):
                        await stop.wait()
                except TimeoutError:
                    pass
                listening.seconds = time.monotonic() - began
            else:
                listening.reason = _why_not(session, topic_filter)
            follow.cancel()
            watch.cancel()
            beside.cancel()
        listening.heard.dropped = session.status.dropped_qos0
    return listening


async def _beside(settings: Settings, topic_filter: str, listening: Listening) -> None:
    """Listen to what # leaves out: topics of dialects that begin with $, by a session that may be refused."""
    if topic_filter != "#" or not (filters := outside_of_all()):
        return
    with contextlib.suppress(Stop):
        async with _session(settings, filters) as session:
            await _follow(session, settings, listening)


def _session(settings: Settings, topic_filters: Sequence[str]) -> MqttSession:
    client_id = f"{settings.broker.client_id[:100]}-discover-{uuid4().hex[:8]}"
    broker = msgspec.structs.replace(settings.broker, client_id=client_id)
    options = options_from(
        broker, subscriptions=[Subscription(each, qos=0) for each in topic_filters], clean_start=True
    )
    return MqttSession(
        dataclasses.replace(
            options,
            max_pending_bytes=_MAX_PENDING_BYTES,
            max_pending_messages=_MAX_PENDING,
            backoff_max_s=_BACKOFF_MAX_S,
        )
    )


async def _connected(session: MqttSession) -> bool:
    """Wait for the broker; whether it lets us listen, which a broker that refuses will not do later."""
    connected = asyncio.create_task(session.connected())
    try:
        while not connected.done() and not session.status.refused:
            await asyncio.wait({connected}, timeout=_LOOK_S)
        return connected.done()
    finally:
        connected.cancel()
        await asyncio.wait({connected})


def _why_not(session: MqttSession, topic_filter: str) -> str:
    reason = session.status.reason or "the broker did not answer"
    if session.status.refused and topic_filter in reason:
        example = "gateway discover 'site/#'"
        reason = f"{reason}; name a filter that this user may subscribe, such as {example}"
    return reason


async def _follow(session: MqttSession, settings: Settings, listening: Listening) -> NoReturn:
    own = settings.events.topic
    while True:
        chunk = await session.receive()
        now = datetime.now(UTC)
        for delivery in chunk.deliveries:
            topic = delivery.topic
            if topic == own or topic.startswith(("$SYS/", "$share/", f"{own}/")):
                continue
            listening.heard.add(Sample(topic, bytes(delivery.payload), now, delivery.retain))


async def _watch(session: MqttSession, settings: Settings) -> NoReturn:
    said = ""
    where = f"broker {settings.broker.host}:{settings.broker.port}"
    while True:
        status = session.status
        if status.connected or status.reason != "connecting":
            told = "listening" if status.connected else f"away, trying again: {status.reason}"
            if told != said:
                said = told
                click.echo(f"{where}: {safe(told)}", err=True)
        await asyncio.sleep(_LOOK_S)


@asynccontextmanager
async def _progress(
    listening: Listening, session: MqttSession, seconds: float, *, draw: bool
) -> AsyncIterator[None]:
    """Draw on stderr while the body runs."""
    if not draw:
        yield
        return
    bar = Progress(
        SpinnerColumn(),
        BarColumn(),
        TextColumn("{task.fields[messages]:,} messages  {task.fields[topics]:,} topics"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    with bar:
        task = bar.add_task("", total=seconds, messages=0, topics=0)

        async def drawing() -> NoReturn:
            began: float | None = None
            while True:
                if began is None and session.status.connected:
                    began = time.monotonic()
                done = time.monotonic() - began if began is not None else 0.0
                heard = listening.heard
                bar.update(task, completed=done, messages=heard.messages, topics=len(heard.topics))
                await asyncio.sleep(_LOOK_S)

        drawn = asyncio.create_task(drawing(), name="discover-progress")
        try:
            yield
        finally:
            drawn.cancel()
