"""The Debian package: `make deb`.

It holds an environment of its own below /opt, with the libraries as locked, so that nothing of the
distribution's Python changes what was tested. debhelper does the rest; its files are in `deploy/debian`, and
the units in `deploy/systemd`. The package fits the Debian release it is built on, because it uses that
release's Python.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from deploy.packages import manual, wheel
from gateway.cli import main as gateway
from projector.cli import main as projector

NAME: Final = "mqtt-edge-gateway"
_DEPLOY: Final = wheel.ROOT / "deploy"
_MAINTAINER: Final = "MQTT edge gateway <edge@localhost.localdomain>"
_UNITS: Final = {
    f"{NAME}.service": f"{NAME}.service",
    "mqtt-edge-projector.service": f"{NAME}.mqtt-edge-projector.service",
    f"{NAME}.sysusers": f"{NAME}.sysusers",
    f"{NAME}.tmpfiles": f"{NAME}.tmpfiles",
}


def build(into: Path) -> Path:
    """Build the package.

    Args:
        into: a folder, made if it is not there.

    Returns:
        The package.

    Raises:
        RuntimeError: the build failed; with the end of what it said.
    """
    into.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="deb-") as folder:
        source = Path(folder, NAME)
        shutil.copytree(_DEPLOY / "debian", source / "debian")
        made = wheel.build(Path(folder, "wheel"))
        _lay_out(source)
        done = subprocess.run(
            ["dpkg-buildpackage", "--build=binary", "--no-sign"],
            cwd=source,
            env={
                **os.environ,
                "WHEEL": str(made),
                "PIP": f"{sys.executable} -m pip",
                "SOURCE_DATE_EPOCH": wheel.committed_at(),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"the package was not built:\n{done.stdout[-3000:]}")
        [package] = Path(folder).glob("*.deb")
        shutil.copy2(package, into)
    return into / package.name


def version() -> str:
    """The project's version."""
    project = tomllib.loads((wheel.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


def _lay_out(source: Path) -> None:
    """Put what `deploy/debian` names where it looks for it."""
    at = datetime.fromtimestamp(int(wheel.committed_at()), UTC)
    for name in ("requirements.lock", "CHANGELOG.md", "README.md"):
        shutil.copy2(wheel.ROOT / name, source)
    shutil.copytree(wheel.ROOT / "docs", source / "docs", ignore=shutil.ignore_patterns("img", "benchmarks"))
    (source / "debian/edge.toml").rename(source / "edge.toml")
    for name, there in _UNITS.items():
        shutil.copy2(_DEPLOY / "systemd" / name, source / "debian" / there)
    for folder in ("manual", "completions"):
        (source / folder).mkdir()
    for name, command, other in (("gateway", gateway, "projector"), ("projector", projector, "gateway")):
        page = manual.page(name, command, version=version(), date=f"{at:%Y-%m-%d}", see_also=other)
        (source / f"manual/{name}.1").write_text(page, encoding="utf-8")
        for shell, prefix in (("bash", ""), ("zsh", "_")):
            text = manual.completion(name, command, shell)
            (source / f"completions/{prefix}{name}").write_text(text, encoding="utf-8")
    (source / "debian/changelog").write_text(
        f"{NAME} ({version()}) unstable; urgency=medium\n\n  * What changed is in changelog.gz.\n\n"
        f" -- {_MAINTAINER}  {format_datetime(at)}\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    print(build(Path(sys.argv[1]) if len(sys.argv) > 1 else wheel.ROOT / "dist"))
