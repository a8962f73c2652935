"""Work that is done in steps, between which others may have their turn. Pure.

A birth of Sparkplug names thousands of tags at once: to read it takes a tenth of a second, and as long as
nothing else is done no acknowledgement goes out, no row is written and no page is served.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator

Result = TypeVar("Result")


def finish(steps: Generator[None, None, Result]) -> Result:
    """Do all steps at once; returns what they come to."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        result: Result = end.value
        return result
