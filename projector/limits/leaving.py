"""Which devices have left: nothing came of them, though others went on. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from contract.events import Event
    from projector.watch.clock import Clock


class Leaving:
    """When the devices that are watched were heard of, by the gateway's clock.

    Args:
        after_s: how long after its newest message came a device leaves; None for never.
    """

    def __init__(self, after_s: float | None) -> None:
        self._after_s = None if after_s is None else int(after_s)
        self._heard: dict[str, int] = {}
        self._unchecked: list[str] = []

    def watch(self, device_id: str, at: int) -> None:
        """Note a device that came at a time, epoch seconds."""
        if self._after_s is not None:
            self._heard.setdefault(device_id, at)

    def hear(self, at: int, events: Iterable[Event]) -> None:
        """Note that these events came, whatever they hold."""
        heard = self._heard
        if heard:
            for event in events:
                if event.device_id in heard:
                    heard[event.device_id] = at

    def gone(self, clock: Clock, most: int) -> Iterator[str]:
        """Go through so many, and forget those that have left; a long pause of the whole site is no time."""
        if self._after_s is None or clock.begun is None:
            return
        if not self._unchecked:
            self._unchecked = list(self._heard)
        resumed = clock.resumed(self._after_s // 2)
        for device_id in self._unchecked[-most:]:
            if clock.now - max(self._heard[device_id], resumed) > self._after_s:
                del self._heard[device_id]
                yield device_id
        del self._unchecked[-most:]
