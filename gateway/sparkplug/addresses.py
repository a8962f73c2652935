"""Which topics are of edge nodes, by the routes that there are, and whether all of a node comes. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.sparkplug.topics import COUNTED, NAMESPACE, OF_NODES, Address, address_of

if TYPE_CHECKING:
    from gateway.decode import Decoder
    from gateway.sparkplug.topics import Kind

_MOST: Final = 100_000
_LONGEST: Final = 600  # characters: four names of as many as may be stored, and a prefix
_SHARED: Final = "$share/"


class Addresses:
    """Topics of edge nodes, looked at once.

    Args:
        decoder: whose routes count.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.known: dict[str, Address | None] = {}

    def of(self, topic: str) -> Address | None:
        """Whose message a topic is for; None when that is no edge node, or no route has its format."""
        if topic in self.known:
            return self.known[topic]
        if NAMESPACE not in topic or len(topic) > _LONGEST:  # the decoder refuses what is longer
            return None
        address = address_of(topic)
        if address is not None and not self._is_ours(address):
            address = None
        if len(self.known) >= _MOST:
            self.known.clear()
        self.known[topic] = address
        return address

    def is_heard(self, address: Address) -> bool:
        """Whether anything of an edge node, or of a device of it, may come to this gateway."""
        kinds: tuple[Kind, ...] = ("DBIRTH", "DDATA") if address.device else ("NBIRTH", "NDATA")
        return any(self._is_ours(address._replace(kind=kind)) for kind in kinds)

    def is_ordered(self, address: Address) -> bool:
        """Whether all messages of a node that have a number come to this gateway."""
        for kind in COUNTED:
            device = "" if kind in OF_NODES else address.device or "x"
            matched = self._decoder.matched(address.topic(kind, device))
            if matched is None or matched.route.format != "sparkplug":
                return False
            if matched.route.topic.startswith(_SHARED):
                return False
        return True

    def _is_ours(self, address: Address) -> bool:
        matched = self._decoder.matched(address.topic(address.kind, address.device))
        return matched is not None and matched.route.format == "sparkplug"
