"""Errors that say what to do next.

Every error that crosses a step's boundary is one of three: try again after a while (`Retry`), refuse this
item and go on (`Reject`), or stop the process (`Stop`). Whoever catches one needs no knowledge of the library
that caused it.
"""

from __future__ import annotations


class EdgeError(Exception):
    """The root of the house's errors; never raised itself."""


class Retry(EdgeError):
    """Something outside is away or busy: wait and do the same again.

    Attributes:
        what: what is being waited for, as an operator names it (`broker`, `postgres`, `redis`).
        reason: what it said, in one line, without secrets.
    """

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"{what}: {reason}")
        self.what = what
        self.reason = reason


class Reject(EdgeError):
    """This item can never be processed as it is: keep it as a dead letter and go on with its neighbours.

    Attributes:
        reason: a stable snake_case word, used as a metric label and a column (`malformed_json`, `conflict`).
        detail: what, where and how to mend it, for a person.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Stop(EdgeError):
    """Nothing but a person or a supervisor can mend this: leave with a clear message.

    Attributes:
        exit_code: 1 when the work failed, 2 when usage or configuration is wrong.
    """

    exit_code = 1


class ConfigurationError(Stop):
    """A key of the configuration is unknown, of a wrong type or has an impossible value."""

    exit_code = 2
