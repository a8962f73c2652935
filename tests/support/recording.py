"""Pictures of a terminal for the README: `python -m tests.support.recording docs/img`.

A broker of its own, devices of a few dialects, `gateway discover` in front of them, and what it said as SVG.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.text import Text

from deploy.local.services import LocalServices

if TYPE_CHECKING:
    from asyncio.subprocess import Process

COLUMNS: Final = 112
DIALECTS: Final = ("kepware", "owntracks", "ruuvi-gateway")
COMMAND: Final = "gateway discover --seconds 15"


async def record(folder: Path) -> Path:
    """Write the picture of `gateway discover`; returns where it is."""
    async with LocalServices(["mosquitto"], environ={}) as own:
        environment = {
            **own.environment(),
            "COLUMNS": str(COLUMNS),
            "FORCE_COLOR": "1",
            "TERM": "xterm-256color",
        }
        terminal, its_end = os.openpty()
        discover = await _start(environment, *COMMAND.split()[1:], stdout=its_end, stderr=PIPE)
        os.close(its_end)
        assert discover.stderr is not None
        while b"listening" not in await discover.stderr.readline():
            pass
        devices = [
            await _start(environment, "simulate", "--dialect", name, "--seconds", "3") for name in DIALECTS
        ]
        await asyncio.gather(*(device.wait() for device in devices))
        said = await asyncio.to_thread(_read_all, terminal)
        await discover.wait()
    console = Console(record=True, width=COLUMNS, file=StringIO())
    console.print(Text(f"$ {COMMAND}", style="bold"))
    console.print(Text.from_ansi(said.decode().replace("\r\n", "\n")))
    picture = folder / "discover.svg"
    drawn = re.sub(
        r"@font-face \{.*?\}\s*", "", console.export_svg(title="gateway discover"), flags=re.DOTALL
    )
    picture.write_text(drawn, encoding="utf-8")  # without fonts from elsewhere
    return picture


def _read_all(terminal: int) -> bytes:
    said = b""
    with suppress(OSError):  # the other end is closed
        while piece := os.read(terminal, 65_536):
            said += piece
    os.close(terminal)
    return said


async def _start(
    environment: dict[str, str], *arguments: str, stdout: int = DEVNULL, stderr: int = DEVNULL
) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *arguments, env=environment, stdout=stdout, stderr=stderr
    )


if __name__ == "__main__":
    asyncio.run(record(Path(sys.argv[1])))
