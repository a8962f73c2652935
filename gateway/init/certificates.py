"""The site's own certificate authority, and what is wrong with certificates that somebody else gave.

The authority's key signs what the broker shows, and what gateway and projector show to the broker. Keys are
those of P-256, which small devices can verify too.
"""

from __future__ import annotations

import ipaddress
import ssl
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from runtime.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_AUTHORITY_LASTS: Final = timedelta(days=3650)
_LASTS: Final = timedelta(days=825)  # the longest that Apple's systems take
_EARLIER: Final = timedelta(days=1)  # a device whose clock is behind
_LONGEST_NAME: Final = 64  # X.520; what a server's certificate is for stands elsewhere in it
_MOST_STEPS: Final = 10


class Pair(NamedTuple):
    """A certificate and its key, both in PEM."""

    certificate: str
    key: str


def make_authority(name: str, now: datetime, key_there: str | None = None) -> Pair:
    """An authority that signs itself, and may sign no other; with the key that is there, if one is."""
    key = ec.generate_private_key(ec.SECP256R1()) if key_there is None else _key(key_there)
    subject = _name(name)
    builder = _builder(subject, subject, key.public_key(), now, _AUTHORITY_LASTS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_others=True), critical=True)
    return _pair(builder.sign(key, hashes.SHA256()), key)


def issue(authority: Pair, name: str, now: datetime, *, hosts: Sequence[str] = ()) -> Pair:
    """A certificate of the authority: of a server with these names and addresses, without any of a client."""
    issuer = x509.load_pem_x509_certificate(authority.certificate.encode())
    issuers_key = _key(authority.key)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(_name(name), issuer.subject, key.public_key(), now, _LASTS)
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_others=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuers_key.public_key()), critical=False
        )
    )
    if hosts:
        names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    return _pair(builder.sign(issuers_key, hashes.SHA256()), key)


def is_for(certificate: str, hosts: Sequence[str]) -> bool:
    """Whether a server's certificate is for these names and addresses, and for no others."""
    try:
        found = x509.load_pem_x509_certificate(certificate.encode())
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return False
    return set(names) == {_general_name(host) for host in hosts}


def check_given(certificate: Path, key: Path, authority: Path | None, hosts: Sequence[str]) -> None:
    """Refuse a server's certificate that a client would refuse: one shakes hands with it, in memory.

    Args:
        certificate: with those between it and the authority behind it.
        key: its own.
        authority: what clients trust; None for what this system trusts.
        hosts: under which clients reach the server.

    Raises:
        ConfigurationError: what is wrong with which.
    """
    for option, path in (("--cert", certificate), ("--key", key), ("--ca", authority)):
        if path is not None:
            _refuse_unreadable(option, path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        server.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        reason = (error.reason or str(error)).replace("_", " ").lower()
        if "mismatch" in reason:
            raise ConfigurationError(
                f"--key: {key} is not the key of the certificate {certificate}"
            ) from None
        raise ConfigurationError(f"--cert, --key: {certificate} and {key} cannot be used: {reason}") from None
    try:
        client = ssl.create_default_context(cafile=authority)
    except ssl.SSLError:
        raise ConfigurationError(f"--ca: {authority} holds no certificate in PEM") from None
    for host in hosts:
        if reason := _refusal(server, client, host):
            raise ConfigurationError(f"--cert: a client that reaches it as {host} refuses it: {reason}")


def _refuse_unreadable(option: str, path: Path) -> None:
    try:
        path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{option}: cannot read {path}: {error.strerror}") from None


def _no_password() -> str:
    raise ConfigurationError("--key: it is encrypted; mosquitto would ask for its password at each start")


def _refusal(server_context: ssl.SSLContext, client_context: ssl.SSLContext, host: str) -> str:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=host)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(_MOST_STEPS):
        done = 0
        for side in (client, server):
            try:
                side.do_handshake()
                done += 1
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return error.verify_message
            except ssl.SSLError as error:
                return error.reason or str(error)
        if done == 2:  # noqa: PLR2004  # both sides
            return ""
    return "the handshake does not end"


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    lasts: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + lasts)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_others: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_others,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_others,
        crl_sign=signs_others,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:_LONGEST_NAME])])


def _key(pem: str) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Pair(certificate.public_bytes(pem).decode(), private.decode())
