"""Parts of a dialect that say what others say too. Pure.

Devices may tell a change in several ways, as shadows do, and each would be stored.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from gateway.decode import Decoder, Limits, Reading, Received
from gateway.decode.dialects import find
from gateway.discover.block import Block, object_of, routes_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway.discover.heard import Sample
    from gateway.discover.known import Known

_Said = tuple[str, int, frozenset[tuple[str, str]]]

_AT_ONCE_S: Final = 2
_FEWEST: Final = 3  # readings that come twice, fewer of which do so by chance


def repeated(
    block: Block, known: Mapping[str, Known], samples: Mapping[str, Sequence[Sample]]
) -> list[Block]:
    """Parts of a dialect that say the same as another at the same time, left out; they leave the block."""
    said: dict[str, set[_Said]] = defaultdict(set)
    decoder = Decoder(routes_of([block])[0], Limits())
    for topic in block.topics:
        for sample in samples[topic]:
            for each in decoder.decode(sample, Received.of(sample.at)):
                metrics = object_of(each)["metrics"] if isinstance(each, Reading) else {}
                if isinstance(each, Reading) and metrics:
                    second = round(sample.at.timestamp() / _AT_ONCE_S)
                    values = frozenset((name, repr(value)) for name, value in metrics.items())
                    said[known[topic].part].add((each.event.device_id, second, values))
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
            said[part] = set()
        elif kept := next((other for other in before if _again(said[part], said[other])), ""):
            block.unsure.append(
                f"{part} says what {kept} says at the same time, and one of them says more: both are stored"
            )
    return left_out


def _again(said: set[_Said], before: set[_Said], *, exactly: bool = False) -> bool:
    """Whether all that was said had been said by another part within a few seconds, or all of that again."""
    beside: dict[tuple[str, int], list[frozenset[tuple[str, str]]]] = defaultdict(list)
    for device, second, values in before:
        for late in (-1, 0, 1):
            beside[device, second + late].append(values)
    return len(said) >= _FEWEST and all(
        any(
            values == its or (not exactly and (values < its or its < values))
            for its in beside[device, second]
        )
        for device, second, values in said
    )
