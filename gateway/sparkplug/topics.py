"""Topics of Sparkplug B (3.0.0 §4.1): `spBv1.0/group/TYPE/node`, `spBv1.0/group/TYPE/node/device`. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runtime.settings import Route

Kind = Literal["NBIRTH", "NDEATH", "NDATA", "DBIRTH", "DDEATH", "DDATA"]

NAMESPACE: Final = "spBv1.0"
OF_NODES: Final = frozenset({"NBIRTH", "NDATA", "NDEATH"})
COUNTED: Final[tuple[Kind, ...]] = ("NBIRTH", "NDATA", "DBIRTH", "DDATA", "DDEATH")
"""Messages that have a `seq`; it tells what is missing of them, and only to who gets all of them."""

_TOPIC: Final = re.compile(
    rf"((?:.*/)?{re.escape(NAMESPACE)}/)([^/]+)/(NBIRTH|NDEATH|NDATA|DBIRTH|DDEATH|DDATA)/([^/]+)(?:/([^/]+))?",
    re.DOTALL,
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Address(NamedTuple):
    """Whose message a topic is for.

    Attributes:
        prefix: up to the namespace and its slash.
        device: empty for the edge node itself.
    """

    prefix: str
    group: str
    kind: Kind
    node: str
    device: str

    @property
    def key(self) -> str:
        """The edge node's name among all."""
        return f"{self.prefix}{self.group}/{self.node}"

    def topic(self, kind: str, device: str = "") -> str:
        """The topic of another kind of message of this edge node, or of a device of it."""
        return f"{self.prefix}{self.group}/{kind}/{self.node}{'/' if device else ''}{device}"


def address_of(topic: str) -> Address | None:
    """Whose message a topic is for; None when it is no such topic."""
    found = _TOPIC.fullmatch(topic)
    if found is None or _CONTROL.search(topic):
        return None
    prefix, group, kind, node, device = found.groups()
    if (kind in OF_NODES) == bool(device):
        return None
    return Address(prefix, group, cast("Kind", kind), node, device or "")


def is_spoken(routes: Iterable[Route]) -> bool:
    """Whether a route has messages of edge nodes."""
    return any(route.format == "sparkplug" and route.ignore is not True for route in routes)


def state_topic(host_id: str) -> str:
    """Where a host application says that it is there (§4.3.5)."""
    return f"{NAMESPACE}/STATE/{host_id}"
