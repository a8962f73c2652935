"""The program's version, installed or not."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING

from projector.api.docs import openapi
from runtime import product

if TYPE_CHECKING:
    import pytest


def test_a_checkout_that_is_not_installed_has_a_page_of_its_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make demo` in a fresh clone installs what the product runs with, and not the product."""
    assert openapi().version == metadata.version(product.NAME)

    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    assert openapi().version == "checkout"
