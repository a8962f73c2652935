"""The load generator (`bench/load.py`) as a scenario sees it: started, ordered about, asked what it sent."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec

from bench.load import Load, Sent
from bench.packets import Shape

if TYPE_CHECKING:
    from asyncio.subprocess import Process

_ROOT = Path(__file__).parents[1]


class GeneratorError(Exception):
    """The load generator has failed; it has said why on stderr."""


class Generator:
    """One load, as an async context manager: connected and ready when entered, ended when left.

    Args:
        port: the broker's.
        load: what to send.
    """

    def __init__(self, port: int, load: Load) -> None:
        self._command = [sys.executable, "-m", "bench.load", "--port", str(port), *_arguments(load)]
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=pipe, stdout=pipe, cwd=_ROOT
        )
        await self._line()
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._process is not None
        if self._process.stdin is not None:
            self._process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._process.wait()
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def go(self) -> None:
        """Start sending."""
        self._order("go")

    def limit(self, messages: int) -> None:
        """Let no more than so many be sent in all."""
        self._order(f"limit {messages}")

    def stop(self) -> None:
        """Send no more."""
        self._order("stop")

    async def result(self) -> Sent:
        """Wait until everything is sent and acknowledged."""
        return msgspec.json.decode(await self._line(), type=Sent)

    def _order(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        if not self._process.stdin.is_closing():  # it ends by itself when all is sent
            self._process.stdin.write(f"{line}\n".encode())

    async def _line(self) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise GeneratorError(f"bench.load ended with {await self._process.wait()}")
        return line


def _arguments(load: Load) -> list[str]:
    fields = msgspec.structs.asdict(load) | msgspec.structs.asdict(load.shape)
    return [
        word
        for name, value in fields.items()
        if not isinstance(value, Shape)
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]
