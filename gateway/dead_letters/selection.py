"""Which dead letters a command is about: by reason, device, topic and time. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from runtime.settings import duration_s

_DURATION = re.compile(r"[1-9][0-9]{0,8}(ms|s|m|h|d)")


class Selection(NamedTuple):
    """What a dead letter must be to be selected; () and, unless it says otherwise, None select everything.

    The fields stand in the order in which the queries of `sql/dead_letters.sql` take them.

    Attributes:
        reasons: any of these.
        devices: any of these; None for whoever is active in the registry.
        topic: a regular expression of PostgreSQL, from `topic_pattern`.
        since: received at this time or later.
        until: received before this time.
        replayed: whether those that were replayed already are selected too.
        gateways: told to any of these, by their client ids, or before that was noted.
    """

    reasons: tuple[str, ...] = ()
    devices: tuple[str, ...] | None = ()
    topic: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    replayed: bool = False
    gateways: tuple[str, ...] = ()


def topic_pattern(topic_filter: str) -> str:
    """Translate an MQTT topic filter (MQTT5 §4.7) to a regular expression that PostgreSQL understands.

    Raises:
        ValueError: `+` or `#` stands where it may not.
    """
    levels = topic_filter.split("/")
    wild = {"+": "[^/]*", "#": ".*"}
    if "#" in levels[:-1] or any(level not in wild and ("+" in level or "#" in level) for level in levels):
        raise ValueError(f"{topic_filter!r}: + stands for one whole level, # for all that follow")
    body = "/".join(wild.get(level) or re.escape(level) for level in levels)
    return f"^{body.removesuffix('/.*')}(/.*)?$" if body.endswith("/.*") else f"^{body}$"


def parse_when(text: str, now: datetime) -> datetime:
    """Read a time: ISO 8601, UTC unless it says otherwise, or how long ago, such as `1h`.

    Raises:
        ValueError: it is neither, or outside the calendar.
    """
    try:
        if _DURATION.fullmatch(text):
            return now - timedelta(seconds=duration_s(text))
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f'{text!r} is neither a time such as "2026-11-23T09:00" nor how long ago, such as "1h"'
        ) from None
