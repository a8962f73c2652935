"""The projector without history: what `bench.history` compares with. `python -m bench.bare_projector run`."""

from __future__ import annotations

import asyncio
from typing import Any

from projector import app
from projector.cli import main


class _NoHistory:
    """A recorder that records nothing."""

    def __init__(self, *_arguments: Any, **_options: Any) -> None:  # noqa: ANN401  # whatever a recorder takes
        pass

    def take(self, _rows: object) -> None:
        """Take nothing."""

    def memory(self, _number: int) -> None:
        """There is nothing in memory."""

    async def run(self) -> None:
        """Do nothing until cancelled."""
        await asyncio.Event().wait()

    async def turn(self, *, flush: bool) -> None:
        """Write nothing."""


if __name__ == "__main__":
    vars(app)["Recorder"] = _NoHistory
    main()
