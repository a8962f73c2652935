"""Whether there is a spool, and what is in it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.check.report import Finding
from gateway.spool import reports
from gateway.spool.file import NAME
from gateway.spool.folder import Unusable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from runtime.settings import Settings


async def check_spool(settings: Settings) -> AsyncIterator[Finding]:
    """Look at the spool's folder; nothing is made."""
    for finding in await asyncio.to_thread(lambda: list(_look(settings))):
        yield finding


def _look(settings: Settings) -> Iterator[Finding]:
    if not settings.spool.path:
        yield Finding("spool", "ok", "off: while PostgreSQL is away messages wait in the broker")
        return
    folder = Path(settings.spool.path)
    place = folder if folder.exists() else folder.parent
    if not os.access(place, os.W_OK):
        yield Finding(
            "spool",
            "warn",
            f"{place} cannot be written: while PostgreSQL is away messages wait in the broker",
            'let the gateway write there; or set spool.path, to "" if that is as it should be',
        )
        return
    aside = [*folder.glob("aside-*.db"), *folder.glob("damaged-*.bin")] if folder.exists() else []
    if aside:
        told = ", ".join(sorted(str(each) for each in aside)[:3])
        yield Finding(
            "spool",
            "warn",
            f"{len(aside)} files were set aside: {told}",
            "`gateway spool recover FILE` saves what is whole; move them away then",
        )
    try:
        extent = reports.extent(folder / NAME) if (folder / NAME).exists() else None
    except Unusable as unusable:
        yield Finding("spool", "warn", str(unusable), "the gateway sets it aside when it starts")
        return
    if extent is not None and extent.messages:
        yield Finding(
            "spool", "warn", f"{extent.messages:,} messages, the oldest of {extent.oldest[:19]}Z",
            "they are stored by themselves when PostgreSQL takes them",
        )  # fmt: skip
    elif not aside:
        yield Finding("spool", "ok", f"empty, up to {settings.spool.max_bytes} in {folder}")
