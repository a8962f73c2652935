"""`gateway` and `projector` as real processes, watched through the JSON lines that they log."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from tests.support import forks

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHORTEST: Final = 6  # a shorter word is in every log


def secrets_in(env: Mapping[str, str]) -> frozenset[str]:
    """The passwords that a process is given, by itself or in an address, in its environment or its file."""
    text = "\n".join(value for name, value in env.items() if name.startswith("EDGE_"))
    if file := env.get("EDGE_CONFIG"):
        with contextlib.suppress(OSError):
            text += Path(file).read_text(encoding="utf-8", errors="replace")
    found = {value for name, value in env.items() if name.endswith("_PASSWORD")}
    found.update(re.findall(r"://[^\s:/@]*:([^\s@]+)@", text), re.findall(r'password\s*=\s*"([^"]+)"', text))
    found.update([unquote(secret) for secret in found])
    return frozenset(secret for secret in found if len(secret) >= _SHORTEST)


class RunningCommand:
    """A process with what it has said so far.

    Attributes:
        events: the log lines that were JSON objects, in order of arrival, from both streams.
        stdout: the lines of standard output as text.
        output: every line of both streams as text.
        name: the command line, for messages.
    """

    def __init__(self, process: forks.Process, name: str, secrets: frozenset[str] = frozenset()) -> None:
        self.name = name
        self._secrets = secrets
        self.events: list[dict[str, Any]] = []
        self.stdout: list[str] = []
        self.output: list[str] = []
        self._process = process
        self._said = asyncio.Condition()
        self._reading = 2
        self._readers = [
            asyncio.create_task(self._read(process.stdout, self.stdout), name=f"{name} stdout"),
            asyncio.create_task(self._read(process.stderr, []), name=f"{name} stderr"),
        ]

    @classmethod
    async def start(cls, *arguments: str, env: Mapping[str, str], process_group: int) -> RunningCommand:
        """Start one of the project's commands, of the tree under test.

        Args:
            arguments: such as `gateway`, `run`.
            env: the whole environment.
            process_group: a warden's, so that the process cannot outlive a killed test run.
        """
        process = await forks.start(*arguments, env=env, process_group=process_group)
        return cls(process, " ".join(arguments), secrets_in(env))

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def event(
        self, event: str, *, skip: int = 0, timeout_s: float = 20, **fields: object
    ) -> dict[str, Any]:
        """Wait for a log event and return its line.

        Args:
            event: the event's name.
            skip: how many matching lines to pass over, such as `skip=1` for the second `connected`.
            timeout_s: how long to wait.
            fields: values that the line must have.

        Raises:
            AssertionError: it did not come in time, or the process ended without it; with all that was said.
        """
        wanted = {"event": event, **fields}
        try:
            async with asyncio.timeout(timeout_s), self._said:
                while True:
                    matching = [line for line in self.events if wanted.items() <= line.items()]
                    if len(matching) > skip:
                        return matching[skip]
                    if not self._reading:
                        raise AssertionError(self._report(f"ended without the event {wanted}"))
                    await self._said.wait()
        except TimeoutError:
            raise AssertionError(self._report(f"no event {wanted} within {timeout_s} s")) from None

    async def total(self, event: str, count: int, *fields: str) -> None:
        """Wait until fields of an event's lines add up to so many.

        Raises:
            AssertionError: as `event`.
        """
        found = lines = 0
        while found < count:
            line = await self.event(event, skip=lines)
            found += sum(line[field] for field in fields)
            lines += 1

    async def said(self, text: str, *, skip: int = 0, timeout_s: float = 20) -> str:
        """Wait for a line of either stream that contains a text, and return it.

        Args:
            text: to look for.
            skip: how many such lines to pass over.
            timeout_s: how long to wait.

        Raises:
            AssertionError: it did not come in time, or the process ended without it; with all that was said.
        """
        try:
            async with asyncio.timeout(timeout_s), self._said:
                while True:
                    matching = [line for line in self.output if text in line]
                    if len(matching) > skip:
                        return matching[skip]
                    if not self._reading:
                        raise AssertionError(self._report(f"ended without saying {text!r}"))
                    await self._said.wait()
        except TimeoutError:
            raise AssertionError(self._report(f"did not say {text!r} within {timeout_s} s")) from None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    async def exit_code(self, timeout_s: float = 20) -> int:
        """Wait for the end of the process and of its output.

        Raises:
            AssertionError: it did not end in time; with all that was said.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.wait(self._readers)  # a timeout must not cancel them, as gather would
                return await self._process.wait()
        except TimeoutError:
            raise AssertionError(self._report(f"still running after {timeout_s} s")) from None

    async def terminate(self, timeout_s: float = 20) -> int:
        """Send SIGTERM and wait for the end: the soft stop."""
        self.signal(signal.SIGTERM)
        return await self.exit_code(timeout_s)

    def leaked(self) -> list[str]:
        """What it has said with a password of its configuration in it, or has on its command line."""
        return [line for line in (*self.output, self.name) if any(secret in line for secret in self._secrets)]

    async def kill(self) -> None:
        """End it at once, if it runs."""
        if self._process.returncode is None:
            self._process.kill()
        await self.exit_code()

    async def _read(self, stream: asyncio.StreamReader, lines: list[str]) -> None:
        try:
            async for raw in stream:
                line = raw.decode(errors="replace").rstrip("\n")
                async with self._said:
                    lines.append(line)
                    self.output.append(line)
                    self._parse(line)
                    self._said.notify_all()
        finally:
            async with self._said:
                self._reading -= 1
                self._said.notify_all()

    def _parse(self, line: str) -> None:
        try:
            found = json.loads(line)
        except json.JSONDecodeError:
            return
        if isinstance(found, dict):
            self.events.append(found)

    def _report(self, problem: str) -> str:
        said = "\n".join(self.output[-60:])
        return f"`{self.name}` (pid {self.pid}, exit code {self._process.returncode}): {problem}\n{said}"
