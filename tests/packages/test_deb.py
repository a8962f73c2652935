"""The Debian package: installed, upgraded, removed and purged in a Debian of its own, made by debootstrap."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from deploy.local.install import MissingPackagesError, ensure
from deploy.packages import deb, wheel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

_MIRROR = "http://deb.debian.org/debian"
_NAME = "mqtt-edge-gateway"
_PROGRAMS = ("gateway", "projector")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of this tree."""
    try:
        ensure(["debhelper", "lintian", "debootstrap"])
    except MissingPackagesError as error:
        pytest.skip(str(error))
    return deb.build(tmp_path_factory.mktemp("deb"))


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Debian with Python and systemd's helpers, made once and copied for each run."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for debootstrap and chroot")
    made = wheel.ROOT / ".make/debian"
    if not (made / "done").exists():
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        release = os.environ.get("DEBIAN", "bookworm")
        command = ["debootstrap", "--variant=minbase", "--include=python3,systemd,procps", release]
        subprocess.run([*command, made / "root", _MIRROR], check=True, stdout=subprocess.DEVNULL)
        (made / "done").touch()
    root = tmp_path_factory.mktemp("debian") / "root"
    subprocess.run(["cp", "--archive", made / "root", root], check=True)
    subprocess.run(["mount", "-t", "proc", "proc", root / "proc"], check=True)  # systemd-tmpfiles needs it
    yield root
    subprocess.run(["umount", root / "proc"], check=True)


def within(root: Path, *command: str, code: int = 0) -> str:
    """Run a command in that Debian, and return what it said."""
    done = subprocess.run(
        ["chroot", root, *command],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


def repacked(package: Path, root: Path, version: str) -> str:
    """The same package as a later version, with a line more in its configuration; its path in the root."""
    folder = package.parent / version
    subprocess.run(["dpkg-deb", "--raw-extract", package, folder], check=True)
    control = folder / "DEBIAN/control"
    text = control.read_text(encoding="utf-8")
    control.write_text(text.replace(f"Version: {deb.version()}", f"Version: {version}"), encoding="utf-8")
    with (folder / f"etc/{_NAME}/edge.toml").open("a", encoding="utf-8") as file:
        file.write("\n# Of the next version.\n")
    made = root / f"tmp/{version}.deb"
    subprocess.run(["dpkg-deb", "--build", "-Znone", folder, made], check=True, stdout=subprocess.DEVNULL)
    return f"/tmp/{version}.deb"  # noqa: S108  # in a root of the test's own


def test_lintian_finds_nothing(package: Path) -> None:
    """Debian's own checker has no error and no warning but those that are overridden with their reasons."""
    done = subprocess.run(
        ["lintian", "--allow-root", "--fail-on", "error,warning", package],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_a_site_installs_upgrades_and_purges(package: Path, debian: Path) -> None:
    """The programs run; an upgrade keeps what was edited; a purge leaves nothing but what may be unsaved."""
    before = {path for path in (debian / "etc").rglob("*") if _NAME in path.name}
    assert before == set()
    shutil.copy2(package, debian / "tmp/first.deb")
    within(debian, "dpkg", "--install", "/tmp/first.deb")  # noqa: S108  # likewise
    for program in _PROGRAMS:
        assert within(debian, program, "--version") == f"{program}, version {deb.version()}\n"
        page = gzip.decompress((debian / f"usr/share/man/man1/{program}.1.gz").read_bytes()).decode()
        assert f".SS {program} run\n" in page
        completions = debian / "usr/share/bash-completion/completions" / program
        assert f"_{program.upper()}_COMPLETE" in completions.read_text(encoding="utf-8")
        folder = debian / f"etc/{_NAME}/{program}"
        user = within(debian, "id", "--group", f"mqtt-edge-{program}").strip()
        assert (folder.stat().st_mode & 0o777, str(folder.stat().st_gid)) == (0o750, user)
        enabled = within(debian, "systemctl", "is-enabled", f"mqtt-edge-{program}", code=1)
        assert enabled == "disabled\n"  # it does not know the site's servers
        within(debian, "systemctl", "enable", f"mqtt-edge-{program}")
        within(debian, "systemd-analyze", "verify", "--man=no", f"mqtt-edge-{program}.service")
    assert "ok" in within(debian, "gateway", "check", "--offline", "--config", f"/etc/{_NAME}/edge.toml")

    configuration = debian / f"etc/{_NAME}/edge.toml"
    edited = configuration.read_text(encoding="utf-8").replace("127.0.0.1", "broker.site", 1)
    configuration.write_text(edited, encoding="utf-8")
    (debian / f"etc/{_NAME}/gateway/dsn").write_text("postgresql://edge:word@db/edge", encoding="utf-8")
    within(debian, "dpkg", "--force-confold", "--install", repacked(package, debian, "99.0"))
    assert configuration.read_text(encoding="utf-8") == edited
    assert within(debian, "systemctl", "is-enabled", "mqtt-edge-gateway") == "enabled\n"

    spool = debian / f"var/lib/{_NAME}/spool"
    spool.mkdir(parents=True)
    (spool / "messages").write_text("not stored yet", encoding="utf-8")
    within(debian, "dpkg", "--remove", _NAME)
    assert configuration.exists()
    assert not (debian / f"opt/{_NAME}").exists()
    assert "may hold messages" in within(debian, "dpkg", "--purge", _NAME)
    assert (spool / "messages").exists()
    shutil.rmtree(spool.parent)
    places = [debian / name for name in ("etc", "lib/systemd", "opt", "usr", "var/lib")]
    left = [path for place in places for path in place.rglob(f"*{_NAME}*")]
    assert left == []
