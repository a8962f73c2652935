"""What a simulation ends with: the numbers, for a person or for a program."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from gateway.simulate.devices import Kind

if TYPE_CHECKING:
    from gateway.simulate.publisher import Tally


class Count(msgspec.Struct, frozen=True):
    """Messages of one kind, see `Tally`."""

    sent: int
    acknowledged: int


class Summary(msgspec.Struct, frozen=True):
    """What was sent and what the broker acknowledged.

    Attributes:
        run: what the run's message keys start with.
        seconds: from the first message to the last acknowledgement.
        rate_asked: messages a second, as configured.
        rate_reached: acknowledged messages a second.
        kinds: by kind of message (`good`, `duplicate`, `garbage`, `late`).
        readings: readings in the acknowledged messages.
        repeated: messages sent again after a lost connection.
        lost: QoS 0 messages given up with a lost connection.
        behind: messages that fell due and were not sent.
        reconnects: connections beyond the first of each client.
        dialects: of how many the examples were sent; then `devices` are examples, and there are no regions.
        complete: whether every message made was acknowledged, or given up as QoS 0 allows.
    """

    run: str
    devices: int
    regions: int
    connections: int
    qos: int
    seconds: float
    rate_asked: float
    rate_reached: float
    sent: int
    acknowledged: int
    kinds: dict[Kind, Count]
    readings: int
    repeated: int
    lost: int
    behind: int
    reconnects: int
    complete: bool
    dialects: int = 0


def counts(tally: Tally) -> dict[Kind, Count]:
    """The tally's messages by kind, every kind present."""
    return {kind: Count(tally.sent[kind], tally.acknowledged[kind]) for kind in Kind}


def encode(summary: Summary) -> str:
    """The summary as one line of JSON."""
    return msgspec.json.encode(summary).decode()


def render(summary: Summary) -> Group:
    """The summary as a table with notes under it."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(f"run {summary.run}")
    table.add_column("sent", justify="right")
    table.add_column("acknowledged", justify="right")
    for kind, count in summary.kinds.items():
        table.add_row(kind.value, f"{count.sent:,}", f"{count.acknowledged:,}")
    table.add_section()
    table.add_row("all", f"{summary.sent:,}", f"{summary.acknowledged:,}")
    fleet = f"{summary.devices:,} devices in {summary.regions} regions"
    if summary.dialects:
        fleet = f"{summary.devices:,} examples of {summary.dialects} dialects"
    rates = f"{summary.rate_reached:,.0f} messages/s, asked for {summary.rate_asked:,g}"
    notes = [
        f"{fleet} over {summary.connections} connections, QoS {summary.qos}",
        f"{rates}; {summary.readings:,} readings in {summary.seconds:.1f} s",
    ]
    for number, meaning in (
        (summary.behind, "messages behind the rate asked for, never sent"),
        (summary.repeated, f"messages sent again after {summary.reconnects} reconnects"),
        (summary.lost, "messages of QoS 0 lost with their connection"),
    ):
        if number:
            notes.append(f"{number:,} {meaning}")
    return Group(table, *notes)
