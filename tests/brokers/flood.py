"""A flood through a broker and a real gateway, both of which are killed meanwhile; then the accounting.

Messages have keys of their own. What the broker acknowledged to the publisher has to be stored, once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import asyncpg
from paho.mqtt.client import Client as Paho
from paho.mqtt.client import MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion

from deploy.local.children import Child, Children
from deploy.local.figures import is_ready
from deploy.local.server import free_port

if TYPE_CHECKING:
    from deploy.local.services import LocalServices
    from tests.brokers.broker import Broker

_RATE: Final = 500
_ROUNDS: Final = ("gateway", "broker", "gateway", "broker")
_EVERY_S: Final = 5.0
_STILL_S: Final = 40.0
_READY_S: Final = 60.0
_MOST: Final = 65_535  # packet identifiers, which tell numbers apart


class Outcome(NamedTuple):
    """What became of it.

    Attributes:
        acknowledged: by the broker, to the publisher.
        lost: of them, those that are not stored, while one at a time was killed.
        lost_together: of those that came when both were away at once.
        doubled: messages that are stored more than once.
    """

    acknowledged: int
    lost: int
    lost_together: int
    doubled: int


class Publisher:
    """Publishes numbers at a steady rate until told to stop, and sends again what was not acknowledged.

    Attributes:
        count: of the numbers so far.
    """

    def __init__(self, broker: Broker) -> None:
        self.count = 0
        self._numbers: dict[int, int] = {}  # by packet identifier
        self._acked: set[int] = set()
        self._stop = threading.Event()
        self._client = Paho(
            CallbackAPIVersion.VERSION2,
            client_id=f"flood{os.getpid()}",
            protocol=MQTTv5 if broker.speaks_5 else MQTTv311,
            clean_session=None if broker.speaks_5 else False,
        )
        self._client.max_inflight_messages_set(broker.inflight)
        self._client.reconnect_delay_set(1, 2)
        self._client.on_publish = self._on_publish
        self._client.connect("127.0.0.1", broker.port)
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def acknowledged(self) -> set[int]:
        """Those of the numbers that the broker has taken."""
        return {self._numbers[mid] for mid in self._acked}

    def start(self) -> None:
        """Begin."""
        self._client.loop_start()
        self._thread.start()

    def stop(self) -> None:
        """Publish no more, and wait a while for what is under way."""
        self._stop.set()
        self._thread.join()
        until = time.monotonic() + _STILL_S
        while len(self._acked) < self.count and time.monotonic() < until:
            time.sleep(0.1)
        self._client.disconnect()
        self._client.loop_stop()

    def _run(self) -> None:
        began = time.monotonic()
        while self.count < _MOST and not self._stop.wait(
            max(0.0, began + self.count / _RATE - time.monotonic())
        ):
            payload = b'{"id": "%d", "n": %d}' % (self.count, self.count)
            topic = f"devices/d{self.count % 50}/telemetry"
            self._numbers[self._client.publish(topic, payload, 1).mid] = self.count
            self.count += 1

    def _on_publish(self, _client: Any, _data: Any, mid: int, code: Any, _properties: Any) -> None:  # noqa: ANN401  # paho's
        if not code.is_failure:
            self._acked.add(mid)


async def flood(broker: Broker, services: LocalServices, name: str) -> Outcome:
    """Send, kill, and count.

    Args:
        broker: running.
        services: with PostgreSQL.
        name: of a database to make.
    """
    dsn = await _database(services, name)
    http = f"127.0.0.1:{free_port()}"
    settings = {
        "EDGE_BROKER_HOST": "127.0.0.1", "EDGE_BROKER_PORT": str(broker.port), "EDGE_POSTGRES_DSN": dsn,
        "EDGE_BROKER_CLIENT_ID": f"gateway-{name}", "EDGE_GATEWAY_HTTP": http, "EDGE_SPOOL_PATH": "",
    }  # fmt: skip
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("EDGE_")}
    with (
        tempfile.TemporaryDirectory(prefix="edge-flood-") as folder,
        Children(Path(folder), settings, inherited=inherited) as children,
    ):
        gateway = await _gateway(children, http)
        publisher = Publisher(broker)
        publisher.start()
        for victim in _ROUNDS:
            await asyncio.sleep(_EVERY_S)
            if victim == "gateway":
                os.kill(gateway.pid, signal.SIGKILL)
                gateway.reap()
                gateway = await _gateway(children, http)
            else:
                await asyncio.to_thread(broker.kill)
        await asyncio.sleep(_EVERY_S)
        together = publisher.count
        os.kill(gateway.pid, signal.SIGKILL)
        gateway.reap()
        await asyncio.sleep(_EVERY_S)
        await asyncio.to_thread(broker.kill)
        gateway = await _gateway(children, http)
        await asyncio.to_thread(publisher.stop)
        stored = await _settled(dsn, publisher.acknowledged)
        os.kill(gateway.pid, signal.SIGKILL)
        gateway.reap()
    acknowledged = publisher.acknowledged
    lost = acknowledged - stored.keys()
    return Outcome(
        acknowledged=len(acknowledged),
        lost=sum(number < together for number in lost),
        lost_together=sum(number >= together for number in lost),
        doubled=sum(times > 1 for times in stored.values()),
    )


async def _gateway(children: Children, http: str) -> Child:
    child = children.start("gateway", "gateway", "run")
    async with asyncio.timeout(_READY_S):
        while not await asyncio.to_thread(is_ready, f"http://{http}"):
            pass
    return child


async def _database(services: LocalServices, name: str) -> str:
    connection = await asyncpg.connect(services.postgres_dsn)
    await connection.execute(f'CREATE DATABASE "{name}"')
    await connection.close()
    return services.postgres.dsn(name)


async def _settled(dsn: str, wanted: set[int]) -> dict[int, int]:
    """How often each number is stored, when all that are wanted are or no more come."""
    connection = await asyncpg.connect(dsn)
    until, stored = time.monotonic() + _STILL_S, dict[int, int]()
    while time.monotonic() < until and not wanted <= stored.keys():
        rows = await connection.fetch("SELECT message_key, count(*) AS n FROM measurements GROUP BY 1")
        found = {int(row["message_key"]): int(row["n"]) for row in rows}
        if len(found) > len(stored):
            until = time.monotonic() + _STILL_S
        stored = found
        await asyncio.sleep(0.5)
    await connection.close()
    return stored
