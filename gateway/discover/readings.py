"""Where the readings in messages are, as words of a route. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from gateway.discover.columns import Row

VALUES: Final = ("v", "value", "val", "reading")
_BARE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Elements(NamedTuple):
    """The readings of messages, as the words of a route.

    Attributes:
        device: `$1` where members are devices.
        rows: the readings.
        around: what is around them in each message.
        words: more of them.
        named: the field of a reading that is its only value, where the topic is to say what it is.
        used: fields that are the names of others.
        beside: fields beside two lists, which no route would keep by itself.
    """

    each: str
    device: str
    name: str
    value: str
    rows: list[Row]
    around: list[Row]
    words: dict[str, Any] = {}  # noqa: RUF012  # nobody changes it
    named: str = ""
    used: tuple[str, ...] = ()
    beside: frozenset[str] = frozenset()
    unsure: tuple[str, ...] = ()


def at_path(name: str) -> bool:
    """Whether a name can be written as a path."""
    return all(
        part and part.replace("_", "").replace("-", "").replace(" ", "").isalnum() for part in name.split(".")
    )


def in_expression(name: str) -> str:
    """A path as JMESPath has it."""
    return ".".join(part if _BARE.fullmatch(part) else f'"{part}"' for part in name.split("."))


def but_for(value: dict[str, Any], name: str) -> dict[str, Any]:
    """An object without one of its members."""
    return {key: each for key, each in value.items() if key != name}
