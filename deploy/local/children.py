"""The product's own processes, as a supervisor would run them: started, watched, asked to stop.

All of them are in one process group with a warden (`deploy/local/warden.py`), so that none is left when the
parent is killed. They are not in the terminal's group: Ctrl-C reaches the parent alone, which stops them in
the right order.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Self

from deploy.local import warden

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_TAIL_LINES = 15


class ChildError(Exception):
    """A process ended by itself, or did not end when asked to; the text ends with the tail of its log."""


class Child:
    """One process.

    Attributes:
        log: what it writes to stderr.
        output: what it writes to stdout.
        pid: its process id.
    """

    def __init__(
        self, name: str, command: list[str], folder: Path, env: Mapping[str, str], group: int
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.output = folder / f"{name}.out"
        with self.log.open("wb") as log, self.output.open("wb") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=log, env=env, process_group=group
            )
        self.pid = self._process.pid
        self._asked_to_stop = False

    def check(self) -> None:
        """Do nothing while it runs, or when it was asked to stop.

        Raises:
            ChildError: it has ended by itself.
        """
        code = self._process.poll()
        if code is not None and not self._asked_to_stop:
            raise ChildError(f"{self.name} ended by itself with {code}\n{self._tail()}")

    async def stop(self, timeout_s: float, *, starting: bool = False) -> None:
        """Ask it to stop and wait until it has.

        Args:
            timeout_s: how long.
            starting: whether it may be so young that it does not listen to signals yet and just ends.

        Raises:
            ChildError: it did not, or said by its exit code that it failed.
        """
        self._asked_to_stop = True
        self._process.terminate()
        try:
            await asyncio.to_thread(self._process.wait, timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise ChildError(f"{self.name} did not stop within {timeout_s:g} s\n{self._tail()}") from None
        if self._process.returncode and not (starting and self._process.returncode == -signal.SIGTERM):
            raise ChildError(f"{self.name} ended with {self._process.returncode}\n{self._tail()}")

    async def ended(self, timeout_s: float) -> None:
        """Wait until it has ended by itself.

        Raises:
            ChildError: it did not, or failed.
        """
        self._asked_to_stop = True
        try:
            code = await asyncio.to_thread(self._process.wait, timeout_s)
        except subprocess.TimeoutExpired:
            raise ChildError(f"{self.name} did not end within {timeout_s:g} s\n{self._tail()}") from None
        if code:
            raise ChildError(f"{self.name} ended with {code}\n{self._tail()}")

    def reap(self) -> None:
        """Take the exit status of a process that something else has ended."""
        self._process.wait()

    def _tail(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:]
        return "\n".join([*lines, f"(all of it: {self.log})"])


class Children:
    """The processes of one run; leaving the context ends whatever of them still lives.

    Args:
        folder: where their logs go; it stays.
        environment: what they get besides what they inherit.
        inherited: None is our own environment.
    """

    def __init__(
        self, folder: Path, environment: Mapping[str, str], *, inherited: Mapping[str, str] | None = None
    ) -> None:
        self._folder = folder
        self._environment = {**(os.environ if inherited is None else inherited), **environment}
        self._children: list[Child] = []
        self._warden: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        nothing = self._folder / "nothing"  # the warden removes a folder; ours stays
        self._warden = warden.start(nothing)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._warden is not None and self._warden.stdin is not None:
            self._warden.stdin.close()
            for child in self._children:
                child.reap()
            self._warden.wait()

    def start(self, name: str, *command: str, **environment: str) -> Child:
        """Start one of the project's commands, of the tree that this process runs.

        Args:
            name: names its log.
            command: `gateway` or `projector`, and its arguments.
            environment: what it gets besides what all get.
        """
        return self.call(name, sys.executable, "-m", *command, **environment)

    def call(self, name: str, *command: str, **environment: str) -> Child:
        """Start any other command.

        Args:
            name: names its log.
            command: and its arguments.
            environment: what it gets besides what all get.
        """
        assert self._warden is not None
        child = Child(name, list(command), self._folder, self._environment | environment, self._warden.pid)
        self._children.append(child)
        return child

    def check(self) -> None:
        """Do nothing while all run that were not asked to stop.

        Raises:
            ChildError: one has ended by itself.
        """
        for child in self._children:
            child.check()
