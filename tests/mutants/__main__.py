"""Breaks one line at a time in a copy of the tree, and runs the tests there.

Those that are named for a break run first, the quick suite after them if they notice nothing. What survives
both is printed, and the exit code is 1; so it is when a line is no longer there, and when the named tests
fail without any break, because then they would say nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import click

from tests.mutants.mutants import ROOT, Mutant, read

FAILED = {1, 2}  # pytest's exit codes when tests failed: 2 when it ended at that, several at a time
OF_THE_LIST = "tests/unit/test_mutants.py"
NAMED_WITHIN_S = 300
SUITE_WITHIN_S = 1500
SUITE_JOBS = 4

_suite_turn = threading.Lock()


class NotRunError(Exception):
    """The tests could not be run."""


def copy_tree(folder: Path) -> Path:
    """The files of the tree as they are now, without what is ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
    return folder


def notices(tree: Path, arguments: list[str], within_s: float) -> str:
    """Run tests in a tree; the first that fails, or "" when none does. What hangs is noticed too.

    Raises:
        NotRunError: they could not be run.
    """
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    if arguments[0].startswith("tests/"):
        environment["FULL"] = "1"  # those that are named may be long ones
    try:
        done = subprocess.run(
            [*command, *arguments],
            cwd=tree,
            env=environment,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within_s,
        )
    except subprocess.TimeoutExpired:
        return f"no end within {within_s:g} s"
    if done.returncode == 0:
        return ""
    failures = [line for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    if done.returncode not in FAILED or not failures:
        raise NotRunError(f"pytest ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    return failures[0].split(" - ")[0]


def try_out(tree: Path, mutant: Mutant, *, suite: bool) -> str:
    """Say which test notices a mutant; "" when it survives."""
    path = tree / mutant.file
    sound = path.read_text(encoding="utf-8")
    path.write_text(mutant.applied(tree), encoding="utf-8")
    try:
        if noticed := notices(tree, mutant.tests, NAMED_WITHIN_S):
            return noticed
        if not suite:
            return ""
        with _suite_turn:
            # The test of the list would notice every mutant, whatever else does not.
            jobs = ["--numprocesses", str(SUITE_JOBS), "--dist", "worksteal", f"--ignore={OF_THE_LIST}"]
            return notices(tree, jobs, SUITE_WITHIN_S)
    finally:
        path.write_text(sound, encoding="utf-8")


class Trial:
    """All mutants, several at a time, each in a tree of its own.

    Attributes:
        survivors: those that nothing notices.
        troubles: what kept a mutant from being tried.
    """

    def __init__(self, mutants: list[Mutant], folder: Path, jobs: int, *, suite: bool) -> None:
        self.survivors: list[Mutant] = []
        self.troubles: list[str] = []
        self._mutants = mutants
        self._jobs = jobs
        self._suite = suite
        self._trees: SimpleQueue[Path] = SimpleQueue()
        self._tree = copy_tree(folder / "0")
        for job in range(jobs):
            self._trees.put(copy_tree(folder / str(job)))

    def run(self) -> None:
        """Look whether all can be tried, and try them."""
        for mutant in self._mutants:
            try:
                mutant.applied(self._tree)
            except ValueError as error:
                self.troubles.append(str(error))
        if self.troubles:
            return
        named = sorted({test for mutant in self._mutants for test in mutant.tests})
        click.echo(
            f"{len(self._mutants)} mutants; first the {len(named)} tests that are named, on the tree as it is"
        )
        if failed := notices(self._tree, ["--numprocesses", str(self._jobs), *named], SUITE_WITHIN_S):
            self.troubles.append(f"fails without any mutant: {failed}")
            return
        with ThreadPoolExecutor(self._jobs) as pool:
            list(pool.map(self._try, self._mutants))

    def _try(self, mutant: Mutant) -> None:
        tree = self._trees.get()
        begun = time.monotonic()
        try:
            noticed = try_out(tree, mutant, suite=self._suite)
        except NotRunError as error:
            self.troubles.append(f"{mutant.safeguard}: {error}")
            return
        finally:
            self._trees.put(tree)
        if not noticed:
            self.survivors.append(mutant)
        said = noticed or click.style("SURVIVES", fg="red", bold=True)
        click.echo(f"{time.monotonic() - begun:6.1f} s  {mutant.safeguard}: {said}")


@click.command()
@click.option("--only", default="", metavar="TEXT", help="Those whose safeguard or file contains this.")
@click.option("--jobs", default=2, show_default=True, help="How many at a time.")
@click.option("--suite/--no-suite", default=True, help="Whether the quick suite follows the named tests.")
def main(*, only: str, jobs: int, suite: bool) -> None:
    """Break our most critical lines one at a time; exit code 1 when no test notices one of them."""
    mutants = [mutant for mutant in read() if only in mutant.safeguard or only in mutant.file]
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="edge-mutants-") as folder:
        trial = Trial(mutants, Path(folder), jobs, suite=suite)
        trial.run()
    for trouble in trial.troubles:
        click.secho(trouble, fg="red", err=True)
    for mutant in trial.survivors:
        click.secho(f"survives: {mutant.safeguard} ({mutant.file}): {mutant.replace!r}", fg="red", err=True)
    click.echo(
        f"mutants={len(mutants)} survive={len(trial.survivors)} troubles={len(trial.troubles)} "
        f"seconds={time.monotonic() - started:.0f}"
    )
    sys.exit(1 if trial.survivors or trial.troubles else 0)


if __name__ == "__main__":
    main()
