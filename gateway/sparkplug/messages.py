"""Messages of edge nodes, and the steps that they lead to. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gateway.decode.formats.sparkplug_usual import Usual

if TYPE_CHECKING:
    from gateway.sparkplug.topics import Kind

NUMBERS: Final = 256
_BDSEQ: Final = "bdSeq"
_NEVER: Final = 2**63  # of times and numbers, what PostgreSQL cannot hold and nobody means


@dataclass(slots=True, eq=False)
class Message:
    """A message of an edge node, or of a device of it; a `Delivery` for the decoder.

    Attributes:
        value: of its payload; what one look tells, of data.
        at: when it came, in the contract's form.
        heard: the same in seconds of a monotonic clock; of one that is held, since when.
        certain: whether nothing is missing of the sequence before it.
        id: of one that is held.
    """

    topic: str
    payload: bytes
    kind: Kind
    device: str
    value: dict[str, Any] | Usual
    at: str
    heard: float
    certain: bool = True
    id: str = ""
    qos: int = 1
    retain: bool = False
    duplicate: bool = False
    user_properties: tuple[tuple[str, str], ...] = ()

    @property
    def plain(self) -> dict[str, Any]:
        """The value as the format makes it."""
        return self.value.value if isinstance(self.value, Usual) else self.value

    @property
    def seq(self) -> int:
        """Its number; a writer that leaves out zeros leaves out 0."""
        value = self.value
        number: int = value.seq if isinstance(value, Usual) else value.get("seq", 0)
        return number % NUMBERS

    @property
    def following(self) -> int:
        """The number of the next."""
        return (self.seq + 1) % NUMBERS

    @property
    def sent(self) -> int | None:
        """When it was sent, by the clock of the edge node, in milliseconds."""
        value = self.value
        sent: int = value.timestamp if isinstance(value, Usual) else value.get("timestamp", _NEVER)
        return sent if sent < _NEVER else None

    @property
    def bd_seq(self) -> int | None:
        """The number of its session, in a birth of an edge node and in its will."""
        for metric in self.plain["metrics"]:
            if metric.get("name") == _BDSEQ and type(metric["value"]) is int:
                number: int = metric["value"]
                return number if 0 <= number < _NEVER else None
        return None


class Read(NamedTuple):
    """Decode a message; the value is of its payload, with all names."""

    message: Message
    value: dict[str, Any] | Usual


class Told(NamedTuple):
    """The edge node, or a device of it, is online now, or offline.

    Attributes:
        device: empty for the edge node.
        life: says after which birth this is.
        message: that says so; None when it is the lack of one.
    """

    device: str
    online: bool
    life: str
    message: Message | None


class Lost(NamedTuple):
    """Keep a message as a dead letter."""

    message: Message
    reason: str
    error: str


Step = Read | Told | Lost
