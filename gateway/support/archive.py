"""Parts put together: a compressed archive that only its owner can read, with no secret in it."""

from __future__ import annotations

import io
import os
import re
import tarfile
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, quote, unquote, urlsplit

from runtime.logs import mask

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from runtime.settings import Settings

_MASK: Final = "***"
_SHORTEST: Final = 4  # what is shorter stands in every text


def secrets_of(settings: Settings) -> frozenset[str]:
    """Every secret of a configuration, in each form in which it could be written."""
    passwords = {settings.broker.password, settings.events.password or ""}
    for url in (settings.postgres.dsn, settings.redis.url):
        try:
            parts = urlsplit(url)
            passwords |= {parts.password or "", *parse_qs(parts.query).get("password", ())}
        except ValueError:
            continue  # no URL: `mask` takes what looks like one
    forms = {form for each in passwords for form in (each, unquote(each), quote(each, safe=""))}
    return frozenset(form for form in forms if len(form) >= _SHORTEST)


def write(path: Path, name: str, parts: Mapping[str, str], secrets: frozenset[str]) -> None:
    """Write parts into a new `.tar.gz` that only its owner can read.

    Args:
        path: of the archive; must not be there.
        name: of the folder in it.
        parts: file name → text.
        secrets: masked wherever they stand.

    Raises:
        OSError: it cannot be written.
    """
    now = time.time()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
        for part, content in _masked(parts, secrets):
            entry = tarfile.TarInfo(f"{name}/{part}")
            entry.size, entry.mtime, entry.mode = len(content), int(now), 0o600
            archive.addfile(entry, io.BytesIO(content))


def _masked(parts: Mapping[str, str], secrets: frozenset[str]) -> Iterator[tuple[str, bytes]]:
    longest_first = sorted(secrets, key=len, reverse=True)
    known = re.compile("|".join(map(re.escape, longest_first))) if secrets else None
    for name, text in parts.items():
        without = known.sub(_MASK, text) if known else text
        yield name, "\n".join(map(mask, without.split("\n"))).encode(errors="backslashreplace")
