"""Finds the servers' binaries and installs what is missing from Debian's packages.

Installs only when it may without asking (root, or sudo without a password); otherwise says which packages are
missing. A package's own service is kept from starting, and a service that was there before is not touched.

Runs with the standard library alone, because it also brings what `python -m venv` needs:
`python3 deploy/local/install.py [venv] [mosquitto] [postgres] [redis] [chromium] [promtool]
[debhelper] [lintian] [debootstrap]`.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PACKAGES = {
    "mosquitto": "mosquitto",
    "postgres": "postgresql",
    "redis": "redis-server",
    "rabbitmq": "rabbitmq-server",
    "chromium": "chromium",
    "promtool": "prometheus",
    "debhelper": "debhelper",
    "lintian": "lintian",
    "debootstrap": "debootstrap",
    "venv": f"python{sys.version_info.major}.{sys.version_info.minor}-venv",
}
UNITS = {
    "mosquitto": "mosquitto.service",
    "postgresql": "postgresql.service",
    "redis-server": "redis-server.service",
    "rabbitmq-server": "rabbitmq-server.service",
    "prometheus": "prometheus.service",
}
SYSTEM_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"


class MissingPackagesError(Exception):
    """Something is not installed and may not be installed from here; the message says what and what to do."""


def ensure(names: Iterable[str]) -> dict[str, Path]:
    """Find each of the named things, installing the packages of those that are missing.

    Args:
        names: keys of `PACKAGES`, such as `mosquitto`.

    Returns:
        name → path of its binary (`venv`: this interpreter).

    Raises:
        MissingPackagesError: something is missing and cannot be installed.
    """
    found = {name: find(name) for name in names}
    missing = [PACKAGES[name] for name, path in found.items() if path is None]
    if missing:
        _install(missing)
        found = {name: find(name) for name in found}
    paths = {name: path for name, path in found.items() if path is not None}
    if len(paths) < len(found):
        raise MissingPackagesError(_advice([PACKAGES[name] for name in found if name not in paths]))
    return paths


def find(name: str) -> Path | None:
    """The path of a binary; of several PostgreSQL versions the newest. None when it is not installed."""
    if name == "venv":
        return Path(sys.executable) if importlib.util.find_spec("ensurepip") else None
    if name == "postgres":
        debian = Path("/usr/lib/postgresql").glob("*/bin/postgres")
        newest = max(debian, key=lambda path: float(path.parts[-3]), default=None)
        if newest is not None:
            return newest
    binary = {"redis": "redis-server", "rabbitmq": "rabbitmq-server", "debhelper": "dh"}.get(name, name)
    path = shutil.which(binary, path=SYSTEM_PATH)
    return Path(path).resolve() if path and name == "postgres" else Path(path) if path else None


def _install(packages: list[str]) -> None:
    privilege = _privilege()
    apt = shutil.which("apt-get", path=SYSTEM_PATH)
    if privilege is None or apt is None:
        raise MissingPackagesError(_advice(packages))
    print(f"installing {' '.join(packages)} with apt-get", file=sys.stderr)
    # Keeps the packages' services from starting: invoke-rc.d asks runlevel(8), which believes the
    # environment, and in runlevel 1 starts nothing; systemd does not start a masked unit.
    quiet = ["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1"]
    units = (
        [UNITS[package] for package in packages if package in UNITS]
        if Path("/run/systemd/system").is_dir()
        else []
    )
    if units:
        _run([*privilege, "systemctl", "mask", "--runtime", "--quiet", *units])
    try:
        _run([*privilege, *quiet, apt, "-qq", "update"])
        options = ["-qq", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"]
        _run([*privilege, *quiet, apt, *options, "install", *packages])
    finally:
        if units:
            _run([*privilege, "systemctl", "unmask", "--runtime", "--quiet", *units])
            _run([*privilege, "systemctl", "disable", "--quiet", *units])


def _privilege() -> list[str] | None:
    """What to put before a command that needs root; None when there is no way without a question."""
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo", path=SYSTEM_PATH)
    if sudo and subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode == 0:
        return [sudo, "-n"]
    return None


def _run(command: list[str]) -> None:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-15:])
        raise MissingPackagesError(f"{' '.join(command)} failed ({done.returncode}):\n{tail}")


def _advice(packages: list[str]) -> str:
    names = " ".join(packages)
    return (
        f"not installed, and not to be installed without root or passwordless sudo: {names}\n"
        f"either: apt-get install {names}\n"
        "or servers that run already: EDGE_BROKER_HOST, EDGE_BROKER_PORT, EDGE_POSTGRES_DSN, EDGE_REDIS_URL\n"
        "or everything in containers: docker compose -f deploy/compose.yaml up (its first lines say how)"
    )


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["mosquitto", "postgres", "redis"]
    if unknown := set(wanted) - set(PACKAGES):
        print(f"usage: install.py [{'] ['.join(PACKAGES)}]; no {' '.join(unknown)}", file=sys.stderr)
        sys.exit(2)
    try:
        ensure(wanted)
    except MissingPackagesError as error:
        sys.exit(str(error))
