"""What the facts amount to: the steps of each message, and a verdict over all. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import msgspec

from contract.events import format_time
from contract.views import PROJECTION, UNFINISHED
from gateway.dead_letters import REPLAY_STREAM

if TYPE_CHECKING:
    from datetime import datetime

    from gateway.trace.facts import Cursor, Facts, Letter, Row, Stored

State = Literal["yes", "no", "unknown"]
Verdict = Literal["projected", "not_projected", "conflict", "dead_letter", "known_key", "never_seen"]

PROJECTED: Final = "projected"
_GONE: Final = "its outbox row is not there"
_REPLACED: Final = "a rebuild is putting the views in place: ask again in a moment"


class Step(msgspec.Struct, frozen=True):
    """One step of the path.

    Attributes:
        at: when, ISO 8601 UTC; None when that is not recorded.
        detail: where, or why not.
    """

    step: str
    state: State
    at: str | None
    detail: str


class Message(msgspec.Struct, frozen=True):
    """A stored message and its way."""

    device_id: str
    region: str | None
    ts: str
    metrics: msgspec.Raw
    complete: bool
    steps: list[Step]


class Rejected(msgspec.Struct, frozen=True):
    """A dead letter that is, or may be, the message; `gateway dead-letters show` has its bytes."""

    id: int
    received_at: str
    device_id: str | None
    reason: str
    error: str
    replayed_at: str | None
    certain: bool


class Story(msgspec.Struct, frozen=True):
    """What `gateway trace --json` prints.

    Attributes:
        verdict: `projected`: stored, and in the views. `not_projected`: stored, and not yet, or
            nothing tells. `conflict` and `dead_letter`: refused. `known_key`: it was stored, and its
            measurement is gone. `never_seen`: nothing knows it.
        why: the verdict in a sentence, with what to do.
        searched: where measurements were looked for.
        redis_away: why Redis could not be asked; null when it was.
    """

    key: str
    verdict: Verdict
    why: str
    messages: list[Message]
    dead_letters: list[Rejected]
    searched: str
    redis_away: str | None


def tell(facts: Facts) -> Story:
    """Judge the facts."""
    messages = [_message(stored) for stored in facts.stored]
    verdict, why = _verdict(facts, messages)
    searched = facts.searched
    where = "all devices" if searched.devices is None else ", ".join(searched.devices) or "no device"
    return Story(
        facts.key,
        verdict,
        why,
        messages,
        [_rejected(letter) for letter in facts.letters],
        f"{where}, device time since {format_time(searched.since)[:19]}Z",
        facts.redis_away,
    )


def _verdict(facts: Facts, messages: list[Message]) -> tuple[Verdict, str]:
    late = [step for message in messages for step in message.steps if _lacks(step)]
    if late:
        known = "not yet" if late[0].state == "no" else "not known to be"
        return "not_projected", f"stored, and {known} {late[0].step}: {late[0].detail}"
    if messages:
        return "projected", "stored, and in the views"
    if facts.letters:
        letter = facts.letters[0]
        what = "it" if letter.certain else "a message that contains the key and cannot be read"
        verdict: Verdict = "conflict" if letter.reason == "conflict" else "dead_letter"
        return verdict, f"{what} was refused as {letter.reason}: `gateway dead-letters show {letter.id}`"
    if facts.key_known:
        return "known_key", (
            "it was stored within the dedup window, and its measurement is no longer kept (gateway.retention)"
        )
    return "never_seen", (
        "no measurement where it was looked for, no dead letter, and the key is unknown since "
        f"{format_time(facts.searched.window_since)[:19]}Z: it did not arrive, is still in flight, or is "
        "older (--since 30d looks further back)"
    )


def _lacks(step: Step) -> bool:
    return step.step == PROJECTED and step.state != "yes"


def _message(stored: Stored) -> Message:
    row = stored.row
    steps = [
        Step("sent", "yes", format_time(stored.ts), "by the device's clock"),
        Step("received", "yes", format_time(stored.received_at), "by the gateway"),
        *_committed(stored),
        _published(row),
        *_projected(stored),
        _repeats(stored.known_until),
    ]
    complete = not any(_lacks(step) for step in steps)
    return Message(stored.device_id, stored.region, format_time(stored.ts), stored.metrics, complete, steps)


def _committed(stored: Stored) -> list[Step]:
    row = stored.row
    if row is None:
        outboxed = Step("outboxed", "unknown", None, f"{_GONE}, and it is too young to have been trimmed")
        if stored.trimmed:
            trimmed = "its outbox row has been trimmed, as happens to rows that every projection has"
            outboxed = Step("outboxed", "yes", None, trimmed)
        return [Step("committed", "yes", None, "in measurements"), outboxed]
    return [
        Step(
            "committed", "yes", format_time(row.committed_at), "in measurements, together with its outbox row"
        ),
        Step("outboxed", "yes", None, f"stream {row.stream} row {row.n}"),
    ]


def _published(row: Row | None) -> Step:
    if row is None:
        return Step("published", "unknown", None, _GONE)
    if row.stream == REPLAY_STREAM:
        return Step("published", "no", None, "replays are not: projections read them from the outbox")
    if row.published >= row.n:
        return Step("published", "yes", None, f"the broker has acknowledged rows up to {row.published}")
    return Step("published", "unknown", None, "the gateway notes it every few seconds")


def _projected(stored: Stored) -> list[Step]:
    """The views, which decide, and then the other projections."""
    row = stored.row
    if row is None:
        return [_projected_before(stored)]
    steps = {cursor.projection: _projected_by(cursor, row, stored) for cursor in stored.cursors}
    nobody = Step(PROJECTED, "no", None, "no projector has come by yet: does `projector run` run?")
    return [steps.pop(PROJECTION, nobody), *steps.values()]


def _projected_before(stored: Stored) -> Step:
    """Rows are trimmed once the views have them; what has become of the views since, Redis tells."""
    if stored.cursors and stored.cursors[0].epoch == UNFINISHED:
        return Step(PROJECTED, "no", None, _REPLACED)
    if stored.view_updated_at is None and stored.expired and stored.trimmed:
        return Step(PROJECTED, "yes", None, "its device has left the views since: silent for too long")
    if stored.cursors and stored.view_updated_at is None:
        lost = f"{_GONE}, and the view device:stats:{stored.device_id} is empty"
        return Step(PROJECTED, "unknown", None, lost)
    if not stored.trimmed:
        return Step(PROJECTED, "unknown", None, f"{_GONE}: `projector verify` tells what the views lack")
    where = _last_changed(stored) if stored.cursors else "; Redis could not be asked"
    return Step(PROJECTED, "yes", None, f"before its outbox row was trimmed{where}")


def _last_changed(stored: Stored) -> str:
    if stored.view_updated_at is None:
        return ""
    return f"; device:stats:{stored.device_id} last changed {stored.view_updated_at[:23]}Z"


def _projected_by(cursor: Cursor, row: Row, stored: Stored) -> Step:
    name = PROJECTED if cursor.projection == PROJECTION else cursor.projection
    said = f", as reported {format_time(cursor.at)[:19]}Z" if cursor.at else ""
    if cursor.epoch == UNFINISHED:
        return Step(name, "no", None, _REPLACED)
    if cursor.epoch is not None and cursor.epoch != row.epoch:
        return Step(
            name, "no", None, f"it holds another history of stream {row.stream}: a rebuild is due{said}"
        )
    if cursor.n < row.n:
        return Step(name, "no", None, f"it is at row {cursor.n}, {row.n - cursor.n} behind{said}")
    where = _last_changed(stored) if cursor.projection == PROJECTION else ""
    return Step(name, "yes", None, f"it is at row {cursor.n}{said}{where}")


def _repeats(until: datetime | None) -> Step:
    if until is None:
        return Step("repeats", "no", None, "beyond the dedup window: a repeat would be stored again")
    return Step(
        "repeats", "yes", None, f"recognised and only counted, until about {format_time(until)[:19]}Z"
    )


def _rejected(letter: Letter) -> Rejected:
    replayed = format_time(letter.replayed_at) if letter.replayed_at else None
    return Rejected(
        letter.id,
        format_time(letter.received_at),
        letter.device_id,
        letter.reason,
        letter.error,
        replayed,
        letter.certain,
    )
