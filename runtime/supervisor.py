"""Tells systemd how the process stands: started, what it waits for, that its loop turns, that it stops.

*Started* (`READY=1`) is said when the configuration is taken and `/healthz` answers, not when all servers are
there. A process that waits for PostgreSQL does what it is for: were it to say so only when PostgreSQL is
there, `systemctl start` would hang through an outage, and end and start it over and over, which helps nobody.
What it waits for is its status (`systemctl status`) and `/readyz`. A wrong configuration ends it before.

Does nothing where nobody asks for it (no `NOTIFY_SOCKET`). Source: sd_notify(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runtime.http import Health

_LOOK_S: Final = 5.0
_LONGEST_STATUS: Final = 500


def notify(*lines: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Send lines such as `READY=1` to systemd, at once and without waiting.

    Returns:
        Whether somebody took them; nobody to tell, or a full socket, is no error.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)  # noqa: FBT003  # the standard library's signature
        sender.sendto("\n".join(lines).encode(), address)
        return True
    return False


async def keep_told(health: Health, listening: asyncio.Event, stop: asyncio.Event) -> None:
    """Say that the process has started, then what it waits for and that its loop turns, until `stop` is set.

    Args:
        health: readiness of the process.
        listening: set when its HTTP answers.
        stop: ends it.
    """
    if not os.environ.get("NOTIFY_SOCKET"):
        return
    ending = asyncio.create_task(stop.wait())
    begun = asyncio.create_task(listening.wait())
    try:
        await asyncio.wait({ending, begun}, return_when=asyncio.FIRST_COMPLETED)
        said = "READY=1"
        while not stop.is_set():
            notify(said, f"STATUS={status(health.reasons())}")
            said = "WATCHDOG=1"
            await asyncio.wait({ending}, timeout=interval_s(os.environ))
    finally:
        begun.cancel()
        ending.cancel()


def status(reasons: Mapping[str, str]) -> str:
    """What `systemctl status` shows: a line, of at most 500 characters."""
    if not reasons:
        return "Ready"
    waiting = "; ".join(f"{component}: {reason}" for component, reason in reasons.items())
    return f"Waiting for {' '.join(waiting.split())}"[:_LONGEST_STATUS]


def interval_s(environ: Mapping[str, str]) -> float:
    """Seconds from one word to the next: five, or a third of what the unit's `WatchdogSec` allows."""
    allowed = environ.get("WATCHDOG_USEC", "")
    if not allowed.isdecimal() or environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return _LOOK_S
    return min(_LOOK_S, int(allowed) / 3e6)
