"""The wheel, and the constraints with which it is installed as it was tested: `make wheel`.

Built from a copy of what is to be in it, because setuptools packs whatever an earlier build left in `build/`.
The same sources give the same bytes: times in the wheel are those of the last commit.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("contract", "runtime", "gateway", "projector")
_BESIDE: Final = ("pyproject.toml", "README.md", "LICENSE")
_EARLIEST: Final = "315532800"  # a zip file knows no time before 1980
_PIN = re.compile(r"^(\S+==\S+)( ; [^\\]+?)?(?: \\)?$")


def build(into: Path) -> Path:
    """Build the wheel and write `constraints.txt` beside it.

    Args:
        into: a folder, made if it is not there.

    Returns:
        The wheel.

    Raises:
        RuntimeError: the build failed; with the end of what it said.
    """
    into.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="wheel-") as folder:
        source, built = Path(folder, "source"), Path(folder, "built")
        for name in PACKAGES:
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in _BESIDE:
            shutil.copy2(ROOT / name, source)
        command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
        command += ["--disable-pip-version-check", "--quiet", "--wheel-dir", str(built), str(source)]
        done = subprocess.run(
            command,
            env={**os.environ, "SOURCE_DATE_EPOCH": committed_at()},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"the wheel was not built:\n{done.stdout[-2000:]}")
        [wheel] = built.glob("*.whl")
        shutil.copy2(wheel, into)
    (into / "constraints.txt").write_text(constraints(), encoding="utf-8")
    return into / wheel.name


def constraints() -> str:
    """The versions of `requirements.lock`, a line each, as `pip install --constraint` takes them."""
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return "".join(f"{pin[1]}{pin[2] or ''}\n" for line in lines if (pin := _PIN.match(line)))


def committed_at() -> str:
    """Seconds since 1970 of the last commit; of a tree without git the earliest that a wheel can say."""
    done = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or _EARLIEST


if __name__ == "__main__":
    made = build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist")
    print(f"{made}\ninstall it with: pip install --constraint {made.parent / 'constraints.txt'} {made}")
