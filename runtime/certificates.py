"""When certificates end: those in files that the configuration names, and those that a broker shows.

A certificate that ends takes all devices with it at once, so it is told long before.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from runtime.settings.addresses import split_redis

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client import Metric

    from runtime.mqtt import SessionStatus
    from runtime.settings import Settings

SOON_S: Final = 30 * 86_400
"""How long before its end a certificate is told of."""


class CertificateFile(NamedTuple):
    """A file of certificates in PEM.

    Attributes:
        path: of the file.
        trusted: whether others are verified by them: then one that lasts is enough. Else all are shown
            together, and the first that ends is the end.
    """

    path: str
    trusted: bool

    def ends(self) -> float:
        """Epoch seconds of its end.

        Raises:
            OSError: it cannot be read.
            ValueError: there is no certificate in it.
        """
        from cryptography import x509  # noqa: PLC0415  # of no use without files

        found = x509.load_pem_x509_certificates(Path(self.path).read_bytes())
        ends = [each.not_valid_after_utc.timestamp() for each in found]
        return max(ends) if self.trusted else min(ends)


def files_of(settings: Settings, program: str) -> dict[str, CertificateFile]:
    """The files that a program's configuration names, by the key that does.

    Args:
        settings: checked.
        program: whose listener it is, `gateway` or `projector`.
    """
    listener = settings.gateway if program == "gateway" else settings.projector
    postgres, redis = _options(settings.postgres.dsn), _options(split_redis(settings.redis.url).server)
    files = {
        "broker.tls_ca_file": CertificateFile(settings.broker.tls_ca_file, trusted=True),
        "broker.tls_cert_file": CertificateFile(settings.broker.tls_cert_file, trusted=False),
        "events.tls_ca_file": CertificateFile(settings.events.tls_ca_file or "", trusted=True),
        "events.tls_cert_file": CertificateFile(settings.events.tls_cert_file or "", trusted=False),
        "postgres.dsn sslrootcert": CertificateFile(postgres.get("sslrootcert", ""), trusted=True),
        "postgres.dsn sslcert": CertificateFile(postgres.get("sslcert", ""), trusted=False),
        "redis.url ssl_ca_certs": CertificateFile(redis.get("ssl_ca_certs", ""), trusted=True),
        "redis.url ssl_certfile": CertificateFile(redis.get("ssl_certfile", ""), trusted=False),
        f"{program}.tls_cert": CertificateFile(listener.tls_cert, trusted=False),
    }
    return {key: file for key, file in files.items() if file.path}


def shown_until(certificate: Mapping[str, Any] | None) -> float | None:
    """Epoch seconds of the end of a certificate that a server showed, as `ssl` gives it; None without one."""
    until = (certificate or {}).get("notAfter")
    return None if until is None else float(ssl.cert_time_to_seconds(until))


class Certificates(Collector):
    """A metric of them; one that is not there, or cannot be read, has none.

    Args:
        program: in front of the metric's name.
        files: by the key that names them.
    """

    def __init__(self, program: str, files: Mapping[str, CertificateFile]) -> None:
        self._program = program
        self._files = files
        self._shown: dict[str, SessionStatus] = {}

    def watch(self, name: str, status: SessionStatus) -> None:
        """Tell of the certificate that the broker of a session shows, too."""
        self._shown[name] = status

    def collect(self) -> Iterator[Metric]:
        """Read them all."""
        family = GaugeMetricFamily(
            f"{self._program}_certificate_expires_timestamp_seconds",
            "When a certificate ends: one that a broker shows, or one in a file.",
            labels=["certificate"],
        )
        for key, file in self._files.items():
            try:
                family.add_metric([key], file.ends())
            except (OSError, ValueError):
                continue  # whoever needs it says so
        for name, status in self._shown.items():
            if status.certificate_ends is not None:
                family.add_metric([name], status.certificate_ends)
        yield family


def _options(url: str) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(urlsplit(url).query).items()}
