"""What commands that show things on a terminal share."""

from __future__ import annotations

from typing import Final

_UNITS: Final = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


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
