"""Reverse proxies that are trusted: what they say of a request counts as if it were its own.

`X-Forwarded-For` and `X-Forwarded-Proto` are uvicorn's to read. `X-Forwarded-Prefix` is the path below which
the proxy has us, such as `/edge`; our pages and redirects are relative and need it not, but a proxy that
leaves it in front of the path has it taken off here.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any, Final

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

if TYPE_CHECKING:
    from collections.abc import Sequence

FORWARDED: Final = "forwarded"
"""In a request's state when a trusted proxy passed it on: the path that it has us below, or ""."""

_PREFIX: Final = re.compile(rb"(/[A-Za-z0-9._~-]+)+")


_NOBODY: Final = ("unknown", 0)


def plain(address: str) -> str:
    """An IPv4 address as everybody writes it, which a socket for both kinds writes as IPv6."""
    return address.removeprefix("::ffff:") if "." in address else address


class Proxies:
    """Those at some addresses.

    Args:
        networks: addresses, and networks such as `10.0.0.0/24`.
    """

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = [ipaddress.ip_network(each) for each in networks]
        self._written = list(networks)

    def has(self, address: str) -> bool:
        """Whether one is there."""
        return _is_address(address) and any(
            ipaddress.ip_address(address) in network for network in self._networks
        )

    def wrap(self, app: Any) -> Any:  # noqa: ANN401  # ASGI, as uvicorn and as Litestar have it
        """An application that sees requests as they were before such a proxy."""
        if not self._networks:
            return app

        async def named(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401  # ASGI
            if scope["type"] == "http" and scope["client"] and not _is_address(scope["client"][0]):
                scope["client"] = _NOBODY  # whatever the proxy passed on, and of any length
            await app(scope, receive, send)

        forwarded = ProxyHeadersMiddleware(named, trusted_hosts=self._written)

        async def seen(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401  # likewise
            if scope["type"] == "http" and scope["client"] and self.has(scope["client"][0]):
                scope.setdefault("state", {})[FORWARDED] = _take_prefix(scope)
            await forwarded(scope, receive, send)

        return seen


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _take_prefix(scope: Any) -> str:  # noqa: ANN401  # likewise
    said = dict(scope["headers"]).get(b"x-forwarded-prefix", b"").strip().rstrip(b"/")
    if not _PREFIX.fullmatch(said):
        return ""
    prefix: str = said.decode("ascii")
    if scope["path"].startswith(f"{prefix}/") and scope["raw_path"].startswith(said + b"/"):
        scope["path"] = scope["path"].removeprefix(prefix)
        scope["raw_path"] = scope["raw_path"].removeprefix(said)
    return prefix
