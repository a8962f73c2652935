"""Writes lines as fast as they are taken, from a thread of its own.

A terminal that is stopped, or a program at the other end of a pipe that is slow, blocks whoever writes. So
the thread writes, and what waits for it is bounded in number and bytes: beyond that the oldest is left out,
and a line says how many it were, in the place where they would have been. The reader's end is watched too:
when it goes, as `head` does, that is the end of the work and no error.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections import deque
from typing import TYPE_CHECKING, Final

from gateway.tail.items import DeadLetter, Dropped, Measurement

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.tail.items import Item

MAX_WAITING: Final = 10_000
MAX_WAITING_BYTES: Final = 8_000_000
_TURN: Final = 100
_LAST_WORDS_S: Final = 2.0
_NOTES: Final = 100


class Output:
    """A line a call, in order.

    Attributes:
        put_so_far: items that came.

    Args:
        render: an item as a line.
        limit: after so many measurements and dead letters it ends; None: never.
        on_end: called once, by the thread, when nothing more can or shall be written.
        out: file descriptor of the items,
        err: and of the notes.
    """

    def __init__(
        self,
        render: Callable[[Item], str],
        *,
        limit: int | None,
        on_end: Callable[[], None],
        out: int = 1,
        err: int = 2,
    ) -> None:
        self._render = render
        self._limit = limit
        self._on_end = on_end
        self._out = out
        self._err = err
        self._items: deque[tuple[Item, int]] = deque()
        self._notes: deque[str] = deque(maxlen=_NOTES)
        self._waiting_bytes = 0
        self._dropped = 0
        self._closing = False
        self._lock = threading.Lock()
        self._wake = os.eventfd(0)
        self.shown = self.put_so_far = 0
        self._thread = threading.Thread(target=self._run, name="tail-output", daemon=True)
        self._thread.start()

    @property
    def complete(self) -> bool:
        """Whether as much as was asked for has been written."""
        return self._limit is None or self.shown == self._limit

    def put(self, item: Item, size: int) -> None:
        """Queue an item of about so many bytes; the oldest of the queue may have to go for it."""
        self.put_so_far += 1
        with self._lock:
            self._items.append((item, size))
            self._waiting_bytes += size
            while len(self._items) > MAX_WAITING or self._waiting_bytes > MAX_WAITING_BYTES:
                self._waiting_bytes -= self._items.popleft()[1]
                self._dropped += 1
        os.eventfd_write(self._wake, 1)

    def note(self, text: str) -> None:
        """Queue a line for stderr: what the command has to say of itself."""
        self._notes.append(text)
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Write what waits, as long as it is taken quickly, and end."""
        self._closing = True
        os.eventfd_write(self._wake, 1)
        self._thread.join(_LAST_WORDS_S)

    def _run(self) -> None:
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        poller.register(self._out, 0)  # tells when the reader's end has gone
        with contextlib.suppress(OSError):
            while not self._finished():
                ready = [fd for fd, _ in poller.poll()]
                if self._out in ready:
                    break
                os.eventfd_read(self._wake)
                self._write_waiting()
        self._on_end()

    def _finished(self) -> bool:
        return self.shown == self._limit or (self._closing and not self._items and not self._notes)

    def _write_waiting(self) -> None:
        while self._notes:
            _write(self._err, f"{self._notes.popleft()}\n")
        while items := self._take():
            text, shown = "", self.shown
            for item in items:
                if shown == self._limit:
                    break
                text += f"{self._render(item)}\n"
                shown += isinstance(item, (Measurement, DeadLetter))
            _write(self._out, text)
            self.shown = shown

    def _take(self) -> list[Item]:
        with self._lock:
            dropped, self._dropped = self._dropped, 0
            taken = [self._items.popleft() for _ in range(min(_TURN, len(self._items)))]
            self._waiting_bytes -= sum(size for _, size in taken)
        gap: list[Item] = [Dropped(dropped)] if dropped else []
        return gap + [item for item, _ in taken]


def _write(fd: int, text: str) -> None:
    data = text.encode(errors="backslashreplace")
    while data:
        data = data[os.write(fd, data) :]
