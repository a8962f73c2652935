"""What each role may do in PostgreSQL, and nothing else: the one list that is granted, tried, and tested.

A role for each part of the house. The owner has made the schema, migrates it, and is nobody's at run time.
What only an owner can do and a gateway has to (partitions over time are made and dropped, and triggers set
on them) is done by functions that run with the owner's rights and touch no other tables; who may call one
stands here like any right. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["TABLE", "DAYS", "SEQUENCE", "FUNCTION", "SCHEMA", "DATABASE"]


class Right(NamedTuple):
    """One thing that a role may do.

    Attributes:
        kind: of the object. `DAYS` are the partitions of a table, each read by itself. The schema is that of
            the tables, the database the one connected to, and neither has a name here.
        name: of the object; a function's with the types of its arguments.
        verb: as GRANT has it, such as `SELECT`.
        columns: of a table, when it is not all of them.
    """

    kind: Kind
    name: str
    verb: str
    columns: tuple[str, ...] = ()


def _tables(rights: Mapping[str, str]) -> tuple[Right, ...]:
    return tuple(Right("TABLE", name, verb) for name, verbs in rights.items() for verb in verbs.split())


def _functions(*signatures: str) -> tuple[Right, ...]:
    return tuple(Right("FUNCTION", signature, "EXECUTE") for signature in signatures)


_CONNECTS: Final = (Right("DATABASE", "", "CONNECT"), Right("SCHEMA", "", "USAGE"))

OWNERS_FUNCTIONS: Final = _functions(
    "attach_partition(text, text, timestamptz, timestamptz)",
    "shut_default_partition(text, text, timestamptz[], timestamptz[])",
    "validate_default_partition(text)",
    "open_default_partition(text)",
    "begin_day(text)",
    "let_day_be(text)",
    "retire_blocks(text, bigint, bigint)",
    "retire_strays(timestamptz, timestamptz, integer)",
    "drop_empty_partition(text)",
    "drop_leaving_partition(text)",
    "drop_history_partition(text, text, timestamptz)",
    "drop_open_minutes(text)",
)
"""Those that run with the owner's rights."""

OWNER: Final = (Right("DATABASE", "", "CONNECT"), Right("SCHEMA", "", "USAGE"), Right("SCHEMA", "", "CREATE"))
"""Of whoever runs `gateway migrate`; the tables are then its own."""

GATEWAY: Final = (
    *_CONNECTS,
    *_tables(
        {
            "schema_migrations": "SELECT",
            "stream_leases": "SELECT INSERT UPDATE",
            "streams": "SELECT",
            "spools": "SELECT INSERT UPDATE DELETE",
            "stream_keys": "SELECT INSERT UPDATE",
            "outbox": "SELECT INSERT DELETE",
            "measurements": "SELECT INSERT",
            "measurements_default": "SELECT",
            "message_keys_0": "SELECT INSERT TRUNCATE",
            "message_keys_1": "SELECT INSERT TRUNCATE",
            "dedup": "SELECT UPDATE",
            "devices": "SELECT INSERT UPDATE",
            "device_presence": "SELECT INSERT UPDATE",
            "dead_letters": "SELECT INSERT UPDATE DELETE",
            "dead_letter_totals": "SELECT UPDATE",
            "dead_letter_changes": "SELECT INSERT UPDATE DELETE",
            "dead_letter_shares": "SELECT INSERT UPDATE DELETE",
            "sparkplug_births": "SELECT INSERT UPDATE DELETE",
            "sparkplug_held": "SELECT INSERT UPDATE DELETE",
            "site_settings": "SELECT INSERT UPDATE",
            "subscriptions": "SELECT INSERT UPDATE DELETE",
            "projections": "SELECT",
            "retired_statistics": "SELECT INSERT UPDATE",
            "settled_days": "SELECT INSERT UPDATE DELETE",
            "settled_statistics": "SELECT INSERT UPDATE DELETE",
            "late_measurements": "SELECT DELETE",
            "days_added_up": "SELECT",
            "rollups": "SELECT UPDATE",
            "open_minutes_default": "SELECT DELETE",
            "packed_minutes_default": "SELECT DELETE",
            "measurements_1h_default": "SELECT DELETE",
            "regions_1m_default": "SELECT DELETE",
            "regions_1h_default": "SELECT DELETE",
        }
    ),
    Right("DAYS", "measurements", "SELECT"),
    *OWNERS_FUNCTIONS,
)

PROJECTOR: Final = (
    *_CONNECTS,
    Right("DATABASE", "", "TEMPORARY"),
    *_tables(
        {
            "streams": "SELECT",
            "spools": "SELECT",
            "stream_keys": "SELECT",
            "outbox": "SELECT",
            "projections": "SELECT INSERT UPDATE DELETE",
            "measurements": "SELECT",
            "measurements_default": "SELECT",
            "retired_statistics": "SELECT",
            "days_added_up": "SELECT",
            "settled_statistics": "SELECT",
            "late_measurements": "SELECT",
            "devices": "SELECT",
            "dead_letters": "SELECT",
            "device_care": "SELECT INSERT UPDATE",
            "device_presence": "SELECT",
            "rollups": "SELECT UPDATE",
            "open_hours": "SELECT",
            "open_minutes": "SELECT INSERT UPDATE DELETE",
            "open_minutes_default": "SELECT",
            "packed_minutes": "SELECT INSERT UPDATE DELETE",
            "packed_minutes_default": "SELECT",
            "unpacked_minutes": "SELECT",
            "late_minutes": "SELECT INSERT DELETE",
            "measurements_1m": "SELECT",
            "measurements_1h": "SELECT INSERT UPDATE DELETE",
            "measurements_1h_default": "SELECT",
            "regions_1m": "SELECT INSERT UPDATE DELETE",
            "regions_1m_default": "SELECT",
            "regions_1h": "SELECT INSERT UPDATE DELETE",
            "regions_1h_default": "SELECT",
        }
    ),
    Right("SEQUENCE", "device_care_versions", "USAGE"),
    Right("DAYS", "measurements", "SELECT"),
)

GRAFANA: Final = (
    *_CONNECTS,
    *_tables(
        dict.fromkeys(
            ("measurements", "measurements_1m", "measurements_1h", "regions_1m", "regions_1h", "devices"),
            "SELECT",
        )
    ),
    # Not the payload: what was rejected may be anything.
    Right(
        "TABLE",
        "dead_letters",
        "SELECT",
        ("id", "received_at", "topic", "device_id", "reason", "error", "replayed_at"),
    ),
)

ROLES: Final[Mapping[str, tuple[Right, ...]]] = {
    "owner": OWNER,
    "gateway": GATEWAY,
    "projector": PROJECTOR,
    "grafana": GRAFANA,
}
