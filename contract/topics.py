"""Names of the internal topic, `<prefix>/<stream>`, and of what is told beside the streams."""

from __future__ import annotations

_DEVICES = "/devices"


def stream_topic(prefix: str, stream: int) -> str:
    """The topic on which a stream's events are published, such as `gateway/events/v1/0`."""
    return f"{prefix}/{stream}"


def all_streams(prefix: str) -> str:
    """The topic filter that covers every stream, such as `gateway/events/v1/+`; it covers devices too."""
    return f"{prefix}/+"


def is_of_stream(topic: str) -> bool:
    """Whether a topic that `all_streams` covers is a stream's, not that of devices."""
    return not topic.endswith(_DEVICES)


def devices_topic(prefix: str) -> str:
    """The topic on which is told what becomes of devices, such as `gateway/events/v1/devices`."""
    return prefix + _DEVICES


def limits_topic(prefix: str) -> str:
    """The topic on which is told which devices are beyond limits, a level below that of devices.

    Not beside it: readers of devices take every message there for one of silence.
    """
    return f"{prefix}{_DEVICES}/limits"
