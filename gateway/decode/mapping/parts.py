"""A reading of a message, before it is assembled: what it says, and what of the message it is. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gateway.decode.fields import SCALARS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.decode.mapping.plain import Mapped
    from gateway.decode.paths import Place
    from runtime.errors import Reject

_HASHABLE: Final = SCALARS | {type(None)}


class Around(NamedTuple):
    """What was found in the objects around an element.

    Attributes:
        places: of it, in the message.
        key: the place of the key, when that was found there.
        keyed: whether it was.
        everything: whether an expression found something, of whatever it is made.
    """

    places: tuple[Place, ...] = ()
    key: Place | None = None
    keyed: bool = False
    everything: bool = False


class Part(NamedTuple):
    """A reading of a message.

    Attributes:
        mapped: what it says; None when it cannot be read.
        tags: what of it is kept as tags.
        number: of its first element, within its message.
        message: which one of an array of messages it is of.
        places: of its elements; empty when they cannot be said.
        around: what it took of the objects around them.
        reject: why it cannot be read.
        left_out: fields, each with a reason.
        online: what it says of its device; None when nothing.
    """

    mapped: Mapped | None
    tags: dict[str, str]
    number: int
    message: int
    places: tuple[Place, ...]
    around: Around
    reject: Reject | None = None
    left_out: Sequence[tuple[str, str]] = ()
    online: bool | None = None


class Group:
    """A reading of several elements, of which the first says what they have in common."""

    __slots__ = ("around", "first", "left_out", "metrics", "places")

    def __init__(self, first: Part, metrics: dict[str, Any]) -> None:
        self.first = first
        self.metrics = metrics
        self.places: list[Place] = []
        self.around: dict[Place, None] = {}  # in a lasting order: bytes are made of them
        self.left_out: list[tuple[str, str]] = []

    def part(self) -> Part:
        """The reading."""
        first = self.first
        around = first.around._replace(places=tuple(self.around))
        return first._replace(places=tuple(self.places), around=around, left_out=self.left_out)


def group_key(part: Part) -> tuple[Any, ...]:
    """What readings of elements have in common that are one: 1, 1.0, true and "1" are told apart."""
    assert part.mapped is not None
    *names, _, _ = part.mapped
    kinds = tuple(map(type, names))
    tags = frozenset(part.tags.items())
    said = names if _HASHABLE.issuperset(kinds) else map(id, names)
    return (part.message, *said, kinds, part.around.keyed, part.around.everything, tags)


def with_keys(parts: list[Part]) -> list[Part]:
    """The readings of a message, each with a key of its own where the message has one."""
    if len(parts) == 1 or not any(part.around.keyed for part in parts):
        return parts
    counts = Counter(part.message for part in parts)
    return [_with_key(part) if counts[part.message] > 1 else part for part in parts]


def _with_key(part: Part) -> Part:
    if part.mapped is None or not part.around.keyed:
        return part
    device_id, key, *rest = part.mapped
    return part._replace(mapped=(device_id, numbered_key(key, part.number), *rest))


def numbered_key(key: Any, number: int) -> Any:  # noqa: ANN401  # a message is any value
    """The key of a message as it is of its reading of this number."""
    return f"{key}:{number}" if type(key) in {str, int} else key
