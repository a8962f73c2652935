"""What all gateways of a site share: settings, the dedup window, and the order of ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway import site as sites
from gateway.check.report import Finding
from runtime.postgres import load_queries
from runtime.settings import duration_s

if TYPE_CHECKING:
    import asyncpg

    from runtime.settings import Settings

_VERSIONS_SINCE_MAJOR = 15
_LARGE_BYTES = 10 * 10**9
_NAMED = 10

queries = load_queries("gateway")


async def check_site(pool: asyncpg.Pool[asyncpg.Record], settings: Settings, major: int) -> list[Finding]:
    """Look at a migrated database, on a server of this major version."""
    in_force = await pool.fetch(queries.read_settings)
    gateways = await pool.fetchval(queries.check_gateways)
    sorting = await pool.fetchrow(queries.check_sorting)
    assert sorting is not None
    version = None
    if major >= _VERSIONS_SINCE_MAJOR:
        version = await pool.fetchval(queries.check_sorting_version)
    size = await pool.fetchrow(queries.check_size)
    assert size is not None
    abandoned = [row["client_id"] for row in await pool.fetch(queries.abandoned_sessions)]
    return [
        _settings(in_force, settings),
        _window(gateways, settings),
        _sorting(sorting, version),
        _disk(size, settings.gateway.retention),
        *_abandoned(abandoned),
    ]


def _disk(size: asyncpg.Record, retention: str) -> Finding:
    since = f", measurements since {size['since']:%F}" if size["since"] else ""
    found = f"the database takes {size['bytes'] / 10**9:.1f} GB{since}"
    if retention:
        return Finding("disk", "ok", f"{found}, kept for {retention}")
    advice = 'set gateway.retention, such as "90d", or watch the disk'
    large = size["bytes"] > _LARGE_BYTES
    return Finding("disk", "warn" if large else "ok", f"{found}, kept for ever", advice if large else "")


def _abandoned(client_ids: list[str]) -> list[Finding]:
    found = "once subscribed, and no gateway has this client id any more: the broker may still queue for it"
    return [
        Finding("sessions", "warn", f"{client_id} {found}", f"gateway retire {client_id}")
        for client_id in client_ids[:_NAMED]
    ]


def _settings(in_force: list[asyncpg.Record], settings: Settings) -> Finding:
    configured = sites.shared(settings.gateway)
    others = [row for row in in_force if configured.get(row["name"], row["value"]) != row["value"]]
    if not others:
        return Finding("site settings", "ok", "what is configured here is in force for all gateways")
    told = "; ".join(
        f"gateway.{row['name']} is {row['value']!r} since {row['set_at']:%F %T}, set by {row['set_by']}, "
        f"and {configured[row['name']]!r} here"
        for row in others
    )
    advice = "configure all gateways alike: the one that starts last sets it for all"
    return Finding("site settings", "warn", told, advice)


def _window(gateways: int, settings: Settings) -> Finding:
    expiry, window = settings.broker.session_expiry, settings.gateway.dedup_window
    if duration_s(expiry) <= duration_s(window):
        return Finding("dedup window", "ok", f"{window}, and the broker sends nothing older than {expiry}")
    if gateways <= 1:
        return Finding(
            "dedup window", "ok", f"{window} while the gateway runs: it does not turn while nobody is there"
        )
    return Finding(
        "dedup window",
        "warn",
        f"{window}, while {gateways} gateways share it: one that is away for longer, after it was killed "
        f"between COMMIT and acknowledgement, stores again what the broker sends again within {expiry}",
        "set gateway.dedup_window to what a gateway may be away for, or broker.session_expiry to the window",
    )


def _sorting(row: asyncpg.Record, version: str | None) -> Finding:
    if row["by_bytes"] or not row["by_locale"]:
        return Finding("order of ids", "ok", "by their bytes: no upgrade of the C library changes it")
    if version is not None and row["version"] is not None and version != row["version"]:
        return Finding(
            "order of ids",
            "fail",
            f"the locale {row['locale']} was {row['version']} and is {version} now: indexes may be wrong",
            "stop the gateways; REINDEX DATABASE …; ALTER DATABASE … REFRESH COLLATION VERSION; start them",
        )
    return Finding(
        "order of ids",
        "warn",
        f"by the locale {row['locale']}, whose next version may change {', '.join(row['by_locale'])}",
        "REINDEX after each upgrade of the C library; or once, with the gateways stopped, "
        'ALTER TABLE … ALTER COLUMN … TYPE text COLLATE "C"',
    )
