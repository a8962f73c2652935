"""The page's files."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Final, NamedTuple

_TYPES: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript"}


class File(NamedTuple):
    """One, as it is served."""

    content: bytes
    media_type: str
    etag: str


def read_files() -> dict[str, File]:
    """All of them, by name."""
    files = {}
    for each in resources.files("projector.live").joinpath("page").iterdir():
        kind = each.name.rpartition(".")[2]
        if kind in _TYPES:
            content = each.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
            files[each.name] = File(content, _TYPES[kind], etag)
    return files
