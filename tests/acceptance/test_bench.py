"""`python -m bench` as a real process: that what it measures, keeps and writes hangs together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest

from bench.ingest import Figures
from bench.scenario import Result

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(120)


@pytest.mark.full
def test_a_quick_round_is_measured_kept_and_reported(tmp_path: Path) -> None:
    """One short flood: its result has every process's share, and report and plot are made of the result."""
    folder = tmp_path / "benchmarks"
    command = [sys.executable, "-m", "bench", "ingest", "--quick", "--out", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = msgspec.json.decode((folder / "ingest.json").read_bytes(), type=Result[Figures])
    figures = result.median
    assert result.rounds == [figures]
    assert figures.messages > 0
    assert figures.committed_per_s >= figures.projected_per_s > 0
    for name in ("gateway", "projector", "mosquitto", "postgres", "redis", "load"):
        assert figures.cpu_us[name] > 0
    for name, peak in figures.peak_mb.items():
        sampled = max(moment.rss_mb[name] for moment in figures.course)
        assert peak == pytest.approx(sampled, rel=0.5)
        assert peak > 0.95 * sampled  # the kernel keeps both only nearly exact
    report = folder.with_suffix(".md").read_text(encoding="utf-8")
    assert f"{figures.projected_per_s:,.0f} messages/s" in report
    assert ET.parse(folder / "ingest-course.svg").getroot().tag.endswith("svg")  # noqa: S314  # our own file


def test_an_unknown_scenario_is_refused(tmp_path: Path) -> None:
    """A misspelt name is named, with those there are, and nothing is run."""
    command = [sys.executable, "-m", "bench", "ingets", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no scenario ingets; there are " in done.stderr
    assert "ingest" in done.stderr
    assert list(tmp_path.iterdir()) == []
