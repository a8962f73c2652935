"""Names of the internal topic, `<prefix>/<stream>`, and of what is told beside the streams."""

from __future__ import annotations

_DEVICES = "/devices"
_DIGITS = 10  # of a number that PostgreSQL's integer can hold


def stream_topic(prefix: str, stream: int) -> str:
    """The topic on which a stream's events are published, such as `gateway/events/v1/0`."""
    return f"{prefix}/{stream}"


def all_streams(prefix: str) -> str:
    """The topic filter that covers every stream, such as `gateway/events/v1/+`; it covers devices too."""
    return f"{prefix}/+"


def stream_of(topic: str) -> int | None:
    """The stream whose topic this is, of those that `all_streams` covers; None when it is no stream's."""
    number = topic.rpartition("/")[2]
    if len(number) > _DIGITS or not (number.isascii() and number.isdigit()):
        return None
    return int(number) if number == "0" or not number.startswith("0") else None


def devices_topic(prefix: str) -> str:
    """The topic on which is told what becomes of devices, such as `gateway/events/v1/devices`."""
    return prefix + _DEVICES


def limits_topic(prefix: str) -> str:
    """The topic on which is told which devices are beyond limits, a level below that of devices.

    Not beside it: readers of devices take every message there for one of silence.
    """
    return f"{prefix}{_DEVICES}/limits"
