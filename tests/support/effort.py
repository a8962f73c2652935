"""How hard a property is tried: as hard as it is worth among all tests, less in those of every change."""

from __future__ import annotations

import os


def examples(number: int) -> int:
    """As many examples with FULL=1, else a third."""
    return number if os.environ.get("FULL") else -(-number // 3)
