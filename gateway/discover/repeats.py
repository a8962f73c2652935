"""Parts of a dialect that say what others say too. Pure.

Devices may tell a change in several ways, as shadows do, and each would be stored.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.decode import Decoder, Limits, Reading, Received
from gateway.decode.dialects import find
from gateway.discover.block import Block, object_of, routes_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gateway.discover.heard import Sample
    from gateway.discover.known import Known

_AT_ONCE_S: Final = 2.0
_FEWEST: Final = 3  # readings that come twice, fewer of which do so by chance


class _Said(NamedTuple):
    """A reading of a device: when it came, in seconds, and its values as they are written."""

    at: float
    values: dict[str, str]


_OfPart = dict[str, list[_Said]]  # by device


def repeated(
    block: Block, known: Mapping[str, Known], samples: Mapping[str, Sequence[Sample]]
) -> list[Block]:
    """Parts of a dialect that say the same as another at the same time, left out; they leave the block."""
    said: dict[str, _OfPart] = defaultdict(lambda: defaultdict(list))
    decoder = Decoder(routes_of([block])[0], Limits())
    for topic in block.topics:
        for sample in samples[topic]:
            for each in decoder.decode(sample, Received.of(sample.at)):
                metrics = object_of(each)["metrics"] if isinstance(each, Reading) else {}
                if isinstance(each, Reading) and metrics:
                    values = {name: repr(value) for name, value in metrics.items()}
                    said[known[topic].part][each.event.device_id].append(_Said(sample.at.timestamp(), values))
    order = [part for part in find(block.words["dialect"])[1] if part in said]
    left_out = []
    for i, part in enumerate(order):
        before = [other for other in order[:i] if said[other]]
        if kept := next((other for other in before if _again(said[part], said[other], exactly=True)), ""):
            words = {**block.words, "dialect": f"{block.words['dialect']}/{part}", "ignore": True}
            its = [topic for topic in block.topics if known[topic].part == part]
            unsure = [f"{part} says the same as {kept} at the same time: left out, not to be stored twice"]
            left_out.append(Block(words, its, unsure=unsure, parts=(part,)))
            block.topics = [topic for topic in block.topics if known[topic].part != part]
            said[part] = {}
        elif kept := next((other for other in before if _again(said[part], said[other])), ""):
            block.unsure.append(
                f"{part} says what {kept} says at the same time, and one of them says more: both are stored"
            )
    return left_out


def _again(said: _OfPart, before: _OfPart, *, exactly: bool = False) -> bool:
    """Whether all that was said another part had said at the same moment, or some of it, or more."""
    readings = [(device, each) for device, all_ in said.items() for each in all_]
    return len(readings) >= _FEWEST and all(
        _is_told(each, before.get(device, ()), exactly=exactly) for device, each in readings
    )


def _is_told(said: _Said, before: Iterable[_Said], *, exactly: bool) -> bool:
    """Whether the nearest in time of those that speak of the same says the same."""
    names = said.values.keys()
    same = [
        its
        for its in before
        if its.values.keys() == names
        or (not exactly and (its.values.keys() < names or its.values.keys() > names))
    ]
    nearest = min(same, key=lambda its: abs(its.at - said.at), default=None)
    return (
        nearest is not None
        and abs(nearest.at - said.at) <= _AT_ONCE_S
        and all(nearest.values[name] == said.values[name] for name in nearest.values.keys() & names)
    )
