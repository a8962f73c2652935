from __future__ import annotations

import asyncio
import signal
import sys

PROGRAM = """
import asyncio, sys
from runtime import logs
from runtime.lifecycle import run_until_stopped

async def main(stop):
    print("started", flush=True)
    await stop.wait()
    print("draining", flush=True)
    try:
        {drain}
    finally:
        print("cleaned", flush=True)

logs.configure("json", "info")
sys.exit(run_until_stopped(main, shutdown_timeout_s={timeout_s}))
"""


class Program:
    """A real process whose lines of standard output are its signals to us."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, drain: str, timeout_s: float) -> Program:
        """Start one that drains in the way given and return when it runs."""
        code = PROGRAM.format(drain=drain, timeout_s=timeout_s)
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=pipe, stderr=pipe)
        program = cls(process)
        assert await program.line() == "started"
        return program

    async def line(self) -> str:
        """The next line of standard output."""
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode().strip()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    async def end(self) -> tuple[int | None, str]:
        """Wait for its end; its exit code and what it logged."""
        _, logged = await self._process.communicate()
        return self._process.returncode, logged.decode()


async def test_the_first_signal_lets_the_work_end() -> None:
    """SIGTERM stops softly: the work drains and returns, exit code 0."""
    program = await Program.start("pass", 60)
    program.signal(signal.SIGTERM)
    assert [await program.line(), await program.line()] == ["draining", "cleaned"]
    code, logged = await program.end()
    assert code == 0
    assert '"event":"stopping","signal":"SIGTERM","deadline_s":60' in logged


async def test_a_second_signal_cancels_at_once() -> None:
    """Ctrl-C twice leaves now: the work is cancelled and cleans up, and the exit code says so."""
    program = await Program.start("await asyncio.Event().wait()", 60)
    program.signal(signal.SIGINT)
    assert await program.line() == "draining"
    program.signal(signal.SIGINT)
    assert await program.line() == "cleaned"
    code, logged = await program.end()
    assert code == 1
    assert '"event":"stopping_hard","reason":"another SIGINT"' in logged


async def test_the_deadline_cancels() -> None:
    """Work that does not end within the deadline after the first signal is cancelled."""
    program = await Program.start("await asyncio.Event().wait()", 0.05)
    program.signal(signal.SIGTERM)
    assert [await program.line(), await program.line()] == ["draining", "cleaned"]
    code, logged = await program.end()
    assert code == 1
    assert '"reason":"not done 0.05 s after the first signal"' in logged


async def test_work_that_cannot_be_cancelled_ends_with_the_process() -> None:
    """What waits for ever, whatever it is told, does not keep the process: exit code 1 a moment later."""
    never = "await asyncio.Event().wait()"
    for_ever = f"{never}\n    except asyncio.CancelledError:\n        {never}"
    program = await Program.start(for_ever, 0.1)
    program.signal(signal.SIGTERM)
    code, logged = await program.end()
    assert code == 1
    assert '"event":"stopping_forced"' in logged
