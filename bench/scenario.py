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
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from bench import origin
from bench.options import add_arguments, read_arguments
from bench.origin import Origin  # noqa: TC001  # msgspec reads it at run time
from bench.tables import CpuByCase, Line, table_of_cpu, table_of_lines
from deploy.local.children import ChildError
from runtime import logs
from runtime.errors import Stop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from matplotlib.axes import Axes

F = TypeVar("F", bound=msgspec.Struct)


class PlantError(Exception):
    """The plant did not do what was expected of it; the message says what is missing or too much."""


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


async def run(
    scenarios: Sequence[Scenario[Any]],
    rounds: int,
    options: Mapping[str, msgspec.Struct],
    made_by: Origin,
) -> list[Result[Any]]:
    """Run scenarios side by side: the first round of each, then the second of each, and so on.

    Args:
        scenarios: which.
        rounds: how many of each.
        options: by scenario.
        made_by: where the run comes from, for the results.
    """
    figures: dict[str, list[Any]] = {scenario.name: [] for scenario in scenarios}
    async with AsyncExitStack() as stack:
        prepared = {
            scenario.name: await stack.enter_async_context(scenario.prepare(options[scenario.name]))
            for scenario in scenarios
        }
        for number in range(rounds):
            for scenario in scenarios:
                print(f"{scenario.name}, round {number + 1} of {rounds}", file=sys.stderr, flush=True)
                figures[scenario.name].append(await scenario.measure(number, prepared[scenario.name]))
    return [
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
    ]


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
    except (PlantError, ChildError, Stop) as error:
        sys.exit(f"bench: {error}")


def run_alone(scenario: Scenario[Any]) -> None:
    """The command `python -m bench.NAME`: run a scenario and print its tables."""
    parser = argparse.ArgumentParser(prog=f"python -m bench.{scenario.name}", description=scenario.text)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="a folder to write the result to, as JSON")
    add_arguments(parser, type(scenario.options))
    arguments = parser.parse_args()
    options = read_arguments(arguments, type(scenario.options))
    with reported():
        made_by = origin.look(shlex.join([parser.prog, *sys.argv[1:]]))
        (result,) = asyncio.run(run([scenario], arguments.rounds, {scenario.name: options}, made_by))
    print(describe(scenario, result.median))
    if arguments.out:
        keep(result, arguments.out)


def describe(scenario: Scenario[F], median: F) -> str:
    """The tables of a result's medians, in Markdown."""
    tables = [table_of_lines(scenario.lines(median))]
    if scenario.cpu is not None:
        tables.append(table_of_cpu(scenario.cpu(median)))
    return "\n\n".join(tables)


def keep(result: Result[Any], folder: Path) -> None:
    """Write a result into a folder, as `<scenario>.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    text = msgspec.json.format(msgspec.json.encode(result))
    (folder / f"{result.scenario}.json").write_bytes(text + b"\n")
