"""Formats: from the bytes of a payload to plain values, a file each, registered here.

A format knows nothing of devices, keys and times, and checks nothing of what a reading must be: that is
`mapping` and `assemble`, the same for every format. What it refuses is what cannot be read in one way only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gateway.decode.formats import strict_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Format(NamedTuple):
    """How payloads are read.

    Attributes:
        parse: the value of a payload; a list is several readings. Raises `Reject`.
        elements: the bytes of each element of a payload that is a list, as they came.
        join: a payload of such elements.
    """

    parse: Callable[[bytes], Any]
    elements: Callable[[bytes], Sequence[bytes | memoryview]]
    join: Callable[[Sequence[bytes | memoryview]], bytes]


FORMATS: Final = {"json": Format(strict_json.parse, strict_json.elements, strict_json.join)}
