"""What the query API is compared with: the same framework, answering one HGETALL as JSON and nothing else.

    python -m bench.bare_http --http 127.0.0.1:9102 --redis redis://127.0.0.1:6379/0

The same application factory, server, event loop and Redis library as the projector's; the hash goes out as it
is, a JSON object of strings.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, cast

from litestar import get
from prometheus_client import CollectorRegistry

from runtime.http import Health, create_app, health_routes, serve
from runtime.lifecycle import run_until_stopped
from runtime.redis import open_redis

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable


async def answer(http: str, redis_url: str, stop: asyncio.Event) -> None:
    """Serve until `stop` is set."""
    async with open_redis(redis_url) as redis:

        @get("/devices/{device_id:str}/stats")
        async def device_stats(device_id: str) -> dict[str, str]:
            key = f"device:stats:{device_id}"
            found = await cast("Awaitable[dict[bytes, bytes]]", redis.hgetall(key))
            return {name.decode(): value.decode() for name, value in found.items()}

        app = create_app([device_stats, *health_routes(Health(), CollectorRegistry(), "bench")])
        await serve(app, http, stop)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--http", required=True)
    parser.add_argument("--redis", required=True)
    options = parser.parse_args()
    sys.exit(run_until_stopped(lambda stop: answer(options.http, options.redis, stop), shutdown_timeout_s=5))


if __name__ == "__main__":
    main()
