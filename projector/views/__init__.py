"""Views: statistics of devices and regions in Redis, and all that writes them.

`change` adds a run of events to the `state` that is remembered, `writes` makes of that what is to be set, and
`apply` sets it by one script. `read` reads what is not remembered, `expiry` takes out who has been silent for
long, `pace` says how much goes in one call, and `position` how far a set of views has come.
"""

from projector.views.apply import Outcome, Run, Views
from projector.views.position import Cursor, Keys, Marks, Seen, as_marks
from projector.views.read import answering

__all__ = ["Cursor", "Keys", "Marks", "Outcome", "Run", "Seen", "Views", "answering", "as_marks"]
