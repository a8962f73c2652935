"""The drivers of an MQTT session in turn: the same messages of QoS 1 taken and acknowledged by each."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from bench.drain import Drained
from bench.drain_session import CLIENT_ID, WANTED
from bench.generator import Generator
from bench.load import Load
from bench.scenario import Scenario, run_alone
from bench.tables import Line
from deploy.local.children import Children
from deploy.local.services import LocalServices
from runtime.mqtt import MqttSession, options_from
from runtime.settings import Broker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.tables import CpuByCase

DRIVERS: Final = ("mqtt5", "mqtt311", "aiomqtt")
_POLL_S: Final = 0.02
_US: Final = 1e6


class Options(msgspec.Struct, frozen=True):
    """How many messages each driver is sent."""

    messages: int = 100_000


class Figures(msgspec.Struct, frozen=True):
    """One round, by driver.

    Attributes:
        per_s: messages taken and acknowledged a second.
        cpu_us: µs of CPU a message, of the process with the session.
    """

    per_s: dict[str, float]
    cpu_us: dict[str, float]


async def measure(_number: int, options: Options) -> Figures:
    """Measure each, one after the other, on a fresh broker each."""
    drained = {driver: await _drain(driver, options.messages) for driver in DRIVERS}
    return Figures(
        {driver: each.messages / each.seconds for driver, each in drained.items()},
        {driver: each.cpu_s / each.messages * _US for driver, each in drained.items()},
    )


async def _drain(driver: str, messages: int) -> Drained:
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as folder, Children(Path(folder), {}) as children:
        async with LocalServices(["mosquitto"], environ={}) as services:
            broker = Broker(port=services.mqtt_port, client_id=CLIENT_ID)
            async with MqttSession(options_from(broker, subscriptions=WANTED)) as session:
                await session.connected()
            async with Generator(services.mqtt_port, Load(messages=messages)) as generator:
                generator.go()
                await generator.result()
            arguments = ("--port", str(broker.port), "--messages", str(messages), "--driver", driver)
            child = children.start(driver, "bench.drain_session", *arguments)
            while not (said := await asyncio.to_thread(child.output.read_text, "utf-8")).endswith("\n"):
                children.check()
                await asyncio.sleep(_POLL_S)
    return msgspec.json.decode(said, type=Drained)


def lines(median: Figures) -> Sequence[Line]:
    """The table."""
    return [
        Line(f"taken and acknowledged by {driver}", f"{median.per_s[driver]:,.0f} messages/s")
        for driver in DRIVERS
    ]


def cpu(median: Figures) -> CpuByCase:
    """Of the process with the session."""
    return {driver: {"session": median.cpu_us[driver]} for driver in DRIVERS}


SCENARIO: Scenario[Any] = Scenario(
    name="drivers",
    title="Drivers of the MQTT session",
    text="The same messages of QoS 1, waiting in a fresh mosquitto, taken and acknowledged by a session with "
    "each driver: MQTT 5, MQTT 3.1.1 over the same socket, and MQTT 3.1.1 over aiomqtt and paho.",
    options=Options(),
    quick=Options(messages=3_000),
    figures=Figures,
    measure=measure,
    lines=lines,
    cpu=cpu,
)

if __name__ == "__main__":
    run_alone(SCENARIO)
