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
from bench.comparison import compare
from bench.scenario import Result, describe
from bench.scenarios import SCENARIOS
from bench.tables import table, table_of_lines

if TYPE_CHECKING:
    from bench.scenario import Scenario

_DOCS: Final = Path(__file__).parents[1] / "docs"
RESULTS: Final = _DOCS / "benchmarks"
ROUNDS: Final = 3

_HEAD = """# Benchmarks

Written by `make bench` from the results in [`benchmarks/`](benchmarks/); `python -m bench.report` writes it
again from the same. Every figure is the median of the rounds. mosquitto, PostgreSQL (fsync and synchronous
commit on), Redis, the gateway, the projector and the load generator share the machine's cores, so a rate
means something only beside the CPU a message of each of them. Memory is resident memory (RSS), its peak as
the kernel keeps it."""


_AGAINST: Final = (
    "Scenarios that took turns in one run: their ratio in each round, and the median of the ratios."
)

_OUTDATED: Final = "`{}` is of a version that measured other things: `make bench ONLY={}`."

_FEW: Final = "**Rounds: {}. A figure to go by is the median of at least {}.**"


def write_report(folder: Path) -> Path:
    """Write the report of all results in a folder.

    Args:
        folder: has the results and gets the plots; the report goes beside it, under its name.

    Returns:
        The report's path.
    """
    results, outdated = {}, []
    for scenario in SCENARIOS.values():
        file = folder / f"{scenario.name}.json"
        if not file.exists():
            continue
        try:
            results[scenario.name] = msgspec.json.decode(
                file.read_bytes(),
                type=Result[scenario.figures],  # type: ignore[name-defined]  # each has its own
            )
        except msgspec.ValidationError:
            outdated.append(scenario)
    sections = [_HEAD]
    if compared := compare(results):
        sections += ["## Against each other", _AGAINST, table_of_lines(compared)]
    sections += [_section(SCENARIOS[name], result, folder) for name, result in results.items()]
    sections += [
        f"## {scenario.title}\n\n{_OUTDATED.format(f'{scenario.name}.json', scenario.name)}"
        for scenario in outdated
    ]
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
        ["PostgreSQL", ", ".join(f"{name} = {value}" for name, value in origin.postgres.items())],
    ]
    details = f"<details><summary>How it was run</summary>\n\n{table(['', ''], facts)}\n\n</details>"
    few = [_FEW.format(len(result.rounds), ROUNDS)] if len(result.rounds) < ROUNDS else []
    return "\n\n".join(
        [f"## {scenario.title}", scenario.text, *few, describe(scenario, result.median), *pictures, details]
    )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the results are")
    print(write_report(parser.parse_args().out))


if __name__ == "__main__":
    main()
