"""Who may look at gateway and projector over HTTP, and whether tokens and certificates can be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.check.report import Finding
from runtime.errors import ConfigurationError
from runtime.settings import refuse_open
from runtime.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from runtime.settings import Listener, Settings


async def check_listeners(settings: Settings) -> AsyncIterator[Finding]:
    """Look at both, whichever of them runs here."""
    for name, listener in (("gateway", settings.gateway), ("projector", settings.projector)):
        yield _found(name, listener)


def _found(name: str, listener: Listener) -> Finding:
    from runtime.http.tls import Certificate  # noqa: PLC0415  # brings all of HTTP along

    component = f"{name} http"
    if reason := refuse_open(name, listener):
        where, _, advice = reason.removeprefix(f"{name}.http: ").partition("; ")
        return Finding(component, "fail", where, advice)
    who = ["this machine alone" if listener.is_local else "other machines"]
    try:
        if listener.tokens_file:
            tokens = Tokens(listener.tokens_file, setting=f"{name}.tokens_file")
            who.append(f"with a token of {len(tokens)}")
        if listener.tls_cert:
            Certificate(listener.tls_cert, listener.tls_key, setting=name)
            who.append("over TLS")
    except ConfigurationError as error:
        return Finding(component, "fail", str(error), f"{name} run does not start so")
    if listener.trust_proxy:
        who.append(f"through {', '.join(listener.trust_proxy)}")
    found = f"{listener.http} answers {', '.join(who)}"
    if listener.tokens_file and not (listener.tls_cert or listener.is_local or listener.trust_proxy):
        advice = f"set {name}.tls_cert and {name}.tls_key"
        return Finding(component, "warn", f"{found}; tokens can be read on the way", advice)
    return Finding(component, "ok", found)
