"""A configuration read again while a process runs, at SIGHUP: what both programs share of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NoReturn

import msgspec
import structlog

from runtime.errors import EdgeError
from runtime.logs import mask

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from runtime.settings import Settings

log = structlog.get_logger()


class Reload:
    """Waits to be asked, and reloads.

    Args:
        load: reads and checks the configuration.
    """

    def __init__(self, load: Callable[[], Settings]) -> None:
        self._load = load
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Have the configuration read again, as soon as there is somebody to do it."""
        self._asked.set()

    async def run(self, change: Callable[[Settings], Awaitable[tuple[list[str], list[str]]]]) -> NoReturn:
        """Reload whenever asked, until cancelled.

        Args:
            change: goes by another configuration, or refuses it and changes nothing; returns the keys that
                changed, and those that will at the next start.
        """
        while True:
            await self._asked.wait()
            self._asked.clear()
            try:
                changed, later = await change(self._load())
            except EdgeError as error:
                log.warning("reload_refused", reason=mask(str(error)))
            else:
                log.info("reloaded", changed=changed, needs_restart=later)


def differences(old: Settings, new: Settings) -> list[str]:
    """The keys that differ."""
    found = []
    for section in msgspec.structs.fields(old):
        was, now = getattr(old, section.name), getattr(new, section.name)
        if not isinstance(was, msgspec.Struct):
            found += [section.name] if was != now else []
            continue
        names = [field.name for field in msgspec.structs.fields(was)]
        found += [f"{section.name}.{each}" for each in names if getattr(was, each) != getattr(now, each)]
    return found
