"""The bytes of a message from a file or from stdin, as they are or written in hex or base64."""

from __future__ import annotations

import base64
import binascii
import sys
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

Encoding = Literal["raw", "hex", "base64"]

_LARGEST: Final = 268_435_455  # bytes that an MQTT packet can hold (MQTT5 §1.5.5)
_CHARACTERS: Final = {"raw": 1, "hex": 3, "base64": 2}  # at most for one byte, spaces included


def read(source: str, encoding: Encoding, tell: Callable[[str], None]) -> bytes:
    """Read a payload.

    Args:
        source: a file, or `-` for stdin.
        encoding: how the bytes are written there.
        tell: told in a sentence that a person is waited for.

    Raises:
        ValueError: there is none; with what is wrong, in words.
    """
    most = _LARGEST * _CHARACTERS[encoding]
    try:
        if source == "-":
            if sys.stdin is None:
                raise ValueError("stdin is closed: name the file with the payload")
            if sys.stdin.isatty():
                tell("type the payload, and Ctrl-D; --hex and --base64 are for what cannot be typed")
            written = sys.stdin.buffer.read(most + 1)
        else:
            with open(source, "rb") as file:  # noqa: PTH123  # a name such as /dev/stdin is no path to keep
                written = file.read(most + 1)
    except OSError as error:
        raise ValueError(f"{source}: cannot read the payload: {error.strerror}") from error
    if len(written) > most:
        raise ValueError(f"{source}: larger than any MQTT message can be")
    return written if encoding == "raw" else _decoded(written, encoding)


def _decoded(written: bytes, encoding: Encoding) -> bytes:
    text = b"".join(written.split()).decode("latin-1")
    if encoding == "hex" and len(text) % 2:
        raise ValueError(f"the payload is no hex: {len(text)} digits, and two make a byte")
    try:
        return bytes.fromhex(text) if encoding == "hex" else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise ValueError(f"the payload is no {encoding}: {error}") from None
