"""Which dialects read a topic that no route takes, for who has not named one yet. Pure."""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from gateway.decode.dialects import names, read
from gateway.decode.templates import compile_template

_MOST_BEFORE: Final = 3  # levels of a site in front of a dialect's own
_FEW: Final = 3


def suggestion(topic: str) -> str:
    """What to write into a configuration; empty where no dialect reads such topics.

    Args:
        topic: of a message.
    """
    levels = topic.split("/")
    for cut in range(min(len(levels), _MOST_BEFORE + 1)):
        own = "/".join(levels[cut:])
        found = [
            name
            for name in names()
            if any(pattern.fullmatch(own) for pattern, wide in _patterns(name) if not (cut and wide))
        ]
        if 0 < len(found) <= _FEW:
            dialects = " or ".join(f'dialect = "{name}"' for name in found)
            before = f' with prefix = "{"/".join(levels[:cut])}/"' if cut else ""
            return f"a [[route]] of {dialects}{before} reads such topics"
    return ""


@cache
def _patterns(name: str) -> list[tuple[re.Pattern[str], bool]]:
    """What the topics of a dialect look like, and whether they begin with any device's name."""
    return [
        (re.compile(compile_template(route["topic"], name).pattern, re.DOTALL), route["topic"][:1] == "{")
        for route in read(name).routes.values()
        if route.get("ignore") is not True
    ]
