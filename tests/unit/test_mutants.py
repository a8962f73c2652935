"""The list of `make mutants` keeps up with the lines that it breaks."""

from __future__ import annotations

import pytest

from tests.mutants.mutants import ROOT, Mutant, read

MUTANTS = read()


def test_there_are_enough() -> None:
    """At least thirty safeguards are taken out, each under a name of its own."""
    assert len({mutant.safeguard for mutant in MUTANTS}) == len(MUTANTS) >= 30


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.safeguard for mutant in MUTANTS])
def test_every_line_is_there(mutant: Mutant) -> None:
    """Whoever changes a line that a promise rests on mends its mutant; the tests named for it exist."""
    mutant.applied(ROOT)
    for test in mutant.tests:
        name, _, function = test.partition("::")
        assert f"def {function or 'test_'}" in (ROOT / name).read_text(encoding="utf-8"), test
