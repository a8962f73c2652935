"""Who wrote a message of the internal topic: a row carries a digest that takes its stream's key to make.

Whoever may publish at the broker may publish on the internal topic, unless an ACL says otherwise. So what is
there is a hint, until it is signed: the key is in PostgreSQL, where gateways and projectors read it and no
device does, and what is signed is what PostgreSQL has. The message begins with the digest,

    {"sig":"<32 hex digits>","v":1,"stream":0,…,"events":[…]}

and all bytes after it are signed: they need not be decoded to be believed, and readers that do not know of
it ignore one field. It is keyed BLAKE2b (RFC 7693), which needs no help of a CPU: a microsecond or two a
kilobyte, some four events.
"""

from __future__ import annotations

import hmac
from hashlib import blake2b
from typing import Final

KEY_BYTES: Final = 32

_DIGEST_BYTES: Final = 16
_SEAL: Final = '{"sig":"%s",'
_SEAL_BYTES: Final = len(_SEAL % "") + 2 * _DIGEST_BYTES
_PERSON: Final = b"edge/events/v1"  # the key is for this and for nothing else


def seal(key: bytes, *parts: bytes | memoryview) -> bytes:
    """What goes before these parts, in the place of the message's opening brace."""
    digest = blake2b(key=key, digest_size=_DIGEST_BYTES, person=_PERSON)
    for part in parts:
        digest.update(part)
    return (_SEAL % digest.hexdigest()).encode()


def is_sealed(key: bytes, message: bytes) -> bool:
    """Whether who wrote a message had the key."""
    if not has_seal(message):
        return False
    view = memoryview(message)
    return hmac.compare_digest(view[:_SEAL_BYTES], seal(key, view[_SEAL_BYTES:]))


def has_seal(message: bytes) -> bool:
    """Whether a message claims to be signed."""
    return message.startswith(b'{"sig":"')
