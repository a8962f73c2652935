"""The wheel: all that the programs read is in it, and it runs where nothing else is."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from deploy.packages import wheel

_NOT_READ = {"gateway/schema.sql"}  # what the migrations amount to, for people and one test


def test_all_files_of_the_packages_are_in_the_wheel(built_wheel: Path) -> None:
    """Migrations, SQL, Lua, dialects and the page's files are installed with the code, and nothing else."""
    there = {
        str(path.relative_to(wheel.ROOT))
        for package in wheel.PACKAGES
        for path in (wheel.ROOT / package).rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }
    with zipfile.ZipFile(built_wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == there - _NOT_READ
    endings = {Path(name).suffix for name in packed}
    assert endings == {
        ".py", ".typed", ".sql", ".lua", ".toml", ".html", ".js", ".css", ".conf", ".env", ".sh", ".txt",
    }  # fmt: skip


def test_the_constraints_are_the_lock() -> None:
    """Each requirement of the lock is a line of the constraints, with its marker and without hashes."""
    lines = wheel.constraints().splitlines()
    lock = (wheel.ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len([line for line in lock if "==" in line and not line.startswith(" ")])
    assert all("==" in line and "--hash" not in line and "\\" not in line for line in lines)
    assert "tzdata" in "".join(line for line in lines if line.endswith("; sys_platform == 'win32'"))


@pytest.mark.full
@pytest.mark.timeout(600)
def test_the_wheel_runs_in_an_empty_environment(built_wheel: Path, tmp_path: Path) -> None:
    """Installed with its constraints into nothing, both programs run at the locked versions."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    pip = [str(venv / "bin/python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "install", "--constraint", str(built_wheel.parent / "constraints.txt"), str(built_wheel)],
        check=True,
        cwd=tmp_path,
    )

    def run(*command: str, given: str = "") -> str:
        done = subprocess.run(
            [venv / "bin" / command[0], *command[1:]],
            input=given,
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    version = built_wheel.name.split("-")[1]
    assert run("gateway", "--version") == f"gateway, version {version}\n"
    assert run("projector", "--version") == f"projector, version {version}\n"
    assert run("projector", "--help").startswith("Usage: projector ")
    assert "tasmota" in run("gateway", "dialects")
    assert "ok" in run("gateway", "check", "--offline")
    message = '{"id": "1", "ts": "2026-11-23T09:00:00Z", "temperature": 21.5}'
    [reading] = json.loads(run("gateway", "decode", "devices/a1/telemetry", "--json", given=message))
    assert (reading["device_id"], reading["key"], reading["metrics"]) == ("a1", "1", {"temperature": 21.5})
    frozen = run("python", "-m", "pip", "freeze").replace("_", "-").lower()
    installed = {line for line in frozen.splitlines() if "==" in line}
    locked = {line.partition(" ;")[0] for line in wheel.constraints().splitlines()}
    assert installed <= locked
    assert len(installed) > 20
