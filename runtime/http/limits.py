"""How much one address may ask for, so that nobody keeps others from an answer.

Requests fill a bucket that empties at the rate that is allowed, and holds twice that. Connections are counted
as they come, streams of events with them; of a trusted proxy, whose connections are everybody's, the requests
under way of each address that it names. This machine's own are not counted, and strangers with many addresses
leave room for them. Probes have a bucket of their own: they may come from the address of a busy client, and
who is refused one starts the process anew. An address of IPv6 is its /64, which is what one gets. What is
remembered is bounded: who was away longest is forgotten first.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections import Counter, OrderedDict
from http import HTTPStatus
from math import ceil
from typing import TYPE_CHECKING, Any, Final

from runtime.http.proxies import FORWARDED

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.http.proxies import Proxies

CONNECTIONS: Final = 800  # in all; a process has 1,024 files unless it is told otherwise
OURS: Final = 50  # of them, for this machine and for trusted proxies alone
_PROBES: Final = frozenset({"/healthz", "/readyz"})
_BURST_S: Final = 2.0
_REMEMBERED: Final = 10_000
_PREFIX_BITS: Final = 64
_ROUNDING_S: Final = 1e-9


class Limits:
    """What is under way, and was lately, of each address.

    Args:
        requests_per_s: of one address.
        connections: of one address.
        proxies: whose own connections are not counted.
        refused: told why, whenever somebody is (`rate`, `connections`).
    """

    def __init__(
        self,
        requests_per_s: float,
        connections: int,
        *,
        proxies: Proxies,
        refused: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._rate = requests_per_s
        self._connections = connections
        self._proxies = proxies
        self._refused = refused
        self._emptied: OrderedDict[str, float] = OrderedDict()  # address → when its bucket will be empty
        self._under_way: Counter[str] = Counter()

    def connect(self, address: str, there: int) -> str | None:
        """A connection comes; returns what to `leave` with, None when it is one too many.

        Args:
            address: of the other end.
            there: how many there are in all, with this one.
        """
        ours = self._is_free(address) or self._proxies.has(address)
        entered = None
        if there <= (CONNECTIONS if ours else CONNECTIONS - OURS):
            entered = "" if ours else self._enter(address)
        if entered is None:
            self._refused("connections")
        return entered

    def leave(self, entered: str) -> None:
        """What was entered is over."""
        if entered:
            self._under_way[entered] -= 1
            if not self._under_way[entered]:
                del self._under_way[entered]

    def wrap(self, app: Any) -> Callable[..., Any]:  # noqa: ANN401  # ASGI, as uvicorn and as Litestar have it
        """An application that is asked no more than that."""

        async def limited(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401  # likewise
            address = scope["client"][0] if scope["type"] == "http" and scope["client"] else ""
            if not address or self._is_free(address):
                await app(scope, receive, send)
                return
            kind = "probe " if scope["path"] in _PROBES else ""
            if wait_s := self.take(address, asyncio.get_running_loop().time(), kind):
                self._refused("rate")
                await _refuse(
                    send, f"more than {self._rate:g} requests a second from {address}", ceil(wait_s)
                )
                return
            entered = ""
            if FORWARDED in scope.get("state", ()):
                found = self._enter(address)
                if found is None:
                    self._refused("connections")
                    await _refuse(send, f"more than {self._connections} requests under way from {address}", 5)
                    return
                entered = found
            try:
                await app(scope, receive, send)
            finally:
                self.leave(entered)

        return limited

    def take(self, address: str, now: float, kind: str = "") -> float:
        """Put a request into an address's bucket; returns after how many seconds there is room, 0 for now."""
        key = kind + _key(address)
        empty_at = max(self._emptied.get(key, now), now)
        if (full_for_s := empty_at - now + 1 / self._rate - _BURST_S) > _ROUNDING_S:
            return full_for_s
        self._emptied[key] = empty_at + 1 / self._rate
        self._emptied.move_to_end(key)
        if len(self._emptied) > _REMEMBERED:
            self._emptied.popitem(last=False)
        return 0.0

    def _enter(self, address: str) -> str | None:
        key = _key(address)
        if self._under_way[key] >= self._connections:
            return None
        self._under_way[key] += 1
        return key

    def _is_free(self, address: str) -> bool:
        return address.startswith("127.") or address == "::1"


def _key(address: str) -> str:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return address
    return str(ipaddress.ip_network((int(found) >> _PREFIX_BITS << _PREFIX_BITS, _PREFIX_BITS)))


async def _refuse(send: Any, detail: str, retry_after_s: int) -> None:  # noqa: ANN401  # ASGI
    status = HTTPStatus.TOO_MANY_REQUESTS
    problem = {"status": status, "type": "about:blank", "title": status.phrase, "detail": detail}
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"retry-after", str(retry_after_s).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(problem).encode(), "more_body": False})
