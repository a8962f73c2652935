from __future__ import annotations

import pytest
from click.testing import CliRunner

from gateway.simulate.command import simulate_command


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--rate", "0"], "--rate"),
        (["--rate", "inf"], "--rate"),
        (["--rate", "nan"], "--rate"),
        (["--seconds", "-1"], "--seconds"),
        (["--messages", "0"], "--messages"),
        (["--devices", "0"], "--devices"),
        (["--regions", "0"], "--regions"),
        (["--connections", "0"], "--connections"),
        (["--qos", "3"], "--qos"),
        (["--garbage", "1.5"], "garbage"),
        (["--arrays", "nan"], "arrays"),
        (["--duplicates", "0.5", "--late", "0.6"], "more than 1"),
        (["--topic", "devices/telemetry"], "{device_id}"),
        (["--topic", "devices/+/{device_id}"], "wildcards"),
        (["--topic", "{site}/{device_id}"], "wildcards"),
    ],
)
def test_impossible_values_are_refused(arguments: list[str], what: str) -> None:
    """A value that cannot be is refused with exit code 2 and its name, before anything is sent."""
    result = CliRunner().invoke(simulate_command, arguments)
    assert result.exit_code == 2
    assert what in result.stderr
