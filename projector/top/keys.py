"""What keys do to what is shown. Pure, but for reading them from the terminal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import termios
import tty
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from projector.top.look import Order

ESCAPE: Final = "\x1b"
_DONE: Final = frozenset("\r\n")
_ERASE: Final = frozenset("\x7f\x08")


class Controls(NamedTuple):
    """What the keys have set.

    Attributes:
        part: of the device ids to list.
        typing: whether keys go into `part`.
        quits: whether to leave.
    """

    order: Order = "silent"
    part: str = ""
    typing: bool = False
    quits: bool = False

    def press(self, key: str) -> Controls:
        """What a key makes of it: `/` filter, `s` other order, Esc no filter, `q` leave."""
        if self.typing:
            return self._type(key)
        if key == "/":
            return self._replace(typing=True)
        if key == "s":
            return self._replace(order="fresh" if self.order == "silent" else "silent")
        if key == ESCAPE:
            return self._replace(part="")
        return self._replace(quits=key == "q")

    def _type(self, key: str) -> Controls:
        if key in _DONE:
            return self._replace(typing=False)
        if key == ESCAPE:
            return self._replace(typing=False, part="")
        if key in _ERASE:
            return self._replace(part=self.part[:-1])
        return self._replace(part=self.part + key) if key.isprintable() else self


@contextlib.contextmanager
def pressed(on_key: Callable[[str], None]) -> Iterator[None]:
    """Call `on_key` for each key while the body runs; without a terminal on stdin, never."""
    if not sys.stdin.isatty():
        yield
        return
    fd = sys.stdin.fileno()
    loop = asyncio.get_running_loop()
    before = termios.tcgetattr(fd)

    def read() -> None:
        text = os.read(fd, 64).decode(errors="replace")
        if not text:
            loop.remove_reader(fd)
        elif text.startswith(ESCAPE) and len(text) > 1:
            return  # an arrow or a function key
        for key in text:
            on_key(key)

    tty.setcbreak(fd)
    loop.add_reader(fd, read)
    try:
        yield
    finally:
        loop.remove_reader(fd)
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
