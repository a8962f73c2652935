"""Ends what a launcher started, however the launcher itself ends.

The warden leads the process group in which the launcher puts every server, and waits for the end of its
standard input, a pipe whose other end the launcher alone holds. The kernel closes that pipe when the launcher
closes it, exits, crashes or is killed, so there is one way to the end and it needs nobody's cooperation. Then
the group is interrupted (PostgreSQL's fast shutdown; mosquitto and Redis save and leave), killed if it
lingers, and its folder removed.

Runs with the standard library alone, as `python -I -S warden.py FOLDER`; `start` does that.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

GRACE_S = 10.0


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start a warden: its id is that of the group, and the launcher closes its standard input at the end."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, str(folder)], stdin=subprocess.PIPE, cwd="/", process_group=0
    )


def main(folder: str) -> int:
    """Wait for the launcher's end, then end its group and remove the folder.

    Returns:
        0, or 1 when something of the folder could not be removed.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    _end_group(os.getpgrp())
    shutil.rmtree(folder, ignore_errors=True)
    return int(Path(folder).exists())


def _end_group(group: int) -> None:
    os.killpg(group, signal.SIGINT)
    os.killpg(group, signal.SIGCONT)
    deadline = time.monotonic() + GRACE_S
    while others := _others(group):
        if time.monotonic() > deadline:
            for pid in others:
                _kill(pid)
        time.sleep(0.02)


def _others(group: int) -> list[int]:
    """Living members of the group but the warden; a zombie is nobody's process any more."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, _, rest = entry.read_text(encoding="utf-8", errors="replace").partition(" (")
        except OSError:
            continue
        state, _parent, member_of = rest.rpartition(") ")[2].split()[:3]
        if int(member_of) == group and int(pid) != os.getpid() and state not in "ZX":
            found.append(int(pid))
    return found


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
