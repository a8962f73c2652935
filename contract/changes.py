"""What is told of a device: silent or back, offline or online, its clock, what people said of it, and limits.

Limits that people set are told of on `<prefix>/devices/limits`, all else on `<prefix>/devices`. One
message a change, QoS 1, not retained; the same message may come again when a connection to the broker is lost
on the way. Readers ignore fields that they do not know, as those of an event batch do.
"""

from __future__ import annotations

from typing import Literal

import msgspec

VERSION = 1


DeviceState = Literal[
    "silent",
    "ok",
    "offline",
    "online",
    "clock_wrong",
    "clock_right",
    "muted",
    "unmuted",
    "retired",
    "unretired",
]


class DeviceChange(msgspec.Struct, frozen=True):
    """A change of one device's state.

    Once it is muted or retired nothing else is told of it, and what was told before is over. `ok` is also
    told of a retired one that is heard again. `offline` is one that said so itself, as by a will; as long as
    that lasts it is not called silent, and that it was is over. `online` ends it, and nothing else does.

    Attributes:
        v: version of this form.
        region: which it named last; None when it named none.
        at: when that was so, by the gateway's clock, fixed-width UTC ISO 8601; of `offline` and `online`
            since when, as `Event.online_since` says.
        heard_at: when its last message came, before it fell silent or the one that brought it back, same
            form; None when that is not known.
        usual_seconds: the longest pause that is usual for it; None when that is not known.
        clock_error_seconds: by how much its clock is ahead, negative behind, when that is wrong; else None.
        until: when a mute ends by itself, same form; else None.
        by: who muted or retired it, or ended that; None when nobody did, or it ended by itself.
        reason: that was given for it; None when none was.
        name: what people call it; None when nobody said.
    """

    v: int
    device_id: str
    region: str | None
    state: DeviceState
    at: str
    heard_at: str | None
    usual_seconds: int | None
    clock_error_seconds: int | None = None
    until: str | None = None
    by: str | None = None
    reason: str | None = None
    name: str | None = None


class LimitChange(msgspec.Struct, frozen=True):
    """A change of one metric of a device against a limit.

    Attributes:
        v: version of this form.
        region: which it named last; None when it named none.
        when: on which side of the limit is beyond.
        value: the newest; None when the device has left the views, or the limit the configuration.
        limit: the number beyond which the value is; None when it is within.
        at: when that was so, by the gateway's clock, fixed-width UTC ISO 8601.
        measured_at: when the newest value counts as measured, same form; None when there is none.
    """

    v: int
    device_id: str
    region: str | None
    metric: str
    when: Literal["above", "below"]
    state: Literal["ok", "warn", "crit"]
    value: float | None
    limit: float | None
    at: str
    measured_at: str | None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(DeviceChange)
_limit_decoder = msgspec.json.Decoder(LimitChange)


def encode_change(change: DeviceChange | LimitChange) -> bytes:
    """Encode a message."""
    return _encoder.encode(change)


def decode_change(message: bytes) -> DeviceChange:
    """Decode a message of the topic of devices.

    Raises:
        msgspec.DecodeError: it is none of these.
    """
    return _decoder.decode(message)


def decode_limit_change(message: bytes) -> LimitChange:
    """Decode a message of the topic of limits.

    Raises:
        msgspec.DecodeError: it is none of these.
    """
    return _limit_decoder.decode(message)
