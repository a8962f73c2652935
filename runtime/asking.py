"""Asking a process of this machine over HTTP, at the listener that its configuration names."""

from __future__ import annotations

import http.client
import ssl
from typing import TYPE_CHECKING

from runtime.settings import host_port

if TYPE_CHECKING:
    from runtime.settings import Listener


def connection_to(listener: Listener, timeout_s: float) -> http.client.HTTPConnection:
    """A connection that is made at the first request; by TLS to who has its certificate alone.

    Raises:
        OSError: the certificate cannot be read.
    """
    host, port = host_port(listener.http)
    if not listener.tls_cert:
        return http.client.HTTPConnection(host, port, timeout=timeout_s)
    context = ssl.create_default_context(cafile=listener.tls_cert)
    context.check_hostname = False  # its own certificate, whatever name that is for
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)
