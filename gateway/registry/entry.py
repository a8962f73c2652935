"""What the registry says of a device, and what somebody wants it to say. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, cast, get_args

import msgspec

from gateway.decode.names import check_device_id
from gateway.door import State
from runtime.errors import Reject
from runtime.settings import duration_s

if TYPE_CHECKING:
    from collections.abc import Mapping

STATES: Final = cast("tuple[State, ...]", get_args(State))

MAX_NAME: Final = 100
MAX_LABELS: Final = 20
MAX_LABEL_NAME: Final = 64
MAX_LABEL: Final = 200
MAX_LABELS_BYTES: Final = 2000
LONGEST_S: Final = 3650 * 86_400

_JOINERS: Final = str.maketrans("", "", "\u200c\u200d")  # of Persian and Indian scripts, and of emoji
_LABEL_NAME: Final = re.compile(rf"\w[\w.-]{{0,{MAX_LABEL_NAME - 1}}}")
_DURATION: Final = re.compile(r"[1-9][0-9]{0,11}(ms|s|m|h|d)")
_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))
_SHOWN: Final = 40


class Entry(NamedTuple):
    """A device in the registry.

    Attributes:
        expected_s: how often it should send, in seconds; None where nobody said.
    """

    device_id: str
    name: str | None = None
    state: State = "active"
    labels: Mapping[str, str] = {}
    expected_s: int | None = None


class Wish(NamedTuple):
    """What somebody wants the registry to say of a device; None leaves it as it is.

    Attributes:
        name: "" for none.
        state: None makes it active, unless it is blocked.
        labels: in place of those it has.
        more: labels beside those that it has.
        fewer: names of labels that go.
        expected_s: 0 for none.
    """

    device_id: str
    name: str | None = None
    state: State | None = None
    labels: Mapping[str, str] | None = None
    more: Mapping[str, str] = {}
    fewer: frozenset[str] = frozenset()
    expected_s: int | None = None

    def on(self, before: Entry | None) -> Entry:
        """What it makes of a device.

        Raises:
            ValueError: too many labels together.
        """
        was = before or Entry(self.device_id)
        labels = was.labels if self.labels is None else self.labels
        labels = {name: value for name, value in labels.items() if name not in self.fewer} | dict(self.more)
        if self.more:
            check_labels(labels)
        return Entry(
            self.device_id,
            was.name if self.name is None else self.name or None,
            self.state or ("blocked" if was.state == "blocked" else "active"),
            labels,
            was.expected_s if self.expected_s is None else self.expected_s or None,
        )


def checked_id(text: str) -> str:
    """An id as messages can have it.

    Raises:
        ValueError: it is none.
    """
    try:
        return check_device_id(text)
    except Reject as reject:
        raise ValueError(reject.detail) from None


def checked_name(text: str) -> str:
    """A name without spaces around it; "" is none.

    Raises:
        ValueError: it cannot be one.
    """
    name = text.strip()
    if len(name) > MAX_NAME:
        raise ValueError(f"name {name[:_SHOWN]!r}… has {len(name)} characters, at most {MAX_NAME}")
    return _printable("name", name)


def check_labels(labels: Mapping[str, str]) -> None:
    """Refuse labels that cannot be.

    Raises:
        ValueError: it says which, and what would be right.
    """
    if len(labels) > MAX_LABELS:
        raise ValueError(f"{len(labels)} labels, at most {MAX_LABELS}")
    for name, value in labels.items():
        if not _LABEL_NAME.fullmatch(name):
            raise ValueError(
                f"label {name[:_SHOWN]!r}: a name has 1 to {MAX_LABEL_NAME} letters, digits and _ . -"
            )
        if not 0 < len(value) <= MAX_LABEL:
            raise ValueError(f"label {name!r} should be a text of 1 to {MAX_LABEL} characters")
        _printable(f"label {name!r}", value)
    if len(encoded(labels).encode()) > MAX_LABELS_BYTES:
        raise ValueError(f"labels of more than {MAX_LABELS_BYTES:,} bytes together")


def encoded(labels: Mapping[str, str]) -> str:
    """Labels as JSON, always in the same order."""
    return msgspec.json.encode(dict(labels), order="sorted").decode()


def parse_labels(text: str) -> dict[str, str]:
    """Labels from JSON; empty for none.

    Raises:
        ValueError: they cannot be.
    """
    if not text.strip():
        return {}
    try:
        labels = msgspec.json.decode(text, type=dict[str, str])
    except msgspec.DecodeError as error:
        raise ValueError(f'labels {text[:_SHOWN]!r}: expected such as {{"site": "north"}}: {error}') from None
    check_labels(labels)
    return labels


def parse_every(text: str) -> int:
    """A duration such as `15m` in seconds; "" is 0, for none.

    Raises:
        ValueError: it is none, is not of whole seconds, or is too long.
    """
    if not text:
        return 0
    if not _DURATION.fullmatch(text):
        raise ValueError(
            f'expected_every {text[:_SHOWN]!r}: expected a duration such as "90s", "15m" or "1d"'
        )
    seconds = duration_s(text)
    if not (seconds.is_integer() and 1 <= seconds <= LONGEST_S):
        raise ValueError(f'expected_every {text}: expected whole seconds, from "1s" to "3650d"')
    return int(seconds)


def every_text(seconds: int | None) -> str:
    """Seconds as `parse_every` reads them, in the largest unit of which they are so many."""
    for unit_s, unit in _UNITS:
        if seconds and seconds % unit_s == 0:
            return f"{seconds // unit_s}{unit}"
    return ""


def parse_state(text: str) -> State:
    """A state by its name.

    Raises:
        ValueError: there is no such.
    """
    for state in STATES:
        if state == text:
            return state
    raise ValueError(f"state {text[:_SHOWN]!r}: expected one of {', '.join(STATES)}")


def _printable(what: str, text: str) -> str:
    if not text.translate(_JOINERS).isprintable():
        raise ValueError(f"{what} {text[:_SHOWN]!r} has a control character or another that is not printed")
    return text
