"""Tells silence from absence: when nothing has come for a while, what is known of those who would send it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NoReturn

from runtime.terminal import safe

if TYPE_CHECKING:
    from gateway.tail.output import Output

FIRST_S: Final = 5.0
AGAIN_S: Final = 60.0
_ALIVE_S: Final = 30.0  # a gateway gives a sign of life each five


@dataclass(slots=True)
class Heard:
    """What the parts of a tail have seen so far.

    Attributes:
        gateways: stream → who writes it, and for how many seconds there was no sign of life of him; None as
            long as the database has not answered.
        events: measurements that came, wanted or not.
    """

    gateways: dict[int, tuple[str, float]] | None = field(default=None)
    events: int = 0


async def tell(heard: Heard, output: Output) -> NoReturn:
    """Note what is known whenever nothing has been put out for a while, until cancelled."""
    while True:
        put, events = output.put_so_far, heard.events
        await asyncio.sleep(FIRST_S)
        while output.put_so_far == put:
            output.note(f"nothing yet: {why(heard, heard.events - events)}")
            await asyncio.sleep(AGAIN_S)


def why(heard: Heard, passed_over: int) -> str:
    """Why nothing is shown, as far as it is known."""
    if passed_over:
        return f"{passed_over} measurements came, and none that was asked for"
    if heard.gateways is None:
        return "and PostgreSQL does not say whether a gateway runs"
    if not heard.gateways:
        return "no gateway has ever run here"
    alive = [name for name, silent_s in heard.gateways.values() if silent_s <= _ALIVE_S]
    if alive:
        return f"nothing was stored meanwhile, though {', '.join(map(safe, sorted(alive)))} is there"
    name, silent_s = min(heard.gateways.values(), key=lambda each: each[1])
    return f"no gateway runs; {safe(name)} was the last, {silent_s:.0f} s ago"
