"""Why a message has no names, and what to do about it: the texts of its dead letter. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.sparkplug.messages import Lost
from gateway.sparkplug.naming import Unnamed, complete

if TYPE_CHECKING:
    from gateway.sparkplug.messages import Message
    from gateway.sparkplug.nodes.entity import Entity

_REPLAY: Final = "`gateway dead-letters replay --reason {reason}` stores it once such a birth is known"


def lost(message: Message, entity: Entity | None) -> Lost:
    """The letter of a message that no birth named."""
    return Lost(message, *explain(message, born=entity is not None and bool(entity.names.births)))


def explain(message: Message, *, born: bool, advice: str = "") -> tuple[str, str]:
    """The reason and the error of such a letter.

    Args:
        message: it.
        born: whether there is a birth at all.
        advice: what to do, where there is no gateway that asks for births.
    """
    who, birth = (f"device {message.device!r}", "DBIRTH") if message.device else ("the edge node", "NBIRTH")
    what = _missing(message)
    if not born:
        reason = "not_born"
        error = f"{what}, and no {birth} of {who} is known"
        usual = (
            'have the edge node born again: the gateway asks it to by "Node Control/Rebirth", which it must '
            "be allowed to receive, and the gateway to publish"
        )
    else:
        reason = "unknown_alias"
        error = f"{what} by a {birth} of {who} that was certainly in force when it was sent"
        usual = "it is not guessed by another one, in which the alias may be another metric's"
    return reason, f"{error}; {advice or f'{usual}; {_REPLAY.format(reason=reason)}'}"


def _missing(message: Message) -> str:
    try:
        complete(message.value, lambda _: None)
    except Unnamed as unnamed:
        if type(unnamed.key) is int:
            return f"alias {unnamed.key} has no name"
        return f"metric {str(unnamed.key)[:40]!r} has no datatype, so the sign of its value is not known,"
    return "a metric has no name"
