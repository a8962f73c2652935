"""`python -m deploy.local`: start the servers, print how to reach them as shell commands, wait for Ctrl-C."""

from __future__ import annotations

import asyncio
import shlex
import signal
import sys

from deploy.local.services import LocalServices
from runtime.errors import Stop


async def main() -> None:
    """Serve until SIGINT or SIGTERM."""
    end = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end.set)
    async with LocalServices() as services:
        for name, value in services.environment().items():
            print(f"export {name}={shlex.quote(value)}", flush=True)
        print("ready; Ctrl-C stops them", file=sys.stderr, flush=True)
        await end.wait()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except Stop as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
