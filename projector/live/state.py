"""What the page shows, as it goes over the wire. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

Standing = Literal["silent", "offline", "rejected", "ok", "unknown", "muted", "retired", "never heard"]


Beyond = dict[str, Literal["ok", "warn", "crit"]]
"""Metric → state, of those that are beyond a limit."""


class AtSite(msgspec.Struct, frozen=True):
    """What a gateway keeps on its own disk and has yet to store, as it said with what it stored last.

    Attributes:
        oldest_ms: when the first of it came; None when that is not known.
        drains_in_s: about; None when nobody can tell.
        noted_ms: when it said so.
    """

    messages: int
    oldest_ms: int | None
    drains_in_s: float | None
    noted_ms: int


class Stream(msgspec.Struct, frozen=True, omit_defaults=True):
    """One stream of events and how far behind it the views are.

    Attributes:
        per_s: events a second that reach the views; None at the first look.
        behind_rows: committed outbox rows that the views lack.
        behind_s: for how long they have lacked the oldest of these.
        lag_s: step → seconds that the newest event took to it; None for a step that was skipped.
        at_site: what its gateway has yet to store; None when it keeps nothing.
    """

    stream: int
    per_s: float | None
    behind_rows: int
    behind_s: float
    lag_s: dict[str, float | None] | None
    at_site: AtSite | None = None


class Rates(msgspec.Struct, frozen=True):
    """Events a second that reach the views, of all streams.

    Attributes:
        per_s: over a minute, or what there is of it; None at the first look.
        span_s: over how many seconds that is.
        series: one a look, about a second apart, oldest first, for as long as somebody has looked, up to
            sixty.
    """

    per_s: float | None
    span_s: float
    series: list[float]


class Region(msgspec.Struct, frozen=True):
    """One region.

    Attributes:
        devices: that the views know, without those that are retired.
        per_s: messages a second; None at the first look.
        share: of all regions' messages of the last seconds, 0 to 1.
        silent: devices of it that are silent.
    """

    region: str
    devices: int
    per_s: float | None
    share: float
    silent: int


class Row(msgspec.Struct, frozen=True):
    """One device in the list.

    Attributes:
        standing: what the watch says, unless messages were rejected a moment ago; those leave it silent,
            muted or retired.
        last_seen_ms: its newest reading, by its clock.
        usual_ms: how long it usually pauses; None when that is not known.
        clock_wrong: whether its clock is, as the watch says.
        clock_error_s: by how much it is ahead, negative behind; None when it is right, or that is not known.
        rejected: its dead letters among the last.
        reason: of the newest of these.
        values: its last readings of the metrics asked for; of one that has none of them a few others.
        heard_ms: when its last message came, by arrival; None when that is not known.
        until_ms: when its mute ends; None when it is not muted.
        care: who muted or retired it, and why; None when nobody did.
        offline_since_ms: since when it is offline because it said so; None when it is not.
        name: what people call it; None when nobody said.
        labels: what people have put on it.
        expected_ms: how often people say it should send; None when nobody did.
        blocked: whether nothing that it sends is let in.
    """

    id: str
    standing: Standing
    region: str | None
    tags: dict[str, str]
    last_seen_ms: int
    usual_ms: int | None
    clock_wrong: bool
    clock_error_s: int | None
    rejected: int
    reason: str | None
    values: dict[str, float | str]
    heard_ms: int | None = None
    until_ms: int | None = None
    care: str | None = None
    offline_since_ms: int | None = None
    name: str | None = None
    labels: dict[str, str] = {}
    expected_ms: int | None = None
    blocked: bool = False


class Spark(msgspec.Struct, frozen=True):
    """A device's last hour.

    Attributes:
        metric: whose.
        means: one a minute, oldest first, up to now; None for a minute without any.
    """

    metric: str
    means: list[float | None]


class Devices(msgspec.Struct, frozen=True):
    """The fleet, counted, and its first rows.

    Attributes:
        total: devices that the views know, without those that are retired.
        watched: how many of them are known so far; all of them a second or two after somebody came.
        silent: how many the watch calls so; None before it has begun.
        clocks_wrong: how many have a clock that is wrong.
        order: ids of the first rows, what needs attention first.
        unknown: how many the watch knows nothing of yet, or not at all for want of room.
        muted: how many are.
        retired: devices beside these that are out of service.
        offline: how many said so themselves; none of them is silent.
        never_heard: devices beside all of these that the registry names and that never sent.
    """

    total: int
    watched: int
    silent: int | None
    clocks_wrong: int
    order: list[str]
    unknown: int = 0
    muted: int = 0
    retired: int = 0
    offline: int = 0
    never_heard: int = 0


class Hot(msgspec.Struct, frozen=True):
    """What is beyond limits that people set.

    Attributes:
        devices: how many are; None as long as that is not known.
        crit: how many readings are beyond a critical one; likewise.
    """

    devices: int | None
    crit: int | None


class Letter(msgspec.Struct, frozen=True):
    """A dead letter without its bytes."""

    id: int
    at_ms: int
    reason: str
    device: str | None
    topic: str
    error: str
    replayed: bool


class ConstantKey(msgspec.Struct, frozen=True):
    """A device that names one key in all its conflicts: it never changes, so it is none.

    Attributes:
        key: as the dead letters write it, in quotes.
        topic: of the newest of these.
        letters: how many there are among those looked at.
    """

    device: str
    key: str
    topic: str
    letters: int


class Letters(msgspec.Struct, frozen=True):
    """The newest dead letters.

    Attributes:
        newest: a handful, newest first.
        minute: how many came within the minute before they were read.
        more: whether `minute` is only what was looked at, and there were more.
        reasons: reason → how many of those looked at.
        constant_keys: the devices with most letters of that kind, of those looked at.
    """

    newest: list[Letter]
    minute: int
    more: bool
    reasons: dict[str, int]
    constant_keys: list[ConstantKey]


class State(msgspec.Struct, frozen=True):
    """Everything at one moment.

    Attributes:
        at_ms: when it was looked at, epoch milliseconds.
        views_at_ms: when Redis last answered; None before it did.
        letters_at_ms: when PostgreSQL last answered; None before it did.
        problems: component → what keeps it from its work.
        rows: of `devices.order`.
        sparks: of those that were heard within the last hours.
        regions_total: regions that there are; `regions` has the busiest.
        regions_dropped: how many empty ones have made room for others.
        metrics: that the fleet has, the most common first; rows hold the first few.
        hot: None when no limits are set, or it is not known yet.
        beyond: device → metric → state, of the rows that are beyond a limit.
    """

    at_ms: int
    views_at_ms: int | None
    letters_at_ms: int | None
    problems: dict[str, str]
    rates: Rates
    streams: list[Stream]
    regions: list[Region]
    devices: Devices
    letters: Letters
    rows: dict[str, Row]
    sparks: dict[str, Spark]
    regions_total: int = 0
    regions_dropped: int = 0
    metrics: list[str] = []
    hot: Hot | None = None
    beyond: dict[str, Beyond] = {}


class Device(msgspec.Struct, frozen=True):
    """One device, for its own page.

    Attributes:
        row: None when nothing of it was ever stored, or it has expired.
        spark: None when it was not heard within the last hour.
        letters: its dead letters among the last, newest first.
        beyond: what it is beyond.
    """

    row: Row | None
    spark: Spark | None
    letters: list[Letter]
    beyond: Beyond = {}


class Message(msgspec.Struct, frozen=True):
    """A message as it is stored.

    Attributes:
        ts_ms: when it was measured, epoch milliseconds.
        received_ms: when it arrived.
        metrics: as JSON, cut off where it is very long.
        tags: the same; None without any.
    """

    ts_ms: int
    received_ms: int
    key: str
    region: str | None
    metrics: str
    tags: str | None


class Payload(msgspec.Struct, frozen=True):
    """The bytes of a dead letter as text.

    Attributes:
        size: how many bytes it has; `text` is the first few thousand.
    """

    id: int
    topic: str
    size: int
    text: str


class Site(msgspec.Struct, frozen=True):
    """What the page is told of the place it is at.

    Attributes:
        units: metric → unit.
        grafana: where it is; empty when nobody said.
        signed_in: the name of the token that who looks has signed in with; empty when none was needed.
    """

    units: dict[str, str]
    grafana: str
    signed_in: str = ""


class Window(msgspec.Struct, frozen=True):
    """Part of the device list, as a viewer scrolls and searches.

    Attributes:
        total: rows that match.
        rows: some of them.
        beyond: of these, as in `State`.
    """

    total: int
    rows: list[Row]
    sparks: dict[str, Spark]
    beyond: dict[str, Beyond] = {}
