"""What the examples of a dialect become, by the gateway's own decoder. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from gateway.decode import Decoder, Limits, Received
from gateway.decode.examples import Message, payload_of
from gateway.decode.routes import compile_routes
from runtime.settings import Route

if TYPE_CHECKING:
    from gateway.decode import Reading, Rejection
    from gateway.decode.dialects import Dialect
    from gateway.decode.routes import CompiledRoute
    from runtime.settings.route import Example


class Played(NamedTuple):
    """An example and what it became.

    Attributes:
        example: as its file has it.
        payload: its bytes.
        found: readings and rejections; none of what is ignored, or empty.
    """

    example: Example
    payload: bytes
    found: list[Reading | Rejection]


class Part(NamedTuple):
    """A route of a dialect.

    Attributes:
        name: of the part.
        words: what its file says of it, without examples.
        played: its examples.
    """

    name: str
    words: dict[str, Any]
    played: list[Played]

    @property
    def ignored(self) -> bool:
        """Whether its messages are no telemetry."""
        return self.words.get("ignore") is True


def compiled(dialect: Dialect) -> list[CompiledRoute]:
    """The routes of a dialect, with their examples.

    Raises:
        ConfigurationError: the file is not as it should be.
    """
    named = [{**words, "dialect": f"{dialect.name}/{part}"} for part, words in dialect.routes.items()]
    return compile_routes(msgspec.convert(named, list[Route]))


def play(dialect: Dialect, now: datetime) -> list[Part]:
    """Decode all examples of a dialect.

    Args:
        dialect: it.
        now: when messages arrive whose example does not say it.

    Raises:
        ConfigurationError: the file is not as it should be.
    """
    routes = compiled(dialect)
    decoder = Decoder(routes, Limits())
    parts = []
    for (name, words), route in zip(dialect.routes.items(), routes, strict=True):
        played = []
        for i, example in enumerate(route.route.example):
            where = f"{dialect.name}/{name}.example[{i}]"
            payload = payload_of(example, where)
            at = datetime.fromisoformat(example.at) if example.at else now
            found = decoder.decode(Message(example.topic, payload), Received.of(at))
            played.append(Played(example, payload, found))
        parts.append(Part(name, {key: word for key, word in words.items() if key != "example"}, played))
    return parts
