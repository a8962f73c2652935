"""A session that takes messages, acknowledges them, and no more: the gateway's way to the broker, alone.

    python -m bench.drain_session --port 1883 --driver mqtt311 --messages 100000

As a process of its own, on uvloop, like the gateway. The messages wait in the broker, for its client id.
Prints a `Drained` as JSON.
"""

from __future__ import annotations

import argparse
import time
from typing import Final

import msgspec
import uvloop

from bench.drain import Drained
from runtime import logs
from runtime.mqtt import MqttSession, Subscription, options_from
from runtime.settings import Broker

CLIENT_ID: Final = "bench-drain"
WANTED: Final = (Subscription("devices/+/telemetry"),)


async def drain(broker: Broker, messages: int) -> Drained:
    """Take so many messages."""
    async with MqttSession(options_from(broker, subscriptions=WANTED, known=WANTED)) as session:
        chunk = await session.receive()
        started, cpu = time.monotonic(), time.process_time()
        taken = 0
        while True:
            taken += len(chunk.deliveries)
            chunk.ack()
            if taken >= messages:
                return Drained(taken, time.monotonic() - started, time.process_time() - cpu)
            chunk = await session.receive()


def main() -> None:
    """Drain; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--driver", required=True)
    parser.add_argument("--messages", type=int, required=True)
    arguments = parser.parse_args()
    logs.configure("json", "warning")
    broker = msgspec.convert(
        {"port": arguments.port, "driver": arguments.driver, "client_id": CLIENT_ID}, Broker
    )
    drained = uvloop.run(drain(broker, arguments.messages))
    print(msgspec.json.encode(drained).decode(), flush=True)


if __name__ == "__main__":
    main()
