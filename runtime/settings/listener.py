"""Who may look at a process over HTTP: the keys that `[gateway]` and `[projector]` have alike.

An address of this machine alone (`127.0.0.1`, `[::1]`, `localhost`) is open to who is on this machine. Any
other needs tokens, or reverse proxies that vouch for whoever they let through.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Final

from msgspec import Meta

from runtime.errors import ConfigurationError
from runtime.settings.types import HostPort, Section, host_port

_HIGHEST_PORT: Final = 65535

Network = Annotated[
    str,
    Meta(
        pattern=r"^[0-9a-fA-F:.]+(/[0-9]{1,3})?$",
        description='addresses such as "10.0.0.7", or networks such as "10.0.0.0/24"',
    ),
]


class Listener(Section, frozen=True):
    """A listener for HTTP.

    `tokens_file` is described in `runtime.tokens`; with one every request needs a token, whoever passes it
    on. `trust_proxy` are the reverse proxies whose `X-Forwarded-For`, `-Proto` and `-Prefix` are believed.
    `max_requests_per_s` and `max_connections` are those of one address that is not this machine's own.
    """

    http: HostPort = "127.0.0.1:0"
    tokens_file: str = ""
    trust_proxy: tuple[Network, ...] = ()
    tls_cert: str = ""
    tls_key: str = ""
    max_requests_per_s: Annotated[int, Meta(ge=1, le=100_000)] = 100
    max_connections: Annotated[int, Meta(ge=1, le=10_000)] = 100

    @property
    def is_local(self) -> bool:
        """Whether nobody but this machine reaches it."""
        host = host_port(self.http)[0]
        if host == "localhost":
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False  # a name: whose address it is is not known here


def check_listener(name: str, listener: Listener) -> None:
    """Refuse keys of a listener that are impossible, or do nothing.

    Raises:
        ConfigurationError: with the key.
    """
    if host_port(listener.http)[1] > _HIGHEST_PORT:
        raise ConfigurationError(f"{name}.http: the port is beyond {_HIGHEST_PORT}")
    for network in listener.trust_proxy:
        try:
            has_all = not ipaddress.ip_network(network).prefixlen
        except ValueError as error:
            raise ConfigurationError(f"{name}.trust_proxy: {error}") from None
        if has_all:
            raise ConfigurationError(f"{name}.trust_proxy: {network} is everybody; name the proxies alone")
    if bool(listener.tls_cert) != bool(listener.tls_key):
        has, lacks = ("tls_cert", "tls_key") if listener.tls_cert else ("tls_key", "tls_cert")
        raise ConfigurationError(f"{name}.{has}: needs {name}.{lacks} beside it")


def refuse_open(name: str, listener: Listener) -> str | None:
    """Why a process must not listen so; None when it may."""
    if listener.is_local or listener.tokens_file or listener.trust_proxy:
        return None
    return (
        f"{name}.http: {listener.http} can be reached from other machines, and anybody there could look; set "
        f"{name}.tokens_file ({name} token NAME makes a token), or {name}.trust_proxy to the address of the "
        f"reverse proxy that lets in who may, or listen on 127.0.0.1"
    )
