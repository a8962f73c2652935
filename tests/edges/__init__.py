"""Edge nodes of Sparkplug B that others wrote, for the tests that need more than our own.

`pysparkplug` (Python, which wants an older paho than we have, and so an environment of its own) and Eclipse
Tahu's client for JavaScript. Installing them takes network access and some seconds, so the tests are skipped
unless `EDGES=all` asks for them (`make edges`); then it is a failure when they cannot be had.

Each is a process that is told what to do, a line each: `values N` publishes N as Pressure of the node and as
Speed of its device, by names; `aliases N` the same by aliases alone; `leave` ends it in order. It answers a
rebirth, and says so.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

_HERE: Final = Path(__file__).parent
_BUILT: Final = Path(__file__).parents[2] / ".make" / "edges"
_TIMEOUT_S: Final = 300
_PYSPARKPLUG: Final = "pysparkplug==0.6.1"
_TAHU: Final = "sparkplug-client@3.2.4"

NAMES: Final = ("pysparkplug", "tahu")


def command(name: str) -> list[str]:
    """What starts an edge node; before it come the port of the broker, the group and the node's name."""
    if os.environ.get("EDGES") != "all":
        pytest.skip("asked by `make edges`, which installs it")
    _BUILT.mkdir(parents=True, exist_ok=True)
    with (_BUILT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _pysparkplug() if name == "pysparkplug" else _tahu()


def _pysparkplug() -> list[str]:
    folder = _BUILT / "pysparkplug"
    python = folder / "bin" / "python"
    if not (folder / "done").exists():
        _run(sys.executable, "-m", "venv", "--clear", str(folder))
        _run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", _PYSPARKPLUG)
        (folder / "done").touch()
    return [str(python), str(_HERE / "pysparkplug_node.py")]


def _tahu() -> list[str]:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.fail("Tahu's client runs on Node.js, which is not installed here (apt-get install npm)")
    folder = _BUILT / "tahu"
    folder.mkdir(exist_ok=True)
    if not (folder / "done").exists():
        _run(npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), _TAHU)
        (folder / "done").touch()
    shutil.copy(_HERE / "tahu_node.js", folder / "tahu_node.js")
    return [node, str(folder / "tahu_node.js")]


def _run(*arguments: str) -> None:
    try:
        subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except subprocess.CalledProcessError as error:
        pytest.fail(f"an edge node cannot be installed: {error.stderr[-500:]}")
