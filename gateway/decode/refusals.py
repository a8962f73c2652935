"""What is refused of a payload that is many readings: the first of it one by one, what follows in one letter.

One sender's fault is not to cost the others their room.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from gateway.decode.limits import MAX_LETTERS
from gateway.decode.reading import Rejection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.decode.formats import Format
    from gateway.decode.pieces import Pieces
    from gateway.decode.reading import Received
    from gateway.decode.routes import Matched
    from runtime.errors import Reject

MANY: Final = "many_bad_elements"


class Refusals:
    """Those of one payload.

    Args:
        matched: what its topic says.
        received: gives letters their times of arrival.
        join: makes a payload of the elements at some places.

    Attributes:
        count: how many were refused.
    """

    def __init__(self, matched: Matched, received: Received, join: Callable[[Sequence[Any]], bytes]) -> None:
        self._matched = matched
        self._received = received
        self._join = join
        self.count = 0
        self._first = self._first_at = ""
        self._reasons: Counter[str] = Counter()
        self._rest: list[Any] = []

    def letter(
        self,
        place: Any,  # noqa: ANN401  # whatever join takes
        reject: Reject,
        raw: bytes | memoryview,
        number: int | str | None = None,
    ) -> Rejection | None:
        """The letter of an element; None when it is kept for the last one.

        Args:
            place: of it.
            reject: why it is refused.
            raw: its bytes.
            number: what people are told of its place, where that is another.
        """
        self.count += 1
        if not self._first:  # of all that follow nobody is told more than why
            error = f"element {place if number is None else number}: {reject.detail}"
            if self.count <= MAX_LETTERS:
                return rejection(self._matched, self._received, bytes(raw), reject.reason, error)
            self._first, self._first_at = error, self._received.next()
        self._reasons[reject.reason] += 1
        self._rest.append(place)
        return None

    def last(self) -> Rejection | None:
        """The letter of all the others, if there are any."""
        if not self._rest:
            return None
        said = ", ".join(f"{count} {reason}" for reason, count in self._reasons.most_common(5))
        error = f"{len(self._rest)} more elements of one payload: {said}; the first, {self._first}"
        matched = self._matched
        payload = self._join(self._rest)
        return Rejection(self._first_at, matched.topic, matched.device_id, MANY, error, payload)


class OfLines(Refusals):
    """Those of a payload of lines, of which each may be several readings.

    Args:
        matched, received: likewise.
        form: makes a payload of lines.
        raws: the bytes of each line.
    """

    def __init__(
        self, matched: Matched, received: Received, form: Format, raws: Sequence[bytes | memoryview]
    ) -> None:
        super().__init__(matched, received, self._joined)
        self._form, self._raws = form, raws
        self._cut: dict[int, Pieces] = {}
        self._line = 0

    def begin(self, line: int) -> None:
        """What follows is of this line."""
        self._line = line

    def of_line(self, reject: Reject) -> Rejection | None:
        """The letter of the line itself."""
        return self.letter((self._line, None), reject, self._raws[self._line], self._line)

    def of_piece(self, pieces: Pieces, at: int, reject: Reject, number: int) -> Rejection | None:
        """The letter of a piece of the line, the at-th; `number`: what people are told of its place."""
        self._cut[self._line] = pieces
        assert pieces.raws is not None
        return self.letter((self._line, at), reject, pieces.raws[at], f"{self._line}.{number}")

    def _joined(self, places: Sequence[tuple[int, int | None]]) -> bytes:
        of: dict[int, list[int]] = {}
        for line, at in places:
            of.setdefault(line, []).extend(() if at is None else (at,))
        return self._form.join(
            [self._cut[line].join(its) if its else self._raws[line] for line, its in of.items()]
        )


def rejection(matched: Matched, received: Received, raw: bytes, reason: str, error: str) -> Rejection:
    """A letter that comes now."""
    return Rejection(received.next(), matched.topic, matched.device_id, reason, error, raw)
