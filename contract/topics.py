"""Names of the internal topic, `<prefix>/<stream>`."""

from __future__ import annotations


def stream_topic(prefix: str, stream: int) -> str:
    """The topic on which a stream's events are published, such as `gateway/events/v1/0`."""
    return f"{prefix}/{stream}"


def all_streams(prefix: str) -> str:
    """The topic filter that covers every stream, such as `gateway/events/v1/+`."""
    return f"{prefix}/+"
