"""What a scenario is, and how its rounds become a result.

A scenario module has `Options` (what can be chosen), `Figures` (what one round measures), an async function
`measure(number, options)` that runs round `number` and returns its figures, and `SCENARIO`, which says how
they are presented. `python -m bench.NAME --rounds 3` runs it alone and prints its tables; `python -m bench`
runs many and keeps their results.
"""

from __future__ import annotations

import argparse
import asyncio
import shlex
import statistics
import sys
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec

from bench import origin
from bench.generator import GeneratorError
from bench.options import add_arguments, count, read_arguments
from bench.origin import Origin  # noqa: TC001  # msgspec reads it at run time
from bench.tables import CpuByCase, Line, table_of_cpu, table_of_lines
from deploy.local.children import ChildError
from deploy.local.install import MissingPackagesError
from runtime import logs
from runtime.errors import Stop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from matplotlib.axes import Axes

F = TypeVar("F", bound=msgspec.Struct)


class PlantError(Exception):
    """The plant did not do what was expected of it; the message says what is missing or too much."""


FAILURES: Final = (PlantError, GeneratorError, ChildError, MissingPackagesError, Stop, TimeoutError)
"""What ends a round without being an error of this harness."""


def check(what: str, counted: int, expected: int) -> None:
    """Let no figure stand whose books do not balance.

    Raises:
        PlantError: the two differ.
    """
    if counted != expected:
        raise PlantError(f"{what}: {counted:,}, but {expected:,} were expected")


class Result(msgspec.Struct, Generic[F], frozen=True):
    """A scenario's rounds, as they are kept in `docs/benchmarks/`.

    Attributes:
        median: of the rounds, number by number; what is no number, or differs in shape between rounds, is the
            first round's.
    """

    scenario: str
    origin: Origin
    options: dict[str, Any]
    rounds: list[F]
    median: F


@asynccontextmanager
async def _unprepared(options: Any) -> AsyncIterator[Any]:  # noqa: ANN401  # the scenario's own
    yield options


class Scenario(msgspec.Struct, Generic[F], frozen=True, kw_only=True):
    """A scenario.

    Attributes:
        name: of its module and its result.
        title: heading in the report.
        text: what is done, in Markdown.
        options: as `make bench` runs it.
        quick: the shortest that shows that it works.
        figures: type of what a round measures.
        measure: runs one round, given its number and the options, or what `prepare` made of them.
        lines: the table, of the medians.
        prepare: makes what all rounds share, before the first.
        cpu: CPU by process, of the medians.
        plots: what draws each of its plots, by name.
    """

    name: str
    title: str
    text: str
    options: msgspec.Struct
    quick: msgspec.Struct
    figures: type[F]
    measure: Callable[[int, Any], Awaitable[F]]
    lines: Callable[[F], Sequence[Line]]
    prepare: Callable[[Any], AbstractAsyncContextManager[Any]] = _unprepared
    cpu: Callable[[F], CpuByCase] | None = None
    plots: Mapping[str, Callable[[Result[F], Axes], None]] = {}


class Outcome(msgspec.Struct, frozen=True):
    """What a run came to.

    Attributes:
        results: of the scenarios that have finished a round, of the rounds that they have finished.
        failed: scenarios that have not finished all of them.
    """

    results: list[Result[Any]]
    failed: list[str]


async def run(
    scenarios: Sequence[Scenario[Any]],
    rounds: int,
    options: Mapping[str, msgspec.Struct],
    made_by: Origin,
) -> Outcome:
    """Run scenarios side by side: the first round of each, then the second of each, and so on.

    A scenario that fails says so and has no further rounds; the others go on.

    Args:
        scenarios: which.
        rounds: how many of each.
        options: by scenario.
        made_by: where the run comes from, for the results.
    """
    figures: dict[str, list[Any]] = {scenario.name: [] for scenario in scenarios}
    prepared: dict[str, Any] = {}
    failed: list[str] = []
    async with AsyncExitStack() as stack:
        for scenario in scenarios:
            with _noted(scenario, failed):
                prepared[scenario.name] = await stack.enter_async_context(
                    scenario.prepare(options[scenario.name])
                )
        for number in range(rounds):
            for scenario in [each for each in scenarios if each.name not in failed]:
                print(f"{scenario.name}, round {number + 1} of {rounds}", file=sys.stderr, flush=True)
                with _noted(scenario, failed):
                    figures[scenario.name].append(await scenario.measure(number, prepared[scenario.name]))
    results = [
        Result(
            scenario=scenario.name,
            origin=made_by,
            options=msgspec.to_builtins(options[scenario.name]),
            rounds=figures[scenario.name],
            median=msgspec.convert(
                median([msgspec.to_builtins(each) for each in figures[scenario.name]]), scenario.figures
            ),
        )
        for scenario in scenarios
        if figures[scenario.name]
    ]
    return Outcome(results, failed)


@contextmanager
def _noted(scenario: Scenario[Any], failed: list[str]) -> Iterator[None]:
    try:
        yield
    except FAILURES as error:
        print(f"bench: {scenario.name} failed: {_text(error)}", file=sys.stderr, flush=True)
        failed.append(scenario.name)


def _text(error: BaseException) -> str:
    return str(error) or "it took too long"  # a TimeoutError says nothing


def median(values: Sequence[Any]) -> Any:  # noqa: ANN401  # figures of any shape
    """The median of structures of one shape, number by number; see `Result.median`."""
    first = values[0]
    if all(isinstance(value, dict) and value.keys() == first.keys() for value in values):
        return {name: median([value[name] for value in values]) for name in first}
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        middle = statistics.median(values)
        return type(first)(middle)
    return first


@contextmanager
def reported() -> Iterator[None]:
    """End with a message instead of a traceback when servers or processes are not as they should be."""
    logs.configure("json", "warning")
    try:
        yield
    except FAILURES as error:
        sys.exit(f"bench: {_text(error)}")


def run_alone(scenario: Scenario[Any]) -> None:
    """The command `python -m bench.NAME`: run a scenario and print its tables."""
    parser = argparse.ArgumentParser(prog=f"python -m bench.{scenario.name}", description=scenario.text)
    parser.add_argument("--rounds", type=count, default=3)
    parser.add_argument("--out", type=Path, help="a folder to write the result to, as JSON")
    add_arguments(parser, type(scenario.options))
    arguments = parser.parse_args()
    options = read_arguments(arguments, type(scenario.options))
    with reported():
        made_by = origin.look(shlex.join([parser.prog, *sys.argv[1:]]))
        outcome = asyncio.run(run([scenario], arguments.rounds, {scenario.name: options}, made_by))
    for result in outcome.results:
        print(describe(scenario, result.median))
        if arguments.out:
            keep(result, arguments.out)
    exit_if_failed(outcome.failed)


def exit_if_failed(failed: Sequence[str]) -> None:
    """End with exit code 1 when scenarios have failed."""
    if failed:
        sys.exit(f"bench: failed: {', '.join(failed)}")


def describe(scenario: Scenario[F], median: F) -> str:
    """The tables of a result's medians, in Markdown."""
    tables = [table_of_lines(scenario.lines(median))]
    if scenario.cpu is not None and (cases := scenario.cpu(median)):
        tables.append(table_of_cpu(cases))
    return "\n\n".join(tables)


def keep(result: Result[Any], folder: Path) -> None:
    """Write a result into a folder, as `<scenario>.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    text = msgspec.json.format(msgspec.json.encode(result))
    (folder / f"{result.scenario}.json").write_bytes(text + b"\n")
