"""Acknowledgements, in order of receipt and only after COMMIT (MQTT-4.6.0-2, promise 1).

Batches are stored side by side and can commit in another order than they came. This is the one place where
chunks are settled: a batch's chunks are acknowledged when it and every batch before it have been stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.batcher import Batch


class Acks:
    """Holds stored batches back until all earlier ones are stored too."""

    def __init__(self) -> None:
        self._next = 0
        self._stored: dict[int, Batch] = {}

    def settle(self, batch: Batch) -> None:
        """Take a batch whose transaction has committed, and acknowledge everything that is now due."""
        self._stored[batch.number] = batch
        while (due := self._stored.pop(self._next, None)) is not None:
            for chunk in due.chunks:
                chunk.ack()
            self._next += 1
