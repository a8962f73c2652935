"""What commands that show things on a terminal share."""

from __future__ import annotations

import shutil
import sys
from typing import Final

_ENDLESS: Final = 10_000
_UNITS: Final = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def columns(at_most: int = _ENDLESS) -> int:
    """How wide to lay out what goes to stdout: as the terminal, or so wide that a pipe is never cut."""
    return min(shutil.get_terminal_size().columns, at_most) if sys.stdout.isatty() else _ENDLESS


def safe(text: str) -> str:
    """Text of strangers in which only printable characters are left as they are."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def span(seconds: float) -> str:
    """A duration in a few signs: `40ms`, `2.5s`, `3.0h`."""
    size = abs(seconds)
    for unit_s, unit in _UNITS:
        if size >= unit_s:
            return f"{size / unit_s:.1f}{unit}"
    return f"{size * 1000:.0f}ms"
