"""Settings that all gateways of a site go by, because they decide about tables that all of them share.

They stand in the configuration of each and are in force from the table `site_settings`. A gateway puts its
own there when it starts: the last start wins, and whoever changes what another one set says so, with what it
was and whose. Every gateway reads the table at each turn of a chore, so one change reaches all.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from runtime.postgres import load_queries
from runtime.settings import duration_s

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runtime.postgres import Connection
    from runtime.settings import Gateway

log = structlog.get_logger()
queries = load_queries("gateway")

SHARED: Final = (
    "dedup_window",
    "outbox_retention",
    "retention",
    "minutes_retention",
    "hours_retention",
    "dead_letters_max",
    "dead_letters_max_bytes",
)


class Site(NamedTuple):
    """What is in force.

    Attributes:
        retention: of measurements; None keeps them for ever.
        history: resolution → how long it is kept; those that are not named are kept for ever.
    """

    dedup_window: timedelta
    outbox_retention: timedelta
    retention: timedelta | None
    history: dict[str, timedelta]
    dead_letters_max: int
    dead_letters_max_bytes: int


def shared(gateway: Gateway) -> dict[str, str]:
    """What a gateway's configuration says of them, as it stands in the table."""
    return {name: str(getattr(gateway, name)) for name in SHARED}


def configured(gateway: Gateway) -> Site:
    """What would be in force with this gateway's configuration."""
    return _site_of(shared(gateway))


async def declare(connection: Connection, gateway: Gateway, who: str) -> None:
    """Put a gateway's settings in force for the site."""
    values = shared(gateway)
    for row in await connection.fetch(queries.declare_settings, list(values), list(values.values()), who):
        log.warning(
            "site_setting_changed",
            setting=f"gateway.{row['name']}",
            was=row["was"],
            now=row["now"],
            set_by=row["set_by"],
            set_at=f"{row['set_at']:%FT%TZ}",
        )


async def read(connection: Connection, gateway: Gateway) -> Site:
    """What is in force; what nobody has set is as configured here."""
    found = {row["name"]: row["value"] for row in await connection.fetch(queries.read_settings)}
    return _site_of({**shared(gateway), **{name: found[name] for name in SHARED if name in found}})


def _site_of(values: Mapping[str, str]) -> Site:
    ages = {
        name: timedelta(seconds=duration_s(values[name]))
        for name in ("dedup_window", "outbox_retention", "retention", "minutes_retention", "hours_retention")
        if values[name]
    }
    history = (("1m", "minutes_retention"), ("1h", "hours_retention"))
    return Site(
        ages["dedup_window"],
        ages["outbox_retention"],
        ages.get("retention"),
        {rollup: ages[name] for rollup, name in history if name in ages},
        int(values["dead_letters_max"]),
        int(values["dead_letters_max_bytes"]),
    )
