"""What a format is: how the payloads of one route are read, cut and put together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.decode.formats.compression import NOT_PACKED, Unpacking

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from gateway.decode.glance import Glance

    Raws = Sequence[bytes | memoryview]


class Raw(NamedTuple):
    """The two steps of a format that tells what stands in a payload from what it means.

    Attributes:
        read: what stands there.
        is_plain: whether what it means follows from its shape: texts and numbers stay what they are.
        resolve: what it means; given that and the bytes. Raises `Reject`, as `read` does.
    """

    read: Callable[[bytes], Any]
    is_plain: Callable[[Any], bool]
    resolve: Callable[[Any, bytes], Any]


class Format(NamedTuple):
    """How the payloads of a route are read.

    Attributes:
        parse: the value of a payload; a list is several readings. Raises `Reject`.
        elements: the bytes of each element of a payload that is a list, each a payload of the same format.
        join: a payload of such elements.
        write: a payload that has this value; None when there is no such thing.
        unpacking: what is done before, of a payload that is compressed.
        lines: whether the elements of a list are messages of their own, in each of which `each` is looked
            for; one that could not be read is a `Refused`.
        raw: the two steps of parsing, where there are two.
        steps: parses in steps, and comes to what `parse` returns; None where no payload needs them.
        look: what one glance at a payload tells; None of one of which that is not all.
        quick: whether elements cost next to nothing beside the readings that they are.
    """

    parse: Callable[[bytes], Any]
    elements: Callable[[bytes], Raws]
    join: Callable[[Raws], bytes]
    write: Callable[[Any], bytes] | None = None
    unpacking: Unpacking = NOT_PACKED
    lines: bool = False
    raw: Raw | None = None
    steps: Callable[[bytes], Generator[None, None, Any]] | None = None
    look: Callable[[bytes], Glance | None] | None = None
    quick: bool = False
