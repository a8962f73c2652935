"""Real private brokers, and sessions to them with a driver of choice.

`broker` is a mosquitto shared by the run, `start_broker` starts one to configure or kill, `old_broker` speaks
MQTT 3.1.1 only; `session` opens sessions with unique client ids; `events` waits for log events, so that no
test sleeps.
"""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from runtime.mqtt import MqttSession, SessionOptions, Subscription
from tests.brokers import built_mochi
from tests.conformance.support import (
    TIMEOUT_S,
    BrokerProcess,
    Events,
    OpenSession,
    StartBroker,
    free_port,
    warded,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence


@pytest.fixture(scope="session")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The process group of this run's brokers."""
    with warded(tmp_path_factory.mktemp("warden")) as made:
        yield made


@pytest.fixture(scope="session")
def start_broker(tmp_path_factory: pytest.TempPathFactory, group: int) -> Iterator[StartBroker]:
    """Start a mosquitto of its own, with more lines of configuration and more listeners (name → lines)."""
    brokers: list[BrokerProcess] = []

    def start(*lines: str, listeners: Mapping[str, Sequence[str]] | None = None) -> BrokerProcess:
        port = free_port()
        ports = {name: free_port() for name in listeners or {}}
        config = [
            "user root",
            "log_dest stderr",
            "log_type information",
            "log_type error",
            "persistence false",
            # With 0, unlimited, mosquitto 2.0.11 drops whoever publishes without the right to.
            "max_queued_messages 1000000",
            "max_inflight_messages 100",
            *lines,
            f"listener {port} 127.0.0.1",
        ]
        for name, options in (listeners or {}).items():
            config += [f"listener {ports[name]} 127.0.0.1", *options]
        if not any(line.startswith("allow_anonymous") for line in lines):
            config.append("allow_anonymous true")
        file = tmp_path_factory.mktemp("mosquitto") / "mosquitto.conf"
        file.write_text("\n".join(config) + "\n")
        broker = BrokerProcess(["mosquitto", "-c", str(file)], port, "running", group, ports)
        brokers.append(broker)
        broker.start()
        return broker

    yield start
    for broker in brokers:
        broker.kill()


@pytest.fixture(scope="session")
def broker(start_broker: StartBroker) -> BrokerProcess:
    """A mosquitto that takes everybody, on TCP and WebSockets."""
    return start_broker(listeners={"websockets": ["protocol websockets"]})


@pytest.fixture(scope="session")
def old_broker(tmp_path_factory: pytest.TempPathFactory, group: int) -> Iterator[BrokerProcess]:
    """A broker that speaks MQTT 3.1.1 and nothing else."""
    port = free_port()
    file = tmp_path_factory.mktemp("amqtt") / "amqtt.yaml"
    file.write_text(
        f"listeners:\n  default:\n    type: tcp\n    bind: 127.0.0.1:{port}\n"
        "plugins:\n  amqtt.plugins.authentication.AnonymousAuthPlugin:\n    allow_anonymous: true\n"
    )
    amqtt = str(Path(sys.executable).with_name("amqtt"))
    process = BrokerProcess([amqtt, "-c", str(file)], port, "bind to", group)
    try:
        process.start()
        yield process
    finally:
        process.kill()


@pytest.fixture(scope="session")
def mochi(group: int) -> Iterator[BrokerProcess]:
    """mochi-mqtt, built from `tests/brokers/mochi`: shared subscriptions, and one copy for all filters."""
    if os.environ.get("BROKERS") != "all":
        pytest.skip("asked by `make brokers`, which builds it")
    port = free_port()
    process = BrokerProcess([str(built_mochi()), str(port)], port, "serving", group)
    try:
        process.start()
        yield process
    finally:
        process.kill()


@pytest.fixture(params=["mosquitto", "mochi"])
def either(request: pytest.FixtureRequest) -> BrokerProcess:
    """One of the two brokers."""
    name = {"mosquitto": "broker", "mochi": "mochi"}[str(request.param)]
    broker: BrokerProcess = request.getfixturevalue(name)
    return broker


@pytest.fixture(params=["mqtt5", "mqtt311", "aiomqtt"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def topic() -> str:
    return f"test/{uuid.uuid4().hex}"


@pytest.fixture
def client_id() -> str:
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def session() -> AsyncIterator[OpenSession]:
    async with AsyncExitStack() as stack:

        async def open_session(
            broker: BrokerProcess,
            *filters: str | Subscription,
            wait: bool = True,
            **options: Any,  # noqa: ANN401  # any of the options
        ) -> MqttSession:
            subscriptions = tuple(
                each if isinstance(each, Subscription) else Subscription(each) for each in filters
            )
            options = {
                "host": "127.0.0.1",
                "port": broker.port,
                "client_id": f"test-{uuid.uuid4().hex[:12]}",
                "backoff_initial_s": 0.02,
                "backoff_max_s": 0.1,
                "subscriptions": subscriptions,
                **options,
            }
            session = MqttSession(SessionOptions(**options))
            await stack.enter_async_context(session)
            if wait:
                async with asyncio.timeout(TIMEOUT_S):
                    await session.connected()
            return session

        yield open_session


@pytest.fixture(autouse=True)
def events() -> Iterator[Events]:
    recorded = Events()
    structlog.configure(processors=[recorded])
    yield recorded
    structlog.reset_defaults()
