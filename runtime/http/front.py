"""What stands before an application: TLS, trusted proxies, limits, and the rule of who may look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from prometheus_client import Counter

from runtime.http.access import Access
from runtime.http.limits import Limits
from runtime.http.tls import Certificate

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from runtime.settings import Listener

REASONS = ("rate", "connections", "token", "scope", "address")

log = structlog.get_logger()


class Front:
    """That of one listener.

    Attributes:
        access: for `create_app`.

    Args:
        listener: its section of the configuration.
        name: the section's, with which the names of metrics begin.

    Raises:
        ConfigurationError: a file of it cannot be used, or it would be open to other machines.
    """

    def __init__(self, listener: Listener, name: str, registry: CollectorRegistry) -> None:
        counter = Counter(
            f"{name}_http_refused",
            "Requests and connections that were refused: too many of one address, or not allowed.",
            ["reason"],
            registry=registry,
        )
        counts = {reason: counter.labels(reason) for reason in REASONS}

        def refused(reason: str) -> None:
            counts[reason].inc()

        self.access = Access(listener, name, refused)
        self.limits = Limits(
            listener.max_requests_per_s,
            listener.max_connections,
            proxies=self.access.proxies,
            refused=refused,
        )
        self.tls = (
            Certificate(listener.tls_cert, listener.tls_key, setting=name) if listener.tls_cert else None
        )
        if self.access.tokens and not (self.tls or listener.is_local or listener.trust_proxy):
            log.warning(
                "tokens_in_the_clear",
                address=listener.http,
                detail=f"tokens can be read on the way: set {name}.tls_cert and {name}.tls_key",
            )

    def wrap(self, app: Any) -> Any:  # noqa: ANN401  # ASGI, as uvicorn and as Litestar have it
        """The application behind all of this."""
        return self.access.proxies.wrap(self.limits.wrap(app))
