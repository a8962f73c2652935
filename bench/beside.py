"""Scenarios of this checkout beside those of another: `make bench BESIDE=../before ONLY="ingest backlog"`.

Each round runs a scenario once in either checkout, by that checkout's own code and environment, and the next
round begins with the other one, so that neither always has the machine at its warmest. A figure is compared
round by round, and what counts is the median of the ratios: of two runs on a machine that others use as well,
the quotient holds where the figures do not.

A scenario may have options: `python -m bench.beside ../before "growth --rows 1000000 --devices 10000"`.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from bench.options import count
from bench.scenarios import SCENARIOS
from bench.tables import table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Figures = dict[str, float]
"""Figures of one round, by their path in the result: `cpu_us.gateway`."""

_HERE: Final = Path(__file__).parents[1]


def figures_of(value: object, path: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a round with its path; lists, which are courses over time, are left out."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield from figures_of(member, f"{path}.{name}" if path else name)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield path, float(value)


def compare(before: Sequence[Figures], now: Sequence[Figures]) -> list[list[str]]:
    """A row a figure: its path, the medians of both, and the median of the ratios now to before.

    A figure that a round of one side lacks, or that was 0 before, has no row.
    """
    rows = []
    for path in now[0]:
        pairs = [(old[path], new[path]) for old, new in zip(before, now, strict=True) if old.get(path)]
        if len(pairs) == len(now):
            olds, news = zip(*pairs, strict=True)
            ratio = statistics.median(new / old for old, new in pairs)
            figures = (statistics.median(olds), statistics.median(news))
            rows.append([path, *(f"{figure:,.1f}" for figure in figures), f"{ratio:.3f}"])
    return rows


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.beside", description=__doc__)
    parser.add_argument("checkout", type=Path, help="another checkout, after `make setup`")
    parser.add_argument("scenarios", nargs="+", metavar="SCENARIO", help=f"of {', '.join(SCENARIOS)}")
    parser.add_argument("--rounds", type=count, default=3, help="of each scenario")
    arguments = parser.parse_args()
    runs = [shlex.split(text) for text in arguments.scenarios]
    if unknown := sorted({name for name, *_ in runs} - set(SCENARIOS)):
        parser.error(f"no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    checkouts = (arguments.checkout.resolve(), _HERE)
    if not _python(checkouts[0]).exists():
        parser.error(f"{checkouts[0]} has no .venv: run `make setup` there first")
    for name, *options in runs:
        sides: dict[Path, list[Figures]] = {checkout: [] for checkout in checkouts}
        for number in range(arguments.rounds):
            for checkout in checkouts if number % 2 == 0 else checkouts[::-1]:
                print(f"{name}, round {number + 1}, in {checkout}", file=sys.stderr, flush=True)
                sides[checkout].append(_run(checkout, name, options))
        rows = compare(*sides.values())
        print(f"\n{shlex.join([name, *options])}, {arguments.rounds} rounds\n")
        print(table(["", "before", "now", "now / before"], rows, numbers=True), flush=True)


def _run(checkout: Path, name: str, options: Sequence[str]) -> Figures:
    """One round of a scenario by a checkout's own code."""
    with tempfile.TemporaryDirectory(prefix="edge-beside-") as folder:
        command = [str(_python(checkout)), "-m", f"bench.{name}", "--rounds", "1", "--out", folder, *options]
        done = subprocess.run(command, cwd=checkout, stdout=subprocess.DEVNULL, check=False)
        if done.returncode:
            sys.exit(f"bench: {shlex.join(command)} in {checkout} failed")
        result: dict[str, Any] = msgspec.json.decode((Path(folder) / f"{name}.json").read_bytes())
    return dict(figures_of(result["median"]))


def _python(checkout: Path) -> Path:
    return checkout / ".venv" / "bin" / "python"


if __name__ == "__main__":
    main()
