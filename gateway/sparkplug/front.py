"""What stands in front of a decoder, and passes on whatever is no Sparkplug. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.decode import Rejection

if TYPE_CHECKING:
    from gateway.decode import Decoder
    from gateway.decode.drops import Drops
    from gateway.sparkplug.messages import Lost


class Front:
    """A decoder, for whoever asks it for what it counts.

    Args:
        decoder: of everything.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    @property
    def drops(self) -> Drops:
        """Fields that were left out."""
        return self._decoder.drops

    @property
    def ignored(self) -> int:
        """Messages that a route leaves out."""
        return self._decoder.ignored

    @property
    def empty(self) -> int:
        """Messages without a payload."""
        return self._decoder.empty

    def route_of(self, topic: str) -> str:
        """The template of the route that a topic is for; empty when there is none."""
        return self._decoder.route_of(topic)

    def _letter(self, lost: Lost) -> Rejection:
        message = lost.message
        matched = self._decoder.matched(message.topic)
        device_id = matched.device_id if matched else None
        return Rejection(message.at, message.topic, device_id, lost.reason, lost.error, message.payload)
