"""What one look at a payload tells, for who knows payloads like it and needs no more. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol


class Nth(NamedTuple):
    """Stands for a leaf of a glance."""

    place: int


class Glance(Protocol):
    """A payload of which no more is made than its pieces: what changes from message to message, and what not.

    Attributes:
        key: what does not change, hashable.
        leaves: what does, in an order that the key decides.
        value: what the format makes of it.
        places: the same with an `Nth` for each leaf.
    """

    @property
    def key(self) -> tuple[object, ...]: ...  # noqa: D102  # see the class, as of all of these

    @property
    def leaves(self) -> list[Any]: ...  # noqa: D102  # likewise

    @property
    def value(self) -> Any: ...  # noqa: ANN401, D102  # likewise; of any format

    @property
    def places(self) -> Any: ...  # noqa: ANN401, D102  # likewise
