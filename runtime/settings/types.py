"""What keys may hold: types with the words that an error message uses, and what a section is."""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec
from msgspec import Meta

# `description` is what an error message says was expected.
Port = Annotated[int, Meta(ge=1, le=65535, description="a port from 1 to 65535")]
Text = Annotated[str, Meta(min_length=1, description="text that is not empty")]
ClientId = Annotated[str, Meta(min_length=1, max_length=128, description="1 to 128 characters")]
Duration = Annotated[
    str,
    Meta(
        pattern=r"^[1-9][0-9]*(ms|s|m|h|d)$",
        description='a duration such as "250ms", "90s", "15m", "24h" or "7d"',
    ),
]
Age = Annotated[
    str,
    Meta(
        pattern=r"^([1-9][0-9]{0,4}(h|d))?$",
        description='an age such as "36h" or "90d", or "" for no limit',
    ),
]
HostPort = Annotated[
    str,
    Meta(
        pattern=r"^[^:\s]+:[0-9]{1,5}$|^\[[0-9a-fA-F:]+\]:[0-9]{1,5}$",
        description='an address such as "127.0.0.1:9101" or "[::1]:9101"',
    ),
]
HostName = Annotated[
    str,
    Meta(
        pattern=r"^(\*|(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?)$",
        max_length=253,
        description='host names such as "edge.example" or "*.example", or "*" for any',
    ),
]
HostId = Annotated[
    str,
    Meta(
        pattern=r"^[^+#/\x00-\x1f]*$",
        max_length=128,
        description='a level of a topic such as "edge-gateway", or "" for none',
    ),
]
Topic = Annotated[
    str,
    Meta(
        pattern=r"^[^+#\x00]+$",
        max_length=1000,
        description="a topic of 1 to 1000 characters without + and #",
    ),
]
Paths = Annotated[
    str,
    Meta(
        pattern=r"^[^\x00-\x1f]*$",
        max_length=1000,
        description='names of fields such as "id" or "meta.id | id", or "" for none',
    ),
]

Url = Annotated[
    str,
    Meta(
        pattern=r"^(https?://[^\s?#]+)?$",
        max_length=1000,
        description='an address such as "https://grafana.example", or "" for none',
    ),
]
Number = Annotated[float, Meta(description="a number")]
Pattern = Annotated[
    str,
    Meta(
        pattern=r"^[^\x00]*$",
        max_length=512,
        description='a name, or a pattern such as "pump-*", or "" for any',
    ),
]
Lasting = Annotated[
    str,
    Meta(
        pattern=r"^([1-9][0-9]*(ms|s|m|h|d))?$",
        description='a duration such as "90s" or "5m", or "" for none',
    ),
]
Unit = Annotated[str, Meta(max_length=12, description='a unit of at most 12 characters such as "°C"')]

Size = Annotated[
    str,
    Meta(
        pattern=r"^[1-9][0-9]{0,11}( ?[kMGT]B)?$",
        description='a size such as "500MB" or "1GB"',
    ),
]

_SIZE: Final = {"": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_DURATION_MS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SECRETS: Final = frozenset({"password", "dsn", "url", "api_url"})


def duration_s(text: str) -> float:
    """Convert a checked duration such as `24h` or `250ms` to seconds."""
    number, unit = re.fullmatch(r"([0-9]+)([a-z]+)", text).groups()  # type: ignore[union-attr]  # checked at start
    return int(number) * _DURATION_MS[unit] / 1000


def size_bytes(text: str) -> int:
    """Convert a checked size such as `500MB` to bytes; a thousand of one unit are one of the next."""
    number, unit = re.fullmatch(r"([0-9]+) ?([a-zA-Z]*)", text).groups()  # type: ignore[union-attr]  # checked at start
    return int(number) * _SIZE[unit]


def host_port(text: str) -> tuple[str, int]:
    """Split a checked `host:port`, brackets of an IPv6 address removed."""
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A section of the file: unknown keys are refused, and secrets stay out of its `repr`."""

    def __repr__(self) -> str:
        shown = (
            f"{name}={'***' if name in _SECRETS and value else repr(value)}"
            for name, value in msgspec.structs.asdict(self).items()
        )
        return f"{type(self).__name__}({', '.join(shown)})"
