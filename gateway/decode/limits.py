"""What a message may hold at most."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from runtime.errors import Reject
from runtime.settings import duration_s

if TYPE_CHECKING:
    from runtime.settings import Gateway

MAX_DEPTH: Final = 32
"""Objects and arrays inside one another."""

MAX_LETTERS: Final = 10
"""Dead letters that one payload can have before all that follows is one."""

MAX_READINGS: Final = 4_000
"""Readings of one payload, unless it is a large one: each costs some twelve microseconds, in which nothing
else is done, so that of those that cost more there are fewer."""

MAX_PLAIN: Final = 8_000
"""The same of an array of plain messages, which cost a third of that."""

MAX_LINES: Final = 4_000
"""The same of lines, which cost two thirds."""

MAX_ELEMENTS: Final = 5_000
"""Elements of one payload that are a metric each."""

MAX_VALUES: Final = 20_000
"""Values of one payload that are looked at one by one: each costs a microsecond or two."""

MAX_ODD: Final = 2_000
"""Numbers and lines of one payload that are read more slowly than others."""

MAX_WORK: Final = 28_000
"""What one payload may cost, in microseconds of a slow machine: reckoned by what is done, not measured."""

_LARGE: Final = 262_144  # bytes: of a larger payload there may be more of everything
_READING_BYTES: Final = _LARGE // MAX_READINGS
_PLAIN_BYTES: Final = _LARGE // MAX_PLAIN
_LINE_BYTES: Final = _LARGE // MAX_LINES
_ELEMENT_BYTES: Final = _LARGE // MAX_ELEMENTS


def readings_allowed(size: int, *, plain: bool = False) -> int:
    """How many readings a payload of so many bytes can have."""
    return max(MAX_PLAIN, size // _PLAIN_BYTES) if plain else max(MAX_READINGS, size // _READING_BYTES)


def lines_allowed(size: int) -> int:
    """How many lines it can have."""
    return max(MAX_LINES, size // _LINE_BYTES)


def work_allowed(size: int) -> int:
    """What it may cost."""
    return MAX_WORK if size <= _LARGE else MAX_WORK * size // _LARGE


WHOLE: Final = 10
"""Times as much as that what an edge node says may cost: a birth names all its tags at once, thousands of
them, and in parts it counts for nothing. So may a message behind which none waits, as in a replay."""

READING_WORK: Final = 12
"""Of each reading of several in one message at least."""


_FIXED: Final = "a replay takes no more"
_MORE: Final = f"`gateway dead-letters replay` takes {WHOLE} times as many"


def too_much_work() -> Reject:
    """What is said of a payload that costs more."""
    return Reject(
        "too_many_readings",
        "so much is in this message that decoding it would hold up all others; send less in one, or in a "
        f"plainer form; `gateway dead-letters replay` holds up none, and takes {WHOLE} times as much",
    )


def too_many_values(most: int = MAX_VALUES, what: str = "values", *, fixed: bool = True) -> Reject:
    """What is said of a payload of more values than are looked at one by one; see `check_count`."""
    replayed = _FIXED if fixed else _MORE
    return Reject("too_many_values", f"more than {most} {what} in one message; send fewer; {replayed}")


def elements_allowed(size: int) -> int:
    """How many metrics a payload of so many bytes can name one by one."""
    return max(MAX_ELEMENTS, size // _ELEMENT_BYTES)


def check_count(count: int, allowed: int, what: str, *, fixed: bool = True) -> None:
    """Refuse a payload of more than are allowed.

    Args:
        count: of what is in it.
        allowed: so many are.
        what: they are.
        fixed: whether a replay takes no more.

    Raises:
        Reject: reason `too_many_readings`.
    """
    if count > allowed:
        raise Reject(
            "too_many_readings",
            f"more than {allowed} {what} in one message; send fewer, or in several messages; "
            f"{_FIXED if fixed else _MORE}",
        )


class Limits(NamedTuple):
    """Those of `[gateway]`.

    Attributes:
        max_payload_bytes: of a payload.
        max_ahead: by which a device's clock may be ahead of ours.
        max_metrics: of a reading.
        max_metric_name: characters of a metric's name, of a nested one with its whole path.
        patience: times as much as a message may cost, and hold, otherwise.
    """

    max_payload_bytes: int = 262_144
    max_ahead: timedelta = timedelta(days=1)
    max_metrics: int = 256
    max_metric_name: int = 128
    patience: int = 1

    @classmethod
    def of(cls, gateway: Gateway) -> Limits:
        """Those that are configured."""
        return cls(
            gateway.max_payload_bytes,
            timedelta(seconds=duration_s(gateway.max_ahead)),
            gateway.max_metrics,
            gateway.max_metric_name,
        )

    @property
    def unhurried(self) -> Limits:
        """The same where no other message waits until one is decoded."""
        return self._replace(patience=WHOLE)
