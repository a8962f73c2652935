"""Routes as TOML that can be pasted into a configuration. Pure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


def route(words: Mapping[str, Any]) -> str:
    """A `[[route]]` with its words; tables in it are inline."""
    return "\n".join(["[[route]]", *(f"{_key(name)} = {value(each)}" for name, each in words.items())])


def value(given: object) -> str:
    """A value: a text, a number, a boolean, an array, or an inline table."""
    if isinstance(given, bool):
        return "true" if given else "false"
    if isinstance(given, (int, float)):
        return repr(given)
    if isinstance(given, str):
        return _text(given)
    if isinstance(given, dict):
        members = ", ".join(f"{_key(name)} = {value(each)}" for name, each in given.items())
        return f"{{ {members} }}" if members else "{}"
    if isinstance(given, (list, tuple)):
        return f"[{', '.join(value(each) for each in given)}]"
    raise TypeError(f"{type(given).__name__} is nothing that a route holds")


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _text(text: str) -> str:
    """JSON's escapes are TOML's, but for one sign that TOML wants escaped too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
