"""Parts put together: a compressed archive that only its owner can read, with no secret in it."""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

from runtime.logs import mask

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from runtime.settings import Settings

_MASK: Final = "***"
_SHORTEST: Final = 4  # what is shorter stands in every text
# As JSON and SQL have it, in the logs of others.
_QUOTED: Final = re.compile(
    r"""(password|passwd|pwd|secret|token)("?\s*[:=]\s*|\s+)("(?:[^"\\]|\\.)*"|'(?:[^']|'')*')""",
    re.IGNORECASE,
)
# In an address: a broker's path over WebSockets may have one.
_ASKED: Final = re.compile(r"([?&][\w-]*(?:token|secret|signature|key)=)[^&\s\"']+", re.IGNORECASE)
_ESCAPED: Final = re.compile(r"%[0-9A-F]{2}")


def secrets_of(settings: Settings) -> frozenset[str]:
    """Every secret of a configuration, in each form in which it could be written."""
    passwords = {settings.broker.password, settings.events.password or ""}
    for url in (settings.postgres.dsn, settings.redis.url):
        try:
            parts = urlsplit(url)
            asked = parse_qsl(parts.query)
        except ValueError:
            continue  # no URL: `mask` takes what looks like one
        passwords |= {parts.password or "", *(value for name, value in asked if name.endswith("password"))}
    forms = {form for each in passwords for plain in (each, unquote(each)) for form in _forms(plain)}
    return frozenset(form for form in forms if len(form) >= _SHORTEST)


def _forms(secret: str) -> Iterator[str]:
    """As it is, in a URL, in JSON and as Python shows it."""
    yield from (secret, quote(secret), quote(secret, safe=""), quote_plus(secret))
    yield from (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1])


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
    try:
        with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            for part, content in _masked(parts, secrets):
                entry = tarfile.TarInfo(f"{name}/{part}")
                entry.size, entry.mtime, entry.mode = len(content), int(now), 0o600
                archive.addfile(entry, io.BytesIO(content))
    except BaseException:
        path.unlink()  # half of one would be in the way of the next
        raise


def _masked(parts: Mapping[str, str], secrets: frozenset[str]) -> Iterator[tuple[str, bytes]]:
    longest_first = sorted(secrets, key=len, reverse=True)
    known = re.compile("|".join(map(_pattern, longest_first))) if secrets else None
    for name, text in parts.items():
        without = known.sub(_MASK, text) if known else text
        yield name, "\n".join(map(_mask_line, without.split("\n"))).encode(errors="backslashreplace")


def _mask_line(line: str) -> str:
    return _ASKED.sub(rf"\1{_MASK}", _QUOTED.sub(rf"\1\2{_MASK}", mask(line)))


def _pattern(secret: str) -> str:
    """Of a secret in a URL, where `%c3` is `%C3`."""
    return _ESCAPED.sub(lambda found: f"(?i:{found[0]})", re.escape(secret))
