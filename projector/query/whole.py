"""Whether a set of views is whole, so that what is not in it does not exist, or came a moment ago. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from contract.views import DAMAGED, OUTDATED, UNFINISHED

if TYPE_CHECKING:
    from projector.lag import Lag
    from projector.views import Marks

_NO_STREAM: Final = -1
_WHY: Final = {
    UNFINISHED: "they are being made anew from PostgreSQL",
    OUTDATED: "another version wrote them, and they will be made anew",
    DAMAGED: "a part of them is lost, and they will be made anew",
}


def why_not_whole(marks: Marks, lag: Lag) -> str | None:
    """What keeps a set of views from being whole, as a person reads it; None when it is.

    Args:
        marks: how far it has come.
        lag: where the streams stood when last looked.
    """
    epoch = marks[_NO_STREAM].epoch  # instead of one: what is wrong with all of the set
    if epoch is not None:
        return _WHY.get(epoch, epoch)
    if marks:
        return None
    if lag.views.as_of is None:
        return "they are empty, and PostgreSQL has not been asked yet"
    if any(stream.head for stream in lag.streams):
        return "they are empty, and will be made anew"
    return None
