"""Named points at which the fault scenarios end or freeze a process of ours. Inert in production.

`FAULT_POINTS=after_commit:3` ends the process with SIGKILL when it passes the point for the third time;
`after_commit:3:SIGSTOP` freezes it there; several are separated by commas. Without the variable `point` is a
function that does nothing, called once a batch.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from typing import TYPE_CHECKING, Final, Literal, get_args

from runtime.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

VARIABLE: Final = "FAULT_POINTS"

Point = Literal[
    "before_commit",  # gateway: the batch is written, COMMIT not sent
    "after_commit",  # gateway: committed, not acknowledged to the broker
    "after_ack",  # gateway: acknowledged to the broker
    "after_publish",  # gateway: on the internal topic, the position not noted
    "before_apply",  # projector: a run is folded, the script not called
    "listed",  # projector: pieces of a run that is very much are in the list, and do not count yet
    "staged",  # projector: after a piece of a run that is set in several
    "after_apply",  # projector: the script was applied, nothing is noted or reported
    "before_history",  # projector: minutes are written, COMMIT not sent
    "after_history",  # projector: minutes are committed, nothing is noted
    "packed",  # projector: minutes are packed, nobody reads them there yet
    "rebuild",  # projector: between two pages of a rebuild
    "swap",  # projector: after a step of putting a rebuilt set in place
]
POINTS: Final = frozenset(get_args(Point))

_SIGNALS: Final = {"SIGKILL": signal.SIGKILL, "SIGSTOP": signal.SIGSTOP}


def armed(text: str) -> Callable[[Point], None]:
    """Make the function that does what the variable's value asks for.

    Raises:
        ConfigurationError: an unknown point or signal, or a passing that is no number from 1.
    """
    plan = dict(_parse(part.strip()) for part in text.split(","))
    passed: Counter[str] = Counter()

    def pass_by(name: Point) -> None:
        passed[name] += 1
        number = plan.get((name, passed[name]))
        if number is not None:
            os.kill(os.getpid(), number)

    return pass_by


def _parse(part: str) -> tuple[tuple[str, int], signal.Signals]:
    name, passing, number, *_ = [*part.split(":"), "", ""]
    if name not in POINTS:
        raise ConfigurationError(f"{VARIABLE}: no point {name!r}; there are {', '.join(sorted(POINTS))}")
    if not passing.isdecimal() or int(passing) < 1:
        raise ConfigurationError(f"{VARIABLE}: {part!r} must say at which passing, from 1: {name}:1")
    number = number or "SIGKILL"
    if number not in _SIGNALS:
        raise ConfigurationError(f"{VARIABLE}: no signal {number!r}; there are {', '.join(_SIGNALS)}")
    return (name, int(passing)), _SIGNALS[number]


def _nothing(name: Point) -> None:
    """Pass by."""


point: Final[Callable[[Point], None]] = armed(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else _nothing
"""Pass a named point."""
