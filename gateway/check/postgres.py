"""Trying PostgreSQL: reachable, new enough, migrated, ours to write, and keeping what it acknowledges."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import asyncpg

from contract.rights import GATEWAY
from gateway.check.report import Finding
from gateway.check.site import check_site
from gateway.migrate import migrations
from runtime.errors import Retry
from runtime.logs import one_line
from runtime.postgres import ERRORS, address, ending, load_queries, open_pool
from runtime.rights import missing_rights
from runtime.rights import queries as rights_queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from runtime.settings import Gateway, Settings

_OLDEST_MAJOR = 14

queries = load_queries("gateway")


async def check_postgres(settings: Settings) -> AsyncIterator[Finding]:
    """Try the database.

    Raises:
        ConfigurationError: the URL is malformed.
    """
    dsn = settings.postgres.dsn
    try:
        pool = await open_pool(dsn, name="gateway-check", max_size=1)
    except Retry as error:
        yield Finding(
            "postgres",
            "fail",
            error.reason,
            "check postgres.dsn, and that the server runs, listens there and lets this user in",
        )
        return
    async with pool:
        try:
            async for finding in _examine(pool, settings):
                yield finding
        except ERRORS as error:
            yield Finding("postgres", "fail", one_line(error), "look into the server's log")


async def _examine(pool: asyncpg.Pool[asyncpg.Record], settings: Settings) -> AsyncIterator[Finding]:
    gateway = settings.gateway
    server = await pool.fetchrow(queries.check_server)
    assert server is not None
    yield _server(server, settings.postgres.dsn)
    for finding in _durability(server):
        yield finding
    sorting = await pool.fetchrow(queries.check_sorting)
    assert sorting is not None
    if sorting["encoding"] != "UTF8":
        yield Finding(
            "encoding",
            "fail",
            f"{sorting['encoding']}, which cannot hold all that devices send",
            "dump it, make a new one with createdb --encoding UTF8 --template template0, and restore there",
        )
        return
    lacking = await missing_rights(pool, GATEWAY)
    version = await _schema_version(pool)
    if version is None and lacking:
        yield _rights([], lacking)
        return
    schema = _schema(version, gateway, creates=server["creates"])
    yield schema
    if schema.state != "ok":
        return
    tables = list({right.name: None for right in GATEWAY if right.kind == "TABLE"})
    absent = [row["name"] for row in await pool.fetch(rights_queries.absent_tables, tables)]
    rights = _rights(absent, lacking)
    yield rights
    for finding in await _given_away(pool):
        yield finding
    if rights.state == "ok":
        for finding in await check_site(pool, settings, server["major"]):
            yield finding
        registry = await pool.fetchrow(queries.check_registry)
        assert registry is not None
        for finding in _unknown_devices(registry, holds=gateway.unknown_devices == "hold"):
            yield finding
        keys = await pool.fetchrow(queries.check_keys)
        assert keys is not None
        yield _keys(keys)
        for row in await pool.fetch(queries.check_constant_keys):
            yield Finding(
                "constant key",
                "warn",
                f"{row['letters']} conflicts of device {row['device_id']}, all with key {row['key']}"
                + (f" or {row['keys'] - 1} more" if row["keys"] > 1 else ""),
                f'if it never changes it is none: put key = "" on the route of {row["topic"]}, then '
                f"gateway dead-letters replay --reason conflict --device {shlex.quote(row['device_id'])}",
            )


def _server(server: asyncpg.Record, dsn: str) -> Finding:
    found = (
        f"{address(dsn)}: version {server['version']}, "
        f"database {server['database']}, user {server['username']}"
    )
    if server["major"] < _OLDEST_MAJOR:
        return Finding("postgres", "fail", found, f"version {_OLDEST_MAJOR} or later is needed")
    if server["standby"]:
        return Finding("postgres", "fail", f"{found}, a standby", "point postgres.dsn at the primary server")
    return Finding("postgres", "ok", found)


def _durability(server: asyncpg.Record) -> list[Finding]:
    unsafe = [
        (setting, what)
        for setting, what in (
            ("fsync", "a power cut can destroy the database"),
            ("full_page_writes", "a power cut can destroy the database"),
            ("synchronous_commit", "a crash loses what devices were told is stored"),
        )
        if server[setting] == "off"
    ]
    if not unsafe:
        commit = server["synchronous_commit"]
        return [Finding("durability", "ok", f"fsync on, synchronous_commit {commit}: acked means stored")]
    return [
        Finding("durability", "warn", f"{setting} is off: {what}", f"set {setting} = on in postgresql.conf")
        for setting, what in unsafe
    ]


async def _schema_version(pool: asyncpg.Pool[asyncpg.Record]) -> int | None:
    """The newest migration applied; None when there is none, or we may not know."""
    try:
        applied = await pool.fetch(queries.applied_versions)
    except (asyncpg.UndefinedTableError, asyncpg.InsufficientPrivilegeError):
        return None
    return max((row["version"] for row in applied), default=None)


def _schema(version: int | None, gateway: Gateway, *, creates: bool) -> Finding:
    newest = migrations()[-1]
    if version == newest.version:
        return Finding("schema", "ok", f"version {version}, the newest")
    if version is not None and version > newest.version:
        return Finding(
            "schema",
            "fail",
            f"version {version}, newer than this program's {newest.version}",
            "run a gateway at least as new as the one that migrated the database",
        )
    found = "not there yet" if version is None else f"version {version}, this program needs {newest.version}"
    if not creates:
        found = f"{found}, and this user may not create tables"
        return Finding(
            "schema", "fail", found, "GRANT CREATE ON SCHEMA … TO this user, or migrate as another"
        )
    if gateway.migrate:
        return Finding(
            "schema", "warn", found, "`gateway run` will migrate it, or do it now: gateway migrate"
        )
    return Finding("schema", "fail", found, "run `gateway migrate`; gateway.migrate is off")


def _rights(absent: list[str], lacking: list[str]) -> Finding:
    if absent:
        return Finding(
            "tables", "fail", f"missing: {', '.join(absent)}", "somebody dropped them; restore the database"
        )
    if lacking:
        found = f"this role lacks rights on {len(lacking)} objects; the owner of the tables gives them"
        return Finding("tables", "fail", found, "; ".join(lacking))
    return Finding("tables", "ok", "all are there, with all rights that a gateway needs")


async def _given_away(pool: asyncpg.Pool[asyncpg.Record]) -> list[Finding]:
    """What others than the house's roles may do and should not."""
    strangers = await pool.fetch(rights_queries.strangers_with_keys)
    functions = _functions(await pool.fetch(rights_queries.owners_functions))
    lockers = await pool.fetch(rights_queries.strangers_with_locks)
    return [
        *([_strangers([row[0] for row in strangers])] if strangers else []),
        *([_lockers(lockers, await pool.fetchval(rights_queries.lock_functions))] if lockers else []),
        *functions,
    ]


def _lockers(rows: list[asyncpg.Record], functions: str) -> Finding:
    """Who can keep gateways from starting, and chores from being done, or does."""
    held = [row for row in rows if row["pid"]]
    if held:
        ends = " ".join(ending(row["pid"]) for row in held)
        told = ", ".join(row["role"] for row in held)
        found = f"{told} holds locks of gateways and projectors, whose chores are not done meanwhile"
        return Finding("locks", "fail", found, f"as a superuser: {ends} then what is said of locks here next")
    told = ", ".join(row["role"] for row in rows)
    return Finding(
        "locks",
        "warn",
        f"{told} may hold the locks of gateways and projectors, and keep them from starting and from chores",
        "`gateway init` writes a roles.sql that takes it from everybody else; or as a superuser, in this "
        f"database: GRANT EXECUTE ON FUNCTION {functions} TO the roles of gateway, projector and owner; then "
        "REVOKE the same FROM PUBLIC",
    )


def _strangers(roles: list[str]) -> Finding:
    return Finding(
        "signatures",
        "warn",
        f"{', '.join(roles)} may read what signs rows on the internal topic, and could make some up",
        f"REVOKE ALL ON stream_keys FROM {', '.join(roles)}",
    )


def _functions(rows: list[asyncpg.Record]) -> list[Finding]:
    """What a restore may have made of the functions that run with the owner's rights."""
    findings = []
    if opened := [row["name"] for row in rows if row["is_open"]]:
        findings.append(
            Finding(
                "functions",
                "fail",
                f"anybody who may connect may drop days: PUBLIC may call {', '.join(opened)}",
                f"as the owner: REVOKE EXECUTE ON FUNCTION {', '.join(opened)} FROM PUBLIC; then what "
                "`gateway rights gateway` prints. pg_restore -x leaves out who may do what",
            )
        )
    if astray := [row for row in rows if row["is_astray"]]:
        findings.append(
            Finding(
                "functions",
                "fail",
                "they stand in another schema than they look for tables in: "
                f"{', '.join(row['name'] for row in astray)}",
                "as the owner: "
                + "; ".join(
                    f"ALTER FUNCTION {row['name']} SET search_path = {row['schema']}, pg_temp"
                    for row in astray
                ),
            )
        )
    return findings


def _unknown_devices(row: asyncpg.Record, *, holds: bool) -> list[Finding]:
    active, held = row["active"], row["held"]
    found = f"{active:,} may send; {held:,} messages of others are held"
    if not holds and not held:
        return []
    if not holds:
        do = "gateway dead-letters replay --reason unknown_device stores them"
    elif not active:
        do = 'every message will be held: gateway devices import FILE first, or unknown_devices = "accept"'
    elif held:
        do = "gateway devices list --state unknown shows whose; gateway devices set ID stores those of one"
    else:
        return [Finding("unknown devices", "ok", f"held; {active:,} may send")]
    return [Finding("unknown devices", "warn", found, do)]


def _keys(row: asyncpg.Record) -> Finding:
    measurements, by_content, unkeyed = row["measurements"], row["by_content"], row["unkeyed"]
    if not measurements:
        return Finding("message keys", "ok", "no measurement of the last hour to judge by")
    if unkeyed:
        return Finding(
            "message keys",
            "warn",
            f"{unkeyed} of the last hour's {measurements} came without key and time: stored at each delivery",
            'let the devices send "id", or at least "ts"',
        )
    if by_content:
        return Finding(
            "message keys",
            "ok",
            f"{by_content} of the last hour's {measurements} came without: made of device time and content",
        )
    return Finding("message keys", "ok", f"all {measurements} measurements looked at have one")
