"""Where a result comes from: machine, versions, settings, commit, date and command."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import msgspec
import psutil

from deploy.local.install import ensure
from deploy.local.servers import Postgres

_ROOT = Path(__file__).parents[1]
_PACKAGES = ("aiomqtt", "asyncpg", "mqtt5", "msgspec", "uvloop")
_POSTGRES = ("fsync", "synchronous_commit", "shared_buffers", "max_wal_size")
_RESULTS_EXCLUDED = ":(exclude)docs/benchmarks*"
_VERSION = re.compile(r"\d+(?:\.\d+)+")
_FLAGS = {"mosquitto": "-h", "postgres": "--version", "redis": "--version"}


class Origin(msgspec.Struct, frozen=True):
    """Where a result comes from.

    Attributes:
        date: when the run began.
        commit: of the repository; with `+` when the tree differed from it in more than results.
        machine: processor, cores, memory and kernel.
        versions: of servers and libraries, by name.
        postgres: settings that PostgreSQL was started with, by name.
    """

    date: str
    commit: str
    command: str
    machine: str
    versions: dict[str, str]
    postgres: dict[str, str]


def look(command: str) -> Origin:
    """Describe this machine and this tree, before a run writes anything into it.

    Args:
        command: what repeats the run.
    """
    changed = _git("status", "--porcelain", "--", ".", _RESULTS_EXCLUDED)
    return Origin(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=_git("rev-parse", "--short", "HEAD") + ("+" if changed else ""),
        command=command,
        machine=_machine(),
        versions={**_servers(), "python": platform.python_version()}
        | {package: metadata.version(package) for package in _PACKAGES},
        postgres={name: Postgres.settings[name] for name in _POSTGRES},
    )


def _machine() -> str:
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"^model name\s*: (.*)$", cpuinfo, re.MULTILINE)
    memory_gb = psutil.virtual_memory().total / 1e9
    return (
        f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores, {memory_gb:.0f} GB, "
        f"Linux {platform.release()}"
    )


def _servers() -> dict[str, str]:
    versions = {}
    for name, binary in ensure(list(_FLAGS)).items():
        said = subprocess.run([binary, _FLAGS[name]], capture_output=True, text=True, check=False).stdout
        found = _VERSION.search(said)
        versions[str(name)] = found[0] if found else "unknown"
    return versions


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()
