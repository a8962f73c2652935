"""A guess, tried with the decoder: words that lead to dead letters are taken back. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateway.decode import Decoder, Limits, Received, Rejection
from gateway.decode.dialects import complete_routes
from gateway.decode.routes import compile_routes
from runtime.errors import ConfigurationError
from runtime.settings import Route

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.discover.heard import Sample

_TRIES: Final = 6
_BROKEN: Final = 0.1  # of messages, which may be refused without a word of the route being wrong


@dataclass
class Guess:
    """Of a shape.

    Attributes:
        words: of its route.
        unsure: what is guessed without much to go by.
        samples: messages of it.
        letters: of these, what became dead letters.
    """

    words: dict[str, Any]
    unsure: list[str] = field(default_factory=list)
    samples: Sequence[Sample] = ()
    letters: list[Rejection] = field(default_factory=list)


def tried(found: Guess) -> Guess:
    """Try the words, and take back those that lead to dead letters."""
    for _ in range(_TRIES if not usable(found.words) else 0):
        found.letters = letters(found.words, found.samples)
        if not found.letters:
            break
        [(reason, count)] = Counter(letter.reason for letter in found.letters).most_common(1)
        if count <= _BROKEN * len(found.samples) and reason != "time_out_of_range":
            break
        if not _mended(found, reason):
            break
    return found


def _mended(found: Guess, reason: str) -> bool:
    words = found.words
    changes: dict[str, tuple[str, Any, str]] = {
        "invalid_time": ("clock", "prefer", "some times cannot be read: then arrival counts"),
        "time_out_of_range": ("clock", "prefer", "some clocks are wrong: then arrival counts"),
        "invalid_key": ("key", "", "some keys cannot be kept, so none is used"),
        "invalid_region": ("region", "", "some regions cannot be kept, so none is used"),
        "device_mismatch": ("device", "", "what messages say of the device is not what the topic says"),
        "malformed_value": (
            "on_bad_field",
            "drop",
            f"some say that there is no number, {_said(found)}: such messages are left out",
        ),
        "duplicate_key": (
            "rename",
            {},
            "names come together when they are made shorter, so they stay as they are",
        ),
    }
    if reason == "malformed_value":
        words["empty"] = "ignore"
    name, value, said = changes.get(
        reason, ("on_bad_field", "drop", f"some fields cannot be kept ({reason}) and are left out")
    )
    if words.get(name) == value:
        if words.get("on_bad_field") == "drop":
            return False
        name, value, said = "on_bad_field", "drop", f"some fields cannot be kept ({reason}) and are left out"
    words[name] = value
    found.unsure.append(said)
    return True


def _said(found: Guess) -> str:
    first = next((letter for letter in found.letters if letter.reason == "malformed_value"), None)
    return repr(first.payload[:20].decode(errors="replace")) if first else "as nan"


def letters(words: dict[str, Any], samples: Sequence[Sample]) -> list[Rejection]:
    """What of messages becomes a dead letter by a route.

    Raises:
        ConfigurationError: the route is none.
    """
    raw: dict[str, Any] = {"route": [dict(words)]}
    complete_routes(raw)
    decoder = Decoder(compile_routes(msgspec.convert(raw["route"], list[Route])), Limits())
    return [
        each
        for sample in samples
        for each in decoder.decode(sample, Received.of(sample.at))
        if isinstance(each, Rejection)
    ]


def usable(words: dict[str, Any]) -> str:
    """Why a route cannot be; empty when it can."""
    try:
        letters(words, ())
    except (ConfigurationError, msgspec.ValidationError) as error:
        return str(error)
    return ""
