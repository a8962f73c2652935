"""Views: statistics of devices and regions in Redis, and all that writes them.

`apply` gives them a run of events: `change` adds it to the `state` that is remembered, `writes` makes of that
what is to be set, and `setting` sets it, in pieces when it is much. `read` reads what is not remembered,
`pace` says how much goes in one run, and `position` how far a set of views has come.
"""

from projector.views.apply import Outcome, Run, Views
from projector.views.position import Cursor, Keys, Marks, Seen, as_marks
from projector.views.read import answering

__all__ = ["Cursor", "Keys", "Marks", "Outcome", "Run", "Seen", "Views", "answering", "as_marks"]
