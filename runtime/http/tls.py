"""TLS on a listener, with the certificate that its files hold now.

A handshake looks at the files, at most once a second, and takes what they hold when they have changed: who
renews certificates has nothing to tell us. Files that do not go together, as halfway through a renewal, leave
the certificate that was there in force, and the log says why.
"""

from __future__ import annotations

import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from runtime.errors import ConfigurationError
from runtime.secret import no_passphrase

if TYPE_CHECKING:
    from collections.abc import Callable

_LOOK_S: Final = 1.0

log = structlog.get_logger()


class Certificate:
    """A certificate chain and its key, as files.

    Attributes:
        context: for a listener.

    Args:
        cert: the file of the chain, PEM.
        key: that of the key.
        setting: the section that names them.

    Raises:
        ConfigurationError: they cannot be used.
    """

    def __init__(
        self, cert: str, key: str, *, setting: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cert, self._key = cert, key
        self._clock = clock
        self._looked_at = clock()
        self._stamp = self._stamps()
        try:
            self._newest = self.context = self._load()
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(f"{setting}.tls_cert: {self._why(error)}") from None
        self.context.sni_callback = self._choose

    def _choose(
        self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _: ssl.SSLContext
    ) -> None:
        """Called in every handshake, whether the client names us or not."""
        now = self._clock()
        if now - self._looked_at >= _LOOK_S:
            self._looked_at = now
            self._look()
        connection.context = self._newest

    def _look(self) -> None:
        if (stamp := self._stamps()) == self._stamp:
            return
        self._stamp = stamp
        try:
            self._newest = self._load()
        except (OSError, ssl.SSLError) as error:
            log.warning("certificate_refused", reason=self._why(error), detail="the one before is in force")
        else:
            log.info("certificate_read", file=self._cert)

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._cert, self._key, no_passphrase)
        return context

    def _why(self, error: OSError) -> str:
        return f"cannot use {self._cert} with {self._key}: {error.strerror or error}"

    def _stamps(self) -> list[tuple[int, ...]]:
        return [_stamp(each) for each in (self._cert, self._key)]


def _stamp(file: str) -> tuple[int, ...]:
    try:
        status = Path(file).stat()
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_size, status.st_ino
