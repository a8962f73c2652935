"""A gateway's place among others: its stream, and every name that it goes by."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

_NAME_BYTES = 63  # longer names are cut by PostgreSQL


@dataclass(frozen=True)
class Slot:
    """What must be a gateway's own.

    Attributes:
        stream: that it writes.
        client_id: by which the broker knows its session.
        broker: host and port at which the client id must be the only one; empty without a session.
    """

    stream: int
    client_id: str
    broker: str = ""

    @property
    def relay_id(self) -> str:
        """The client id of the session that events go out by."""
        return f"{self.client_id}-relay"

    @property
    def watch_id(self) -> str:
        """The client id of the session that watches the broker."""
        return f"{self.client_id}-watch"

    @property
    def session(self) -> str:
        """What is locked so that nobody else connects with the client id; empty without a session."""
        return f"{self.client_id} at {self.broker}" if self.broker else ""

    @property
    def owner_name(self) -> str:
        """Who this is, for whoever is refused."""
        return f"{self.client_id} on {socket.gethostname()}, pid {os.getpid()}"

    @cached_property
    def holder_name(self) -> str:
        """The name of the connection that holds the lock: it says where to look for the process."""
        ending = f", pid {os.getpid()}/{_place()}"
        host = socket.gethostname()[:12]
        client = self.client_id.encode("ascii", "replace").decode()
        return f"gateway {client[: _NAME_BYTES - len(f'gateway  on {host}{ending}')]} on {host}{ending}"


def letters_of(client_id: str) -> dict[str, str]:
    """The setting of a session by which `dead_letters` knows whose a letter is."""
    return {"mqtt_edge.gateway": client_id}


def is_gone(holder_name: str) -> bool:
    """Whether the process that a connection was named for ran where this one runs, and is there no more."""
    found = re.search(r", pid (\d+)/(\w+)$", holder_name)
    if found is None or not found[2] or found[2] != _place():
        return False
    try:
        os.kill(int(found[1]), 0)  # where other users' processes are hidden /proc has none of them
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False


def is_of_client(holder_name: str, slot: Slot) -> bool:
    """Whether a connection was named for a process with this client id, as far as the name tells."""
    return holder_name.partition(" on ")[0] == slot.holder_name.partition(" on ")[0]


def _place() -> str:
    """Names this boot of this machine and the namespace of its process ids; empty where nobody can tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        namespace = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return ""
    return blake2b(f"{boot}{namespace}".encode(), digest_size=3).hexdigest()
