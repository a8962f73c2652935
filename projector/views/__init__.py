"""Views: statistics of devices and regions in Redis, and all that writes them.

`fold` makes of a run of events what it adds to each view, `merge` adds that to the `state` that is remembered
of it, `apply` sets the views to the outcome by one script, and `expiry` takes out who has been silent for
long. `read` reads what is not remembered, and `position` says how far a set of views has come.
"""

from projector.views.apply import Outcome, Run, Views
from projector.views.position import Cursor, Keys, Marks, Seen, answering, as_marks

__all__ = ["Cursor", "Keys", "Marks", "Outcome", "Run", "Seen", "Views", "answering", "as_marks"]
