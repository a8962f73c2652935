"""Secrets, and what servers keep of them: a server that is given these never sees a password in its files."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import b64encode
from typing import Final

_BYTES: Final = 24
_MOSQUITTO_ROUNDS: Final = 101  # its own default; words of 192 bits need no more
_MOSQUITTO_SALT: Final = 12  # mosquitto 2.0 takes no other
_SCRAM_ROUNDS: Final = 4096  # PostgreSQL's own, and the least of RFC 7677 §4
_SCRAM_SALT: Final = 16


def new_word() -> str:
    """A password that stands in a URL, a file or a shell as it is."""
    while (word := secrets.token_urlsafe(_BYTES)).startswith("-"):  # no option of a command
        pass
    return word


def for_mosquitto(word: str) -> str:
    """As `password_file` of mosquitto 2 has it: `$7$rounds$salt$PBKDF2-HMAC-SHA512`."""
    salt = secrets.token_bytes(_MOSQUITTO_SALT)
    digest = hashlib.pbkdf2_hmac("sha512", word.encode(), salt, _MOSQUITTO_ROUNDS)
    return f"$7${_MOSQUITTO_ROUNDS}${_text(salt)}${_text(digest)}"


def for_postgres(word: str) -> str:
    """As `pg_authid` has it: a SCRAM-SHA-256 verifier (RFC 5803). SASLprep changes no word of ours."""
    salt = secrets.token_bytes(_SCRAM_SALT)
    salted = hashlib.pbkdf2_hmac("sha256", word.encode(), salt, _SCRAM_ROUNDS)
    stored = hashlib.sha256(_mac(salted, b"Client Key")).digest()
    return f"SCRAM-SHA-256${_SCRAM_ROUNDS}:{_text(salt)}${_text(stored)}:{_text(_mac(salted, b'Server Key'))}"


def for_redis(word: str) -> str:
    """As a users' file of Redis has it."""
    return f"#{hashlib.sha256(word.encode()).hexdigest()}"


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _text(data: bytes) -> str:
    return b64encode(data).decode()
