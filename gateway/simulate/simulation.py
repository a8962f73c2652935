"""One simulation, from connecting to the summary: the only place of the simulator that makes sessions."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from gateway.simulate.devices import Fleet, Shares, run_id
from gateway.simulate.dialects import Dialects
from gateway.simulate.pace import Pace
from gateway.simulate.progress import progress_bar
from gateway.simulate.publisher import Publisher, Tally
from gateway.simulate.summary import Summary, counts
from runtime.errors import Stop
from runtime.lifecycle import unless
from runtime.mqtt import MqttSession, options_from

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from runtime.mqtt import Session
    from runtime.mqtt.port import Qos
    from runtime.settings import Broker, Settings

log = structlog.get_logger()

_REACH_S: Final = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to simulate.

    Attributes:
        rate: messages a second, of all devices together.
        seconds: how long; None with `messages` None too means until stopped.
        messages: how many.
        topic: where devices publish; `{device_id}` and `{region}` are filled.
        passwords: of devices by name, each with a connection of its own; empty for who the configuration is.
        dialects: whose examples are sent instead, below `prefix`; empty for devices of our own.
        progress: draw a progress bar on stderr.
    """

    devices: int
    regions: int
    rate: float
    seconds: float | None
    messages: int | None
    qos: Qos
    connections: int
    shares: Shares
    seed: int
    topic: str
    passwords: Mapping[str, str] = field(default_factory=dict)
    dialects: tuple[str, ...] = ()
    prefix: str = ""
    progress: bool = False


async def simulate(settings: Settings, options: Options, stop: asyncio.Event) -> Summary:
    """Connect, send until done or stopped, and sum up.

    Raises:
        Stop: the broker refuses the messages, or cannot be used at all.
    """
    run = run_id(options.seed, time.time())
    fleet = _fleet(options, run)
    pace = Pace(options.rate, messages=options.messages, seconds=options.seconds)
    tally = Tally()
    async with AsyncExitStack() as stack:
        if options.progress:
            await stack.enter_async_context(progress_bar(tally, pace.total))
        sessions: list[Session] = []
        for broker in _brokers(settings.broker, options, run):
            session = MqttSession(options_from(broker, clean_start=True))
            sessions.append(await stack.enter_async_context(session))
        await unless(stop, _reach(sessions, settings))
        publisher = Publisher(fleet, sessions, pace, options.qos, tally)
        log.info("simulation_started", run=run, seed=options.seed, topic=options.topic, rate=options.rate)
        await publisher.run(stop)
        elapsed_s = publisher.elapsed_s
        connections = [session.status.connections for session in sessions]
    acknowledged = tally.acknowledged.total()
    return Summary(
        run=run,
        devices=len(fleet.speakers) if isinstance(fleet, Dialects) else options.devices,
        regions=0 if isinstance(fleet, Dialects) else options.regions,
        dialects=len(fleet.names) if isinstance(fleet, Dialects) else 0,
        connections=options.connections,
        qos=options.qos,
        seconds=round(elapsed_s, 3),
        rate_asked=options.rate,
        rate_reached=round(acknowledged / elapsed_s, 1) if elapsed_s else 0.0,
        sent=tally.sent.total(),
        acknowledged=acknowledged,
        kinds=counts(tally),
        readings=tally.readings,
        repeated=tally.repeated,
        lost=tally.lost,
        behind=tally.behind,
        reconnects=sum(max(0, count - 1) for count in connections),
        complete=acknowledged + tally.lost == tally.made,
    )


def _brokers(broker: Broker, options: Options, run: str) -> Iterator[Broker]:
    """What each connection goes by."""
    if not options.passwords:
        for index in range(options.connections):
            yield msgspec.structs.replace(broker, client_id=f"simulate-{run}-{index}")
    for name, word in options.passwords.items():
        yield msgspec.structs.replace(
            broker, client_id=name, username=name, password=word, tls_cert_file="", tls_key_file=""
        )


async def _reach(sessions: Sequence[Session], settings: Settings) -> None:
    """Wait for the first connection.

    Raises:
        Stop: there is none; it says why.
    """
    try:
        async with asyncio.timeout(_REACH_S):
            await sessions[0].connected()
    except TimeoutError:
        broker = f"{settings.broker.host}:{settings.broker.port}"
        raise Stop(f"no connection to {broker} within {_REACH_S:g} s: {sessions[0].status.reason}") from None


def _fleet(options: Options, run: str) -> Fleet | Dialects:
    if options.dialects:
        return Dialects(options.dialects, prefix=options.prefix, seed=options.seed)
    return Fleet(
        devices=options.devices,
        regions=options.regions,
        shares=options.shares,
        topic=options.topic,
        run=run,
        seed=options.seed,
        names=tuple(options.passwords),
    )
