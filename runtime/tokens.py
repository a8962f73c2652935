"""Tokens: who may look at what, as a file of lines that holds no secret.

    # name       scopes        sha256 of the token
    wall         read          sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    prometheus   metrics       sha256:60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752

A line is a token: a name, scopes with commas between them, and the SHA-256 of the token in hex, with white
space between the three; `#` begins a comment. `read` is the query API and the live page, `metrics` is
`/metrics`. `projector token NAME` and `gateway token NAME` make a token, append its line and print the token
once; to revoke it delete the line. Several processes may share a file.

A token is 256 bits of chance, so its plain SHA-256 tells nothing of it and a slow hash would protect nobody
but who floods us with guesses. The file is looked at again when it has changed, at most once a second; while
it is wrong, what it said before holds, and the log says why.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from runtime.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

READ: Final = "read"
METRICS: Final = "metrics"
SCOPES: Final = (READ, METRICS)

_PREFIX: Final = "edge_"  # so that scanners for secrets know one
_BYTES: Final = 32
_MODE: Final = 0o644  # whoever makes it, a service reads it with a user of its own
_MOST: Final = 1000  # each is compared with each token that comes
_LOOK_S: Final = 1.0
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HASH: Final = re.compile(r"sha256:[0-9a-f]{64}")

log = structlog.get_logger()


class Token(NamedTuple):
    """What the file knows of one."""

    name: str
    scopes: frozenset[str]
    hash: str


def new() -> str:
    """A token."""
    return _PREFIX + secrets.token_urlsafe(_BYTES)


def hash_of(token: str) -> str:
    """What stands for it in the file."""
    return f"sha256:{hashlib.sha256(token.encode()).hexdigest()}"


def line_of(name: str, scopes: tuple[str, ...], token: str) -> str:
    """Its line in the file."""
    return f"{name:<15} {','.join(scopes):<13} {hash_of(token)}\n"


def read(source: str | Path) -> list[Token]:
    """The tokens of a file.

    Raises:
        ValueError: with the place and what is wrong.
    """
    try:
        text = Path(source).read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"cannot read {source}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{source} is not UTF-8") from None
    found = list(_parse(text, source))
    if len(found) > _MOST:
        raise ValueError(f"{source} has more than {_MOST} tokens")
    return found


def _parse(text: str, source: str | Path) -> Iterator[Token]:
    names: set[str] = set()
    for at, line in enumerate(text.splitlines(), 1):
        where = f"{source}, line {at}"
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 3:  # noqa: PLR2004  # name, scopes, hash
            raise ValueError(
                f"{where}: expected a name, scopes and a hash, such as projector token NAME writes"
            )
        name, scopes, hashed = words
        if not _NAME.fullmatch(name):
            raise ValueError(f"{where}: a name has letters, digits and . _ -, 64 at most")
        if name in names:
            raise ValueError(f"{where}: {name} is there twice")
        if unknown := set(scopes.split(",")) - set(SCOPES):
            raise ValueError(f"{where}: no scope {min(unknown)!r}; there are {' and '.join(SCOPES)}")
        if not _HASH.fullmatch(hashed):
            raise ValueError(
                f"{where}: expected sha256: and 64 hexadecimal digits, of a token and not itself"
            )
        names.add(name)
        yield Token(name, frozenset(scopes.split(",")), hashed)


def add(source: str | Path, name: str, scopes: tuple[str, ...]) -> str:
    """Make a token and append its line to the file, which is made when it is not there; returns the token.

    Raises:
        ValueError: the file is wrong or cannot be written, or the name is there.
    """
    path = Path(source)
    is_new = not path.exists()
    known = [] if is_new else read(path)
    if not _NAME.fullmatch(name):
        raise ValueError("a name has letters, digits and . _ -, 64 at most")
    if any(each.name == name for each in known):
        raise ValueError(f"{name} is in {source} already: choose another name, or delete its line first")
    token = new()
    try:
        before = b"" if is_new else path.read_bytes()
        with open(path, "a", encoding="utf-8", opener=_opener) as file:
            file.write(("\n" if before and not before.endswith(b"\n") else "") + line_of(name, scopes, token))
        if is_new:
            path.chmod(_MODE)
    except OSError as error:
        raise ValueError(f"cannot write {source}: {error.strerror}") from None
    return token


class Tokens:
    """The tokens of a file as it stands now.

    Args:
        source: the file.
        setting: the configuration key that names it.

    Raises:
        ConfigurationError: it cannot be used.
    """

    def __init__(self, source: str, *, setting: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._clock = clock
        try:
            self._stamp, self._known = _stamp(source), read(source)
        except ValueError as error:
            raise ConfigurationError(f"{setting}: {error}") from None
        self._looked_at = clock()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._known)

    def __bool__(self) -> bool:
        """Whether there is a file of them, be it empty."""
        return True

    def find(self, token: str) -> Token | None:
        """What is known of a token; takes as long whichever it is."""
        self._look()
        hashed = hash_of(token)
        found = None
        for each in self._known:
            if hmac.compare_digest(each.hash, hashed):
                found = each
        return found

    def holds(self, token: Token) -> bool:
        """Whether it is still as it was found."""
        self._look()
        return token in self._known

    def _look(self) -> None:
        now = self._clock()
        if now - self._looked_at >= _LOOK_S:
            self._looked_at = now
            if (stamp := _stamp(self._source)) != self._stamp:
                self._stamp = stamp
                self._reread()

    def _reread(self) -> None:
        try:
            self._known = read(self._source)
        except ValueError as error:
            log.warning("tokens_refused", reason=str(error), detail="those that were known before hold")
        else:
            log.info("tokens_read", names=[each.name for each in self._known])


def _opener(path: str, flags: int) -> int:
    """Whoever could write to it for a moment could have a token of his own in it."""
    return os.open(path, flags, _MODE)


def _stamp(source: str) -> tuple[int, ...]:
    """What is another when the file is."""
    try:
        status = Path(source).stat()
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_size, status.st_ino
