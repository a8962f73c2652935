"""`make bench`: run scenarios, keep each one's result as JSON, and write the report of all that are kept.

A scenario that fails keeps the rounds that it has finished, the others go on, and the exit code is 1. A quick
run shows that everything works and measures nothing: its results go to a temporary folder.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

from bench import origin
from bench.options import count
from bench.report import RESULTS, write_report
from bench.scenario import exit_if_failed, keep, reported, run
from bench.scenarios import GROUPS, SCENARIOS


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(SCENARIOS)}; all")
    parser.add_argument("--rounds", type=count, default=3, help="of each scenario")
    parser.add_argument("--quick", action="store_true", help="one short round of each, to see that it works")
    parser.add_argument(
        "--out", type=Path, help=f"where results and plots go; {RESULTS}, for a quick run a temporary folder"
    )
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.scenarios) - set(SCENARIOS)):
        parser.error(f"no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    chosen = arguments.scenarios or list(SCENARIOS)
    rounds = 1 if arguments.quick else arguments.rounds
    command = f"make bench ROUNDS={rounds}" + (" QUICK=1" if arguments.quick else "")
    if arguments.scenarios:
        command += f' ONLY="{" ".join(chosen)}"'
    out = arguments.out or (_temporary() if arguments.quick else RESULTS)
    options = {name: each.quick if arguments.quick else each.options for name, each in SCENARIOS.items()}
    failed: list[str] = []
    with reported():
        made_by = origin.look(command)
        for group in GROUPS:
            if scenarios := [each for each in group if each.name in chosen]:
                outcome = asyncio.run(run(scenarios, rounds, options, made_by))
                failed += outcome.failed
                for result in outcome.results:
                    keep(result, out)
    print(write_report(out))
    exit_if_failed(failed)


def _temporary() -> Path:
    return Path(tempfile.mkdtemp(prefix="edge-bench-")) / RESULTS.name


if __name__ == "__main__":
    main()
