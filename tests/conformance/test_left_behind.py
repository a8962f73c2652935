"""Brokers of this suite end with the process that started them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil

from tests.conformance.support import free_port

ROOT = Path(__file__).parents[2]
WORKER = """
import signal, sys
from pathlib import Path
from tests.conformance.support import BrokerProcess, warded

folder, port = Path(sys.argv[1]), int(sys.argv[2])
with warded(folder) as group:
    broker = BrokerProcess(["mosquitto", "-v", "-p", str(port)], port, "running", group)
    broker.start()
    print(broker.process.pid, flush=True)
    signal.pause()
"""


def test_a_killed_worker_leaves_no_broker(tmp_path: Path) -> None:
    """A broker goes with a process that is killed at once, and so does what it wrote."""
    folder = tmp_path / "folder"
    folder.mkdir()
    command = [sys.executable, "-c", WORKER, str(folder), str(free_port())]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        broker = psutil.Process(int(worker.stdout.readline()))
        worker.kill()
    _, alive = psutil.wait_procs([broker], timeout=20)
    assert alive == []
