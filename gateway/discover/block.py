"""A `[[route]]` that was found, and what it makes of what was heard. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003  # of a field of a NamedTuple that is encoded
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from gateway.decode.dialects import complete_routes
from gateway.decode.examples import as_object
from gateway.decode.routes import compile_routes
from runtime.settings import Route

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.decode import Reading
    from gateway.decode.dialects import Raw
    from gateway.decode.routes import CompiledRoute


class Tried(NamedTuple):
    """What a route makes of the last message by one of its topics.

    Attributes:
        part: of a dialect; empty for a route of its own.
        at: when it came.
        readings: what it becomes; none when it is left out.
        letter: why it becomes none.
        held: whether it waits for a birth that names its metrics, rather than being a dead letter.
    """

    topic: str
    part: str
    at: datetime
    readings: list[dict[str, Any]]
    ignored: bool
    letter: str
    held: bool = False


@dataclass
class Block:
    """A `[[route]]`.

    Attributes:
        words: what it says.
        topics: that it is for.
        messages: that came by them.
        devices: how many of them were seen.
        unsure: what is guessed.
        parts: of a dialect, those that were seen.
        compression: how messages were compressed.
        examples: of what it makes of messages, as a configuration has them.
    """

    words: dict[str, Any]
    topics: list[str]
    messages: int = 0
    devices: int = 0
    unsure: list[str] = field(default_factory=list)
    parts: tuple[str, ...] = ()
    compression: str = ""
    tried: list[Tried] = field(default_factory=list)
    examples: list[Raw] = field(default_factory=list)

    @property
    def title(self) -> str:
        """How people call it."""
        if (dialect := self.words.get("dialect")) and "topic" not in self.words:
            prefix = self.words.get("prefix", "")
            return f"{dialect} below {prefix}" if prefix else str(dialect)
        return str(self.words["topic"])


class Unexplained(NamedTuple):
    """Topics of no route.

    Attributes:
        topic: one of them, or what they have in common.
        beginning: of a payload.
    """

    topic: str
    topics: int
    messages: int
    why: str
    beginning: str


def routes_of(blocks: Iterable[Block]) -> tuple[list[CompiledRoute], list[int]]:
    """The routes of blocks as a configuration has them, and the block of each.

    Raises:
        ConfigurationError: one of them is none.
    """
    routes: list[Route] = []
    owners: list[int] = []
    for i, block in enumerate(blocks):
        raw: dict[str, Any] = {"route": [dict(block.words)]}
        complete_routes(raw)
        made = msgspec.convert(raw["route"], list[Route])
        routes += made
        owners += [i] * len(made)
    return compile_routes(routes) if routes else [], owners


def object_of(reading: Reading) -> dict[str, Any]:
    """A reading as plain values; a key that was made here is none."""
    return {**as_object(reading), "key": reading.event.key if reading.keyed else None}
