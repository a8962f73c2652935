"""One checkout's benchmarks beside another's: which figures are compared, and how."""

from __future__ import annotations

from bench.beside import compare, figures_of


def test_every_number_of_a_round_has_a_path() -> None:
    """Numbers at any depth, but no courses, texts and truth values."""
    round_ = {"rate": 3, "cpu_us": {"gateway": 1.5}, "course": [{"s": 1.0}], "met": True, "name": "x"}
    assert dict(figures_of(round_)) == {"rate": 3.0, "cpu_us.gateway": 1.5}


def test_the_median_of_the_ratios_counts() -> None:
    """Round by round: a round in which the machine was slow for both changes nothing."""
    before = [{"rate": 100.0}, {"rate": 50.0}, {"rate": 80.0}]
    now = [{"rate": 110.0}, {"rate": 55.0}, {"rate": 40.0}]
    assert compare(before, now) == [["rate", "80.0", "55.0", "1.100"]]


def test_what_only_one_side_measures_is_left_out() -> None:
    """A new figure, or one that was nothing before, has no ratio."""
    assert compare([{"old": 1.0, "zero": 0.0}], [{"new": 1.0, "zero": 2.0, "old": 2.0}]) == [
        ["old", "1.0", "2.0", "2.000"]
    ]
