"""Which names a server answers to.

A page of somebody else's can make its own name point to our address (DNS rebinding): the browser then takes
our answers for that page's own. The name stays in the request, so a server answers only to addresses, to the
names of its machine, and to those it is told of.
"""

from __future__ import annotations

import ipaddress
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from litestar.exceptions import HTTPException

if TYPE_CHECKING:
    from collections.abc import Iterable

    from litestar.types import ASGIApp, Receive, Scope, Send

ANY_HOST: Final = "any_host"
"""The option of handlers that answer whatever the name."""


class Hosts:
    """Refuses requests to other names than these.

    Args:
        names: beside addresses, `localhost` and the machine's own; `*.example` is any below it, `*` any.
        setting: the configuration key that holds the names, for the message.
    """

    def __init__(self, names: Iterable[str], *, setting: str) -> None:
        machine = socket.gethostname().lower()
        short = machine.partition(".")[0]
        self._names = {"localhost", machine, short, f"{short}.local", *(name.lower() for name in names)}
        self._endings = tuple(name[1:] for name in self._names if name.startswith("*."))
        self._setting = setting

    def has(self, host: str) -> bool:
        """Whether a server of these names is meant.

        Args:
            host: as the request has it, with a port or without (RFC 9110 §7.2).
        """
        name = _name(host)
        return "*" in self._names or name in self._names or name.endswith(self._endings) or _is_address(name)

    def guard(self, app: ASGIApp) -> ASGIApp:
        """An application that answers to these names only, but for handlers with the option `ANY_HOST`."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            for field, value in scope["headers"]:
                if field == b"host" and not scope["route_handler"].opt.get(ANY_HOST):
                    self._check(value.decode("latin-1"))
            await app(scope, receive, send)

        return guarded

    def _check(self, host: str) -> None:
        if not self.has(host):
            raise HTTPException(
                status_code=HTTPStatus.MISDIRECTED_REQUEST,
                detail=f"{host!r} is none of the names that this server answers to; if it is right, "
                f"add {_name(host)!r} to the setting {self._setting}",
            )


def _name(host: str) -> str:
    name, colon, port = host.rpartition(":")
    if not colon or not port.isdecimal():
        name = host
    return name.rstrip(".").lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
