"""What is installed at a site, built once for the tests of a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from deploy.packages import wheel

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def built_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, with `constraints.txt` beside it."""
    return wheel.build(tmp_path_factory.mktemp("dist"))
