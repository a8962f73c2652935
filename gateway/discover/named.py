"""Messages of Sparkplug, whose metrics have their names in births. Pure.

A minute is too short to hear a birth: what has no name without one is what a gateway asks a birth for.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from gateway.decode import Decoder, Limits, Rejection
from gateway.sparkplug.replayed import NamingDecoder
from gateway.sparkplug.topics import address_of
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gateway.decode import Reading
    from gateway.decode.routes import CompiledRoute
    from gateway.discover.heard import Sample

_UNNAMED: Final = frozenset({"not_born", "unknown_alias"})
_ADVICE: Final = "a gateway asks the edge node for it, and holds the message until then"
UNSURE: Final = "have no names without a birth, which was not heard: a gateway asks the edge node for it"


def naming_decoder(routes: Sequence[CompiledRoute], samples: Iterable[Sample] = ()) -> NamingDecoder:
    """A decoder that knows the births among messages."""
    decoder = NamingDecoder(Decoder(routes, Limits()), advice=_ADVICE)
    for sample in samples:
        if kind_of(sample.topic) in {"NBIRTH", "DBIRTH"}:
            with contextlib.suppress(ValueError, Reject):  # of another format, or none at all
                decoder.learn(sample.topic, sample.payload)
    return decoder


def kind_of(topic: str) -> str:
    """Which kind of message of Sparkplug a topic is for; empty when for none."""
    address = address_of(topic)
    return address.kind if address else ""


def is_unnamed(item: Reading | Rejection) -> bool:
    """Whether it is a message that only lacks a birth."""
    return isinstance(item, Rejection) and item.reason in _UNNAMED
