"""Runs of benchmarks: what is kept of them when something fails, and what is compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from bench import __main__ as command
from bench import floors, ingest, reference
from bench.comparison import compare
from bench.origin import Origin
from bench.report import write_report
from bench.scenario import FAILURES, Result, Scenario, keep, run
from bench.tables import Line

if TYPE_CHECKING:
    from pathlib import Path

ORIGIN = Origin("2026-11-23", "abc", "make bench", "two cores", {}, {"fsync": "on"})


class Figures(msgspec.Struct, frozen=True):
    """The number of the round."""

    number: int


def scenario(name: str, *, fails_in: int = -1, error: Exception | None = None) -> Scenario[Figures]:
    """A scenario that may fail in a round."""

    async def measure(number: int, _options: Figures) -> Figures:
        if error is not None and number == fails_in:
            raise error
        return Figures(number)

    nothing = Figures(0)
    return Scenario(
        name=name,
        title=name,
        text="",
        options=nothing,
        quick=nothing,
        figures=Figures,
        measure=measure,
        lines=lambda _: [Line("round", "")],
    )


@pytest.mark.parametrize("kind", FAILURES)
async def test_a_failure_costs_one_scenario_its_later_rounds(
    kind: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    """What it has finished is kept, those that took turns with it finish all, and its name is told."""
    both = [scenario("frail", fails_in=1, error=kind("the broker is gone")), scenario("sound")]
    outcome = await run(both, 3, {each.name: each.options for each in both}, ORIGIN)
    assert {result.scenario: len(result.rounds) for result in outcome.results} == {"frail": 1, "sound": 3}
    assert outcome.failed == ["frail"]
    assert "bench: frail failed: the broker is gone" in capsys.readouterr().err


async def test_a_scenario_that_never_finished_has_no_result() -> None:
    """There is nothing to take a median of."""
    one = scenario("frail", fails_in=0, error=TimeoutError())
    outcome = await run([one], 3, {one.name: one.options}, ORIGIN)
    assert (outcome.results, outcome.failed) == ([], ["frail"])


@pytest.mark.parametrize("rounds", ["0", "-1", "two"])
def test_there_is_no_run_without_a_round(
    rounds: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line says what is wrong with the number of rounds."""
    monkeypatch.setattr("sys.argv", ["bench", f"--rounds={rounds}"])
    with pytest.raises(SystemExit):
        command.main()
    assert f"argument --rounds: '{rounds}' is no whole number of at least 1" in capsys.readouterr().err


@pytest.mark.parametrize(("rounds", "marked"), [(2, True), (3, False)])
def test_a_report_marks_results_of_few_rounds(rounds: int, marked: bool, tmp_path: Path) -> None:  # noqa: FBT001  # a parameter of the test
    """A figure that is no median of three says so; PostgreSQL's settings stand beside each."""
    figures = reference.Figures(1000.0, {"ingest": 1.0, "project": 1.0})
    keep(Result("reference", ORIGIN, {}, [figures] * rounds, figures), tmp_path / "benchmarks")
    report = write_report(tmp_path / "benchmarks").read_text(encoding="utf-8")
    assert (f"**Rounds: {rounds}." in report) is marked
    assert "fsync = on" in report


def test_a_report_names_results_that_it_cannot_read(tmp_path: Path) -> None:
    """A result of a version that measured other things stands in nobody's way, and says what to do."""
    figures = reference.Figures(1000.0, {"ingest": 1.0, "project": 1.0})
    keep(Result("reference", ORIGIN, {}, [figures] * 3, figures), tmp_path / "benchmarks")
    (tmp_path / "benchmarks" / "backlog.json").write_bytes(
        (tmp_path / "benchmarks" / "reference.json").read_bytes()
    )
    report = write_report(tmp_path / "benchmarks").read_text(encoding="utf-8")
    assert "make bench ONLY=backlog" in report
    assert "## Reference" in report


def test_scenarios_are_compared_round_by_round_of_one_run() -> None:
    """The median of the rounds' ratios; nothing when the two are of different runs."""
    own_us = {"gateway": 10.0}
    ours = [ingest.Figures(1, 0.0, speed, own_us, {}, []) for speed in (9.0, 40.0, 24.0)]
    theirs = [reference.Figures(speed, {}) for speed in (1.0, 2.0, 3.0)]  # 9, 20 and 8 times
    floor = [floors.Figures(0.0, {"drain": us}, 0.0, 0.0) for us in (4.0, 5.0, 8.0)]
    results: dict[str, Result[Any]] = {
        name: Result(name, ORIGIN, {}, rounds, rounds[0])
        for name, rounds in (("ingest", ours), ("reference", theirs), ("floors", floor))
    }
    lines = [(line.measured, line.met) for line in compare(results)]
    assert lines == [("9.0 times", False), ("2.0 times", True)]
    other = msgspec.structs.replace(ORIGIN, date="2026-11-24")
    results["ingest"] = msgspec.structs.replace(results["ingest"], origin=other)
    assert compare(results) == []
