"""`python -m bench.report`: `docs/benchmarks.md` and its plots, from the kept results alone.

Each result names the commit, date, command and machine of its run, because not all need to be of one run;
figures that are compared with each other are in one result, or in results of one run.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from bench import plots
from bench.scenario import Result, describe
from bench.scenarios import SCENARIOS
from bench.tables import table

if TYPE_CHECKING:
    from bench.scenario import Scenario

_DOCS: Final = Path(__file__).parents[1] / "docs"
RESULTS: Final = _DOCS / "benchmarks"

_HEAD = """# Benchmarks

Written by `make bench` from the results in [`benchmarks/`](benchmarks/); `python -m bench.report` writes it
again from the same. Every figure is the median of the rounds. mosquitto, PostgreSQL (fsync and synchronous
commit on), Redis, the gateway, the projector and the load generator share the machine's cores, so a rate
means something only beside the CPU a message of each of them. Memory is resident memory (RSS), its peak as
the kernel keeps it."""


def write_report(folder: Path) -> Path:
    """Write the report of all results in a folder.

    Args:
        folder: has the results and gets the plots; the report goes beside it, under its name.

    Returns:
        The report's path.
    """
    sections = [_HEAD]
    for scenario in SCENARIOS.values():
        file = folder / f"{scenario.name}.json"
        if file.exists():
            result = msgspec.json.decode(file.read_bytes(), type=Result[scenario.figures])  # type: ignore[name-defined]  # each has its own
            sections.append(_section(scenario, result, folder))
    report = folder.with_suffix(".md")
    report.write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    return report


def _section(scenario: Scenario[Any], result: Result[Any], folder: Path) -> str:
    pictures = [
        f"![{scenario.title}: {name}]({folder.name}/{plots.draw(scenario, result, name, folder).name})"
        for name in scenario.plots
    ]
    origin = result.origin
    versions = ", ".join(f"{name} {version}" for name, version in origin.versions.items())
    options = ", ".join(f"{name} {value}" for name, value in result.options.items())
    facts = [
        ["rounds, options", f"{len(result.rounds)}; {options}"],
        ["run", f"`{origin.command}`, commit {origin.commit}, {origin.date}"],
        ["machine", origin.machine],
        ["versions", versions],
    ]
    details = f"<details><summary>How it was run</summary>\n\n{table(['', ''], facts)}\n\n</details>"
    return "\n\n".join(
        [f"## {scenario.title}", scenario.text, describe(scenario, result.median), *pictures, details]
    )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the results are")
    print(write_report(parser.parse_args().out))


if __name__ == "__main__":
    main()
