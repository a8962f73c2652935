"""What is known of an edge node, or of a device of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.sparkplug.nodes.births import Names

if TYPE_CHECKING:
    from gateway.sparkplug.messages import Message


@dataclass(slots=True)
class Entity:
    """An edge node, or a device of it.

    Attributes:
        online: None when that was never said.
        ended_at: when its last session ended.
    """

    names: Names = field(default_factory=Names)
    online: bool | None = None
    ended_at: str = ""

    def is_older(self, message: Message) -> bool:
        """Whether a message was sent before the last birth."""
        last = self.names.births[-1].sent if self.names.births else None
        return last is not None and message.sent is not None and message.sent < last
