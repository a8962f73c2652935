"""Commands on a terminal that is read only while a test waits for something, and else stands still."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import struct
import sys
import termios
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import signal
    from collections.abc import Mapping

HOME = "\x1b[H"


class Terminal:
    """A pseudo-terminal with one of the project's commands on it.

    Attributes:
        text: all that was read of it.
        errors: what the command says on stderr, which goes by a pipe.
    """

    def __init__(self, fd: int, process: asyncio.subprocess.Process) -> None:
        self._fd = fd
        self._process = process
        self.text = ""
        assert process.stderr is not None
        self.errors = process.stderr

    @classmethod
    async def start(cls, *arguments: str, env: Mapping[str, str], rows: int = 40, columns: int = 120) -> Self:
        """Start a command such as `gateway`, `tail` on a terminal of a size."""
        fd, inside = pty.openpty()
        fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *arguments),
            stdin=inside,
            stdout=inside,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "TERM": "xterm-256color", "LANG": "C.UTF-8", **env},
        )
        os.close(inside)
        os.set_blocking(fd, False)
        return cls(fd, process)

    async def until(self, *wanted: str, without: str | None = None, timeout_s: float = 20) -> str:
        """Read until one drawing has all these texts, the last part of it among them; returns the drawing.

        A drawing is what comes after the cursor was sent home; without that, all that was not read before.

        Args:
            wanted: texts that the drawing has.
            without: a text that it has no more.
            timeout_s: how long to wait.

        Raises:
            AssertionError: it did not come in time; with the end of what did.
        """
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._fd, readable.set)
        fresh, drawn = b"", ""
        try:
            async with asyncio.timeout(timeout_s):
                while not all(text in drawn for text in wanted) or (without and without in drawn):
                    await readable.wait()
                    readable.clear()
                    with contextlib.suppress(BlockingIOError):
                        fresh += os.read(self._fd, 1 << 16)
                    drawn = fresh.decode(errors="replace").rpartition(HOME)[2]
        except (TimeoutError, OSError) as error:
            raise AssertionError(f"the terminal did not show {wanted}: {drawn[-2000:]!r}") from error
        finally:
            loop.remove_reader(self._fd)
            self.text += fresh.decode(errors="replace")
        return drawn

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._fd, keys.encode())

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the command."""
        self._process.send_signal(number)

    async def exit_code(self, timeout_s: float = 20) -> int:
        """Wait for the end of the command, reading what it still writes."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._fd, self._drain)
        try:
            return await asyncio.wait_for(self._process.wait(), timeout_s)
        finally:
            loop.remove_reader(self._fd)

    async def close(self) -> None:
        """End the command, if it runs, and give up the terminal."""
        if self._process.returncode is None:
            self._process.kill()
        await self.exit_code()
        os.close(self._fd)

    def _drain(self) -> None:
        try:
            self.text += os.read(self._fd, 1 << 16).decode(errors="replace")
        except OSError:  # the other end has gone
            asyncio.get_running_loop().remove_reader(self._fd)
