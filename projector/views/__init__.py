"""Views: statistics of devices and regions in Redis, and all that writes them.

`fold` makes of a run of events what it adds to each view, `apply` adds that by one script, and `expiry` takes
out who has been silent for long.
"""

from projector.views.apply import (
    Cursor,
    Keys,
    Marks,
    Outcome,
    Run,
    Seen,
    Views,
    answering,
    as_marks,
)

__all__ = ["Cursor", "Keys", "Marks", "Outcome", "Run", "Seen", "Views", "answering", "as_marks"]
