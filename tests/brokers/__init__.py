"""Brokers, and what each of them promises: `python -m tests.brokers`, which `make brokers` calls.

`kinds` says how each is brought here and started, `broker` runs one and kills it, `client` is a client that
others wrote, `promises` asks for one promise after the other, `flood` sends a gateway's messages through it
while both are killed, `report` writes `docs/brokers.md`.

mochi-mqtt serves tests of the conformance suite too. Building it takes half a minute the first time, and
network access. Where that cannot be they are skipped with the reason, unless `BROKERS=all` asks for every
broker: then it is a failure.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCES = Path(__file__).parent
BUILT = Path(__file__).parents[2] / ".make" / "brokers"
_SOURCE = SOURCES / "mochi"
_BUILD_TIMEOUT_S = 300


def built_mochi() -> Path:
    """The binary of mochi-mqtt, built when its source has changed; one process at a time builds."""
    sources = b"".join((_SOURCE / name).read_bytes() for name in ("main.go", "go.mod", "go.sum"))
    binary = BUILT / f"mochi-{hashlib.sha256(sources).hexdigest()[:16]}"
    BUILT.mkdir(parents=True, exist_ok=True)
    with (BUILT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not binary.exists():
            _build(binary)
    return binary


def _build(binary: Path) -> None:
    go = shutil.which("go")
    if go is None:
        _without("mochi-mqtt is built with Go, which is not installed here (apt-get install golang-go)")
        return
    half_done = binary.with_suffix(".part")
    try:
        subprocess.run(
            [go, "build", "-mod=readonly", "-o", half_done, "."],
            cwd=_SOURCE,
            check=True,
            capture_output=True,
            text=True,
            timeout=_BUILD_TIMEOUT_S,
        )
    except subprocess.CalledProcessError as error:
        _without(f"mochi-mqtt cannot be built: {error.stderr[-500:]}")
    half_done.rename(binary)


def _without(reason: str) -> None:
    if os.environ.get("BROKERS") == "all":
        pytest.fail(reason)
    pytest.skip(reason)
