"""What this program calls itself, and its version."""

from __future__ import annotations

from importlib import metadata
from typing import Final

NAME: Final = "mqtt-edge-gateway"


def version() -> str:
    """As it was installed; of a checkout that runs without having been, as the demo does, "checkout"."""
    try:
        return metadata.version(NAME)
    except metadata.PackageNotFoundError:
        return "checkout"
