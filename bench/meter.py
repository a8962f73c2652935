"""What processes use, read from the kernel: CPU by tree of processes, and resident memory.

A server's children come and go (PostgreSQL has one for each connection), so the CPU of a tree is that of its
living members and of all the children that they have reaped; a member is in one of the two and never in both.
The kernel counts in ticks of 10 ms. Memory is the resident set of one process (RSS), shared pages included,
and its peak the kernel's own high-water mark (`VmHWM`), which no sampling can miss.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable

_KB = 1000.0


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds of these processes and of all their children that have ended."""
    return sum(map(_cpu_of, pids))


def machine_cpu_s() -> float:
    """CPU seconds that the machine was busy, with whatever, since it started."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def rss_mb(pid: int) -> float:
    """Resident memory now, in MB (10⁶ bytes)."""
    return float(psutil.Process(pid).memory_info().rss) / 1e6


def peak_rss_mb(pid: int) -> float:
    """The most resident memory that a process has had since its start, in MB (10⁶ bytes)."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(kib) * 1024 / _KB / _KB


def pss_mb(pid: int) -> float:
    """Memory of a process in MB (10⁶ bytes), its part of what is shared included; 0 when it has ended."""
    try:
        said = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return int(said.partition("\nPss:")[2].split()[0]) * 1024 / _KB / _KB


def _cpu_of(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:  # it has ended since it was listed; its parent has its seconds now
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)
