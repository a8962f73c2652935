"""What the gateway's own decoder makes of one message, with its reasons. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.decode import Decoder, Reading, Received, Rejection
from gateway.decode.examples import Message
from gateway.decode.routes import match
from gateway.sparkplug.replayed import NamingDecoder
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from gateway.decode import Limits
    from gateway.decode.routes import CompiledRoute, Matched

_BIRTH: Final = "--birth FILE names the payload of the birth before it"
_LONGEST_TOPIC: Final = 65_535  # bytes of a UTF-8 string (MQTT5 §1.5.4)


class Explanation(NamedTuple):
    """What becomes of a message.

    Attributes:
        topic: its own.
        payload: its bytes.
        number: of the route that takes it; None when none does.
        route: the same.
        matched: what its topic says by itself; None when there is no route, or a name is impossible.
        readings: what is stored.
        letters: what is kept as dead letters.
        left_out: name, reason and how often, of what is stored without it.
        nothing: why there are neither readings nor letters; empty when there are.
    """

    topic: str
    payload: bytes
    number: int | None
    route: CompiledRoute | None
    matched: Matched | None
    readings: list[Reading]
    letters: list[Rejection]
    left_out: list[tuple[str, str, int]]
    nothing: str


def explain(
    routes: Sequence[CompiledRoute],
    limits: Limits,
    topic: str,
    payload: bytes,
    at: datetime,
    *,
    birth: bytes | None = None,
) -> Explanation:
    """Decode a message and say why it came to what it came to.

    Args:
        routes: of which one may take it.
        limits: of what is stored.
        topic: its own.
        payload: its bytes.
        at: when it arrives.
        birth: of Sparkplug: the birth of the edge node or device that it is of.

    Raises:
        ConfigurationError: what a route says of its messages means nothing.
        ValueError: a message of this topic has no birth.
        Reject: the birth is none.
    """
    decoder = NamingDecoder(Decoder(routes, limits), advice=_BIRTH)
    if birth is not None:
        decoder.learn(topic, birth)
    try:
        matched = match(routes, topic)
    except Reject:
        matched = None
    number = next((i for i, route in enumerate(routes) if route.pattern.fullmatch(topic)), None)
    found = decoder.decode(Message(topic, payload), Received.of(at))
    nothing = ""
    if decoder.ignored:
        nothing = "ignored: its route has ignore = true, so it is counted, and stored nowhere"
    elif decoder.empty and payload:
        nothing = 'nothing in it: its route has empty = "ignore", so it is counted, and stored nowhere'
    elif decoder.empty:
        nothing = "empty payload: such a message clears a retained one; it is counted, and stored nowhere"
    return Explanation(
        topic,
        payload,
        number,
        None if number is None else routes[number],
        matched,
        [item for item in found if isinstance(item, Reading)],
        [item for item in found if isinstance(item, Rejection)],
        [(name, reason, count) for (_, name, reason), count in decoder.drops.counts.items()],
        nothing,
    )


def topic_fault(topic: str) -> str:
    """Why no message can have this topic; empty when one can."""
    if not topic:
        return "a topic has at least one character"
    if "+" in topic or "#" in topic:
        return f"{topic!r} has a wildcard: give the topic of a message, such as devices/a1/telemetry"
    if "\x00" in topic:
        return "a topic has no NUL"
    if len(topic.encode(errors="surrogatepass")) > _LONGEST_TOPIC:
        return f"a topic has at most {_LONGEST_TOPIC} bytes"
    return ""
