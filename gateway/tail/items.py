"""What a tail shows; also the objects that `--json` writes, one a line, told apart by `kind`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from contract.events import Scalar


class Measurement(msgspec.Struct, frozen=True, tag_field="kind", tag="measurement"):
    """A stored measurement.

    Attributes:
        ts: by the device's clock, like all times here ISO 8601 UTC.
        received_at: when the gateway took it from the broker.
        late_s: from `ts` to `received_at`, in seconds; negative when the device's clock is ahead.
        here_s: from `received_at` to this program.
        key: what `gateway trace` takes.
        stream: with `n`, the outbox row that holds it.
    """

    device_id: str
    region: str | None
    ts: str
    received_at: str
    late_s: float
    here_s: float
    metrics: dict[str, Scalar]
    key: str
    stream: int
    n: int


class DeadLetter(msgspec.Struct, frozen=True, tag_field="kind", tag="dead_letter"):
    """A rejected message; `gateway dead-letters show` has its bytes.

    Attributes:
        size: of the payload, in bytes.
    """

    id: int
    received_at: str
    device_id: str | None
    reason: str
    topic: str
    size: int
    error: str


class Missed(msgspec.Struct, frozen=True, tag_field="kind", tag="missed"):
    """Outbox rows from `first` to `last` that did not come by the topic; they are stored all the same."""

    stream: int
    first: int
    last: int


class Dropped(msgspec.Struct, frozen=True, tag_field="kind", tag="dropped"):
    """So many of the above were left out, because whoever reads the output was too slow."""

    lines: int


Item = Measurement | DeadLetter | Missed | Dropped
