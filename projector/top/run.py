"""Goes round: look, paint, show, wait for the next turn or for a key."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click
import msgspec

from contract.events import format_time
from projector.top.asking import Asking
from projector.top.keys import Controls, pressed
from projector.top.look import Look, Looker, Wanted
from projector.top.picture import Picture, paint
from projector.views import Keys
from runtime.errors import Retry
from runtime.lifecycle import unless
from runtime.redis import open_redis
from runtime.terminal import columns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from runtime.settings import Settings

_TURN_S: Final = 2.0
_ONCE_S: Final = 1.0
_LINE_DEVICES: Final = 20


class Top:
    """The state between turns."""

    def __init__(self, looker: Looker) -> None:
        self._looker = looker
        self._before: Look | None = None
        self.controls = Controls()

    async def turn(self, limit: int) -> Picture:
        """Look, and paint it.

        Raises:
            Retry: Redis is away.
        """
        look = await self._looker.look(Wanted(self.controls.order, self.controls.part, limit))
        before, self._before = self._before, look
        return paint(look, before)


async def once(settings: Settings, token: str, *, as_json: bool) -> None:
    """Print what one second shows.

    Raises:
        Retry: Redis is away.
    """
    async with _top(settings, token) as top:
        await top.turn(_LINE_DEVICES)
        await asyncio.sleep(_ONCE_S)
        picture = await top.turn(_LINE_DEVICES)
    if as_json:
        click.echo(msgspec.json.encode(picture))
        return
    from rich.console import Console  # noqa: PLC0415  # JSON does without

    from projector.top.screen import draw  # noqa: PLC0415  # likewise

    width = columns()
    Console(width=width).print(draw(picture, top.controls, width=width, height=None))


async def lines(settings: Settings, token: str, stop: asyncio.Event) -> None:
    """Print a line of JSON a turn, until stopped or until nobody reads any more."""
    async with _top(settings, token) as top:
        while not stop.is_set():
            try:
                picture = await top.turn(_LINE_DEVICES)
            except Retry as error:
                picture = Picture(format_time(datetime.now(UTC)), redis=error.reason)
            click.echo(msgspec.json.encode(picture))
            await unless(stop, asyncio.sleep(_TURN_S))


async def live(settings: Settings, token: str, stop: asyncio.Event) -> None:
    """Draw on the terminal and obey keys, until stopped."""
    from rich.console import Console  # noqa: PLC0415  # JSON does without
    from rich.live import Live  # noqa: PLC0415  # likewise

    from projector.top.screen import draw  # noqa: PLC0415  # likewise

    console = Console()
    awake = asyncio.Event()
    picture = Picture(format_time(datetime.now(UTC)))
    async with _top(settings, token) as top:

        def on_key(key: str) -> None:
            top.controls = top.controls.press(key)
            if top.controls.quits:
                stop.set()
            awake.set()

        with Live(console=console, screen=True, auto_refresh=False) as screen, pressed(on_key):
            while not stop.is_set():
                awake.clear()
                try:
                    picture = await top.turn(console.height)
                except Retry as error:
                    picture = msgspec.structs.replace(picture, redis=error.reason)
                size = console.size
                drawn = draw(picture, top.controls, width=size.width, height=size.height)
                screen.update(drawn, refresh=True)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_TURN_S):
                        await unless(stop, awake.wait())


@contextlib.asynccontextmanager
async def _top(settings: Settings, token: str) -> AsyncIterator[Top]:
    async with open_redis(settings.redis.url, settings.redis.prefix) as redis:
        yield Top(Looker(redis, Keys(settings.redis.prefix), Asking(settings.projector, token)))
