"""What a host application publishes: the request for a rebirth, and that it is there. Pure.

A rebirth is asked for by `Node Control/Rebirth` = true, in an NCMD with QoS 0 that is not retained (3.0.0
§5.16; `tck-id-operational-behavior-data-commands-ncmd-rebirth-*`). That a host application is there is
JSON, retained, with QoS 1, and its will says the contrary with the same timestamp
(`tck-id-operational-behavior-host-application-connect-*`).
"""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.sparkplug.topics import state_topic
from runtime.mqtt import Message

_REBIRTH: Final = b"Node Control/Rebirth"
_BOOLEAN: Final = 11


class _State(msgspec.Struct):
    online: bool
    timestamp: int


def rebirth(topic: str, at_ms: int) -> Message:
    """The request for a rebirth.

    Args:
        topic: of commands of an edge node.
        at_ms: now, in milliseconds since 1970.
    """
    moment = _varint(at_ms)
    metric = b"".join(
        (
            b"\x0a" + _varint(len(_REBIRTH)) + _REBIRTH,
            b"\x18" + moment,  # timestamp
            b"\x20" + _varint(_BOOLEAN),
            b"\x70\x01",  # boolean_value
        )
    )
    return Message(topic, b"\x08" + moment + b"\x12" + _varint(len(metric)) + metric, qos=0)


def state(host_id: str, at_ms: int, *, online: bool) -> Message:
    """What this host application says of itself."""
    return Message(state_topic(host_id), msgspec.json.encode(_State(online, at_ms)), qos=1, retain=True)


def says_online(payload: bytes) -> bool:
    """Whether a message of STATE says that a host application is online; one that is empty says nothing."""
    try:
        return msgspec.json.decode(payload, type=_State).online
    except msgspec.MsgspecError:
        return False


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:  # noqa: PLR2004  # seven bits a byte
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
