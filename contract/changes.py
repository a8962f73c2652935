"""What is told of a device on `<prefix>/devices`: that it has fallen silent, or is back.

One message a change, QoS 1, not retained; the same message may come again when a connection to the broker is
lost on the way. Readers ignore fields that they do not know, as those of an event batch do.
"""

from __future__ import annotations

from typing import Literal

import msgspec

VERSION = 1


class DeviceChange(msgspec.Struct, frozen=True):
    """A change of one device's state.

    Attributes:
        v: version of this form.
        region: which it named last; None when it named none.
        at: when that was so, by the gateway's clock, fixed-width UTC ISO 8601.
        heard_at: when its last message came, before it fell silent or the one that brought it back, same
            form; None when that is not known.
        usual_seconds: the longest pause that is usual for it; None when that is not known.
    """

    v: int
    device_id: str
    region: str | None
    state: Literal["silent", "ok"]
    at: str
    heard_at: str | None
    usual_seconds: int | None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(DeviceChange)


def encode_change(change: DeviceChange) -> bytes:
    """Encode a message."""
    return _encoder.encode(change)


def decode_change(message: bytes) -> DeviceChange:
    """Decode a message.

    Raises:
        msgspec.DecodeError: it is none of these.
    """
    return _decoder.decode(message)
