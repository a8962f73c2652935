"""Fault points: inert unless asked for, and never asked for by a slip."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from runtime import faults
from runtime.errors import ConfigurationError

PASS = "from runtime import faults; [faults.point('after_commit') or print(i, flush=True) for i in range(4)]"


def passes(plan: str | None) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != faults.VARIABLE}
    if plan is not None:
        env[faults.VARIABLE] = plan
    return subprocess.run([sys.executable, "-c", PASS], env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("plan", [None, ""])
def test_without_the_variable_nothing_happens(plan: str | None) -> None:
    """In production a point is passed like a line of nothing."""
    done = passes(plan)
    assert (done.returncode, done.stdout.split()) == (0, ["0", "1", "2", "3"])


def test_the_process_ends_at_the_passing_named() -> None:
    """It is killed at exactly the passing that the variable names, and at no other point's."""
    done = passes("before_commit:1, after_commit:3")
    assert (done.returncode, done.stdout.split()) == (-signal.SIGKILL, ["0", "1"])


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ("after_comit:1", "no point 'after_comit'"),
        ("after_commit", "at which passing"),
        ("after_commit:0", "at which passing"),
        ("after_commit:1:SIGHUP", "no signal 'SIGHUP'"),
        ("after_commit:1,", "no point ''"),
    ],
)
def test_a_slip_is_refused(plan: str, said: str) -> None:
    """A plan that names what does not exist is refused when it is read, not passed over."""
    with pytest.raises(ConfigurationError, match=said):
        faults.armed(plan)
