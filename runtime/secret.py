"""Secrets that stand in files: each use reads the file anew, so that one that was changed needs no restart.

A `FromFile` is text, what the file held when it was read first, and goes wherever the text goes. Whoever
opens a connection asks `current` for what the file holds now.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import NoReturn

from runtime.errors import Retry


class FromFile(str):
    """A secret as it was when its file was read.

    Attributes:
        source: the file.
    """

    __slots__ = ("source",)
    source: str

    @classmethod
    def read(cls, source: str) -> FromFile:
        """Read the file, without the white space around its text.

        Raises:
            ValueError: it cannot be used, with what is wrong; the text itself is never in the message.
        """
        try:
            secret = cls(Path(source).read_text(encoding="utf-8").strip())
        except OSError as error:
            raise ValueError(f"cannot read {source}: {error.strerror}") from error
        except UnicodeDecodeError:
            raise ValueError(f"{source} is not UTF-8") from None  # the cause quotes the bytes
        if not secret:
            raise ValueError(f"{source} is empty")
        secret.source = source
        return secret


def current(secret: str, what: str) -> str:
    """The secret as it stands now.

    Args:
        secret: as the configuration has it.
        what: whose it is, as an operator names it (`broker`, `postgres`, `redis`).

    Raises:
        Retry: its file cannot be used now.
    """
    if not isinstance(secret, FromFile):
        return secret
    try:
        return FromFile.read(secret.source)
    except ValueError as error:
        raise Retry(what, str(error)) from error


def no_passphrase() -> NoReturn:
    """For keys of certificates; OpenSSL would ask for it at the terminal, and all else would wait.

    Raises:
        OSError: always.
    """
    raise OSError(errno.EACCES, "the key is encrypted; it has to be one without a passphrase")
