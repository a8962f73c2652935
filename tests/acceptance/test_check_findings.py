from __future__ import annotations

import json
import re
import shutil
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import asyncpg
import msgspec
import pytest
from redis.asyncio import Redis as RedisClient

from deploy.local.servers import Mosquitto
from gateway.check import Finding, Report, check, encode, render
from runtime.errors import ConfigurationError
from runtime.settings import Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from deploy.local.services import LocalServices
    from runtime.settings import Settings

pytestmark = pytest.mark.usefixtures("durable")

Broker = TypeVar("Broker", bound=Mosquitto)


def with_key(settings: Settings, section: str, **keys: object) -> Settings:
    """The settings with keys of one section replaced."""
    changed = msgspec.structs.replace(getattr(settings, section), **keys)
    return msgspec.structs.replace(settings, **{section: changed})


async def found(settings: Settings) -> dict[str, Finding]:
    """What a check finds, by component."""
    return {finding.component: finding for finding in (await check(settings)).findings}


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A way to put the test's database into a state."""
    opened = await asyncpg.connect(database)
    yield opened
    await opened.close()


@asynccontextmanager
async def started(server: Broker) -> AsyncIterator[Broker]:
    """A broker of its own, for a while."""
    await server.start()
    yield server
    await server.release()
    shutil.rmtree(server.folder)


class GuardedMosquitto(Mosquitto):
    """A mosquitto that lets anybody in and nobody subscribe, which its ACL files cannot do, or publish."""

    name = "mosquitto-guarded"
    plugin: ClassVar[str] = "mosquitto_dynamic_security.so"

    def prepare(self) -> None:
        """Add the rights."""
        super().prepare()
        [plugin, *_] = Path("/usr/lib").rglob(self.plugin)
        rights = {
            "publishClientSend": False,
            "publishClientReceive": True,
            "subscribe": False,
            "unsubscribe": True,
        }
        file = self.place.folder / "rights.json"
        file.write_text(json.dumps({"defaultACLAccess": rights}), encoding="utf-8")
        with self._config.open("a", encoding="utf-8") as config:
            config.write(f"\nplugin {plugin}\nplugin_opt_config_file {file}\n")


@pytest.fixture
async def guarded(services: LocalServices) -> AsyncIterator[GuardedMosquitto]:
    """Such a broker, running."""
    async with started(GuardedMosquitto(services.mosquitto.binary, services.place)) as server:
        yield server


async def test_messages_without_key_and_time_are_told(
    settings: Settings, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """Messages with neither key nor time are stored at each delivery, and the check says so."""
    rows = [("k1",), ("auto:2026:ff",), ("uuid:1",), ("uuid:2",)]
    insert = (
        "INSERT INTO measurements (device_id, ts, received_at, message_key, metrics)"
        " VALUES ('d', now(), now(), $1, '{}')"
    )
    await connection.executemany(insert, rows[:2])
    finding = (await found(settings))["message keys"]
    assert (finding.state, finding.found.split(":")[0]) == ("ok", "1 of the last hour's 2 came without")
    await connection.executemany(insert, rows[2:])
    finding = (await found(settings))["message keys"]
    assert finding.state == "warn"
    assert finding.found.startswith(
        "2 of the last hour's 4 came without key and time: stored at each delivery"
    )
    assert '"id"' in finding.advice


async def test_missing_rights_are_named_with_their_grant(
    settings: Settings, connection: asyncpg.Connection[asyncpg.Record], unique: str
) -> None:
    """A user without the rights is told which, on which table, and how to give them."""
    await connection.execute(f"CREATE ROLE {unique} LOGIN")
    await connection.execute(f"GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO {unique}")
    dsn = re.sub(r"//[^@]*@", f"//{unique}@", settings.postgres.dsn)
    finding = (await found(with_key(settings, "postgres", dsn=dsn)))["tables"]
    assert finding.state == "fail"
    assert "the owner of the tables gives them" in finding.found
    assert f"GRANT UPDATE ON stream_leases TO {unique}; GRANT UPDATE, DELETE ON spools TO" in finding.advice
    assert f"; GRANT UPDATE ON stream_keys TO {unique};" in finding.advice
    assert f"GRANT EXECUTE ON FUNCTION begin_day(text) TO {unique}" in finding.advice
    await connection.execute(f"DROP OWNED BY {unique}; DROP ROLE {unique}")


async def test_a_schema_of_another_version(
    settings: Settings, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """An older schema is migrated by `gateway run` unless told not to; a newer one needs a newer program."""
    await connection.execute("INSERT INTO schema_migrations VALUES (9999, 'future')")
    finding = (await found(settings))["schema"]
    assert (finding.state, finding.found.split(",")[0]) == ("fail", "version 9999")
    await connection.execute("UPDATE schema_migrations SET version = -version")
    assert (await found(settings))["schema"].state == "warn"
    finding = (await found(with_key(settings, "gateway", migrate=False)))["schema"]
    assert (finding.state, "gateway migrate" in finding.advice) == ("fail", True)


async def test_a_dropped_table_is_told(
    settings: Settings, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """A table that somebody dropped is named."""
    await connection.execute("DROP TABLE dead_letters")
    finding = (await found(settings))["tables"]
    assert (finding.state, finding.found) == ("fail", "missing: dead_letters")


async def test_commits_that_do_not_last_are_told(
    settings: Settings, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """Without synchronous commits acked does not mean stored, and the check says so."""
    name = settings.postgres.dsn.rpartition("/")[2]
    await connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    finding = (await found(settings))["durability"]
    assert finding.state == "warn"
    assert finding.found == "synchronous_commit is off: a crash loses what devices were told is stored"


async def test_a_redis_that_forgets_is_told(settings: Settings) -> None:
    """Eviction is refused, a missing append-only file is a warning; each with its setting."""
    async with RedisClient.from_url(settings.redis.url) as client:
        await client.config_set("maxmemory-policy", "allkeys-lru")
        await client.config_set("appendonly", "no")
        findings = await found(settings)
        await client.config_set("maxmemory-policy", "noeviction")
        await client.config_set("appendonly", "yes")
        assert await client.keys("*") == []
    assert (findings["redis"].state, findings["redis writes"].state) == ("ok", "ok")
    assert (findings["redis eviction"].state, findings["redis eviction"].advice) == (
        "fail",
        "set maxmemory-policy noeviction",
    )
    assert (findings["redis persistence"].state, findings["redis persistence"].advice) == (
        "warn",
        "set appendonly yes",
    )


@pytest.mark.parametrize(
    ("rights", "component", "said"),
    [
        (("+@all", "-set"), "redis writes", "set"),
        (("+@all", "-eval"), "redis writes", "eval"),
        (("+@all", "-info"), "redis", "info"),
    ],
)
async def test_a_redis_user_without_rights(
    settings: Settings, unique: str, rights: tuple[str, ...], component: str, said: str
) -> None:
    """What the user may not do is told, with the key that names it."""
    async with RedisClient.from_url(settings.redis.url) as client:
        await client.execute_command("ACL", "SETUSER", unique, "on", ">hunter2", "~*", *rights)  # type: ignore[no-untyped-call]  # not typed there
        url = settings.redis.url.replace("//", f"//{unique}:hunter2@")
        finding = (await found(with_key(settings, "redis", url=url)))[component]
        await client.acl_deluser(unique)
    assert finding.state == "fail"
    assert f"'{said}'" in finding.found
    assert "hunter2" not in finding.found


async def test_a_separate_events_broker_is_tried_too(settings: Settings, guarded: GuardedMosquitto) -> None:
    """The broker of the internal topic is tried by itself when it is another; a refused publish is told."""
    findings = await found(with_key(settings, "events", port=guarded.port))
    assert (findings["broker"].state, findings["events"].state) == ("ok", "ok")
    assert findings["events"].found.startswith(f"127.0.0.1:{guarded.port}: MQTT 5 by driver mqtt5")
    topic = findings["internal topic"]
    assert (topic.state, "not authorized" in topic.found) == ("fail", True)
    assert topic.advice == f"let the user of [events] write {settings.events.topic}/#"


async def test_a_refused_subscription_is_told(settings: Settings, guarded: GuardedMosquitto) -> None:
    """A route whose filter the broker refuses fails by itself, with the filter to allow."""
    report = await check(with_key(settings, "broker", port=guarded.port))
    [broker, limits, queues, route, _, topic] = report.findings[:6]
    assert (broker.component, broker.state) == ("broker", "ok")
    assert (limits.component, limits.state) == ("broker limits", "ok")
    assert (queues.state, "cannot be seen" in queues.found) == ("warn", True)
    assert (route.state, "not authorized" in route.found) == ("fail", True)
    assert route.advice == f"let the user of [broker] read {route.component.removeprefix('route ')}"
    assert (topic.component, topic.state) == ("internal topic", "fail")
    assert not report.ok


class MeagreMosquitto(Mosquitto):
    """A mosquitto that takes little."""

    name = "mosquitto-meagre"

    def prepare(self) -> None:
        """Add the limits; that of the quality of service is the listener's, which is there already."""
        super().prepare()
        lines = self._config.read_text(encoding="utf-8").splitlines()
        lines += ["max_qos 0", "persistent_client_expiration 1h"]
        kept = [line for line in lines if not line.startswith("max_packet_size")]
        self._config.write_text("\n".join([*kept, "max_packet_size 5000", ""]), encoding="utf-8")


@pytest.fixture
async def meagre(services: LocalServices) -> AsyncIterator[MeagreMosquitto]:
    """Such a broker, running."""
    async with started(MeagreMosquitto(services.mosquitto.binary, services.place)) as server:
        yield server


async def test_what_a_broker_allows_is_told(settings: Settings, meagre: MeagreMosquitto, unique: str) -> None:
    """Its name, its limits with what to do about each, and what it does not tell; the same for programs."""
    limited = with_key(settings, "broker", port=meagre.port)
    shared = Route(topic=f"$share/{unique}/{unique}/{{device_id}}/telemetry")
    report = await check(msgspec.structs.replace(limited, route=(shared,)))
    findings = {finding.component: finding for finding in report.findings}
    limits, kind = findings["broker limits"], findings["broker kind"]
    assert limits.state == "warn"
    assert limits.found.startswith("sessions of 604,800 s, QoS 0, packets of 5,000 bytes, ")
    assert limits.found.endswith("retained messages: yes, $share: yes")
    for part in ("let it take QoS 1", "packets of 1,000,000 bytes"):
        assert part in limits.advice
    assert (kind.state, kind.found.splitlines()[0]) == (
        "warn",
        "mosquitto, by its $SYS:",
    )
    assert "persistent_client_expiration, and does not tell" in kind.found
    assert kind.advice == "give each gateway topics of its own in place of $share"
    told = {each["component"]: each["facts"] for each in json.loads(encode(report))["findings"]}
    assert told["broker kind"] == {"kind": "mosquitto", "by": "by its $SYS", "read": 1}
    facts = told["broker limits"]
    assert (facts["maximum_qos"], facts["packet_bytes"], facts["retains"]) == (0, 5000, True)
    assert findings[f"route $share/{unique}/{unique}/+/telemetry"].found == "granted with QoS 0 instead of 1"
    assert findings["internal topic"].state == "ok"
    assert "withholds the messages" in findings["arrivals"].found


async def test_each_route_says_what_it_subscribes(settings: Settings, unique: str) -> None:
    """A covered route names the one that stands for it; copies that cannot be told apart are a warning."""
    routes = (f"{unique}/ov/{{device_id}}/up", f"{unique}/ov/#", f"{unique}/p/+/x", f"{unique}/p/b/+")
    routed = msgspec.structs.replace(settings, route=tuple(Route(topic=each) for each in routes))
    findings = await found(routed)
    assert findings[f"route {unique}/ov/+/up"].found == f"not subscribed: {unique}/ov/# covers it"
    assert findings[f"route {unique}/ov/#"].found == "subscribed with QoS 1"
    assert findings[f"route {unique}/p/+/x"].state == "ok"
    finding = (await found(with_key(routed, "broker", driver="mqtt311")))[f"route {unique}/p/+/x"]
    assert (finding.state, "covers the others" in finding.advice) == ("warn", True)


@pytest.mark.parametrize("topic", ["#", "+/events/v1/#", "$share/a/#"])
async def test_check_refuses_what_run_refuses(settings: Settings, topic: str) -> None:
    """A route that would read the gateway's own events, or bring messages twice, is no `Ready`."""
    routes = (Route(topic=topic), Route(topic="$share/b/x/+")) if "$" in topic else (Route(topic=topic),)
    routed = msgspec.structs.replace(settings, route=routes)
    with pytest.raises(ConfigurationError, match="route"):
        await check(routed)


@pytest.mark.parametrize("driver", ["mqtt5", "mqtt311", "aiomqtt"])
async def test_the_driver_is_told(settings: Settings, driver: str) -> None:
    """The finding names driver and protocol; MQTT 3.1.1 cannot tell a refused publish, and that is said."""
    findings = await found(with_key(settings, "broker", driver=driver))
    version = "MQTT 5" if driver == "mqtt5" else "MQTT 3.1.1"
    assert f"{version} by driver {driver}, mosquitto version 2" in findings["broker"].found
    assert ("does not tell" in findings["internal topic"].found) is (driver != "mqtt5")
    [route] = [finding for name, finding in findings.items() if name.startswith("route ")]
    assert route == Finding(route.component, "ok", "subscribed with QoS 1")


@pytest.mark.parametrize(
    ("keys", "state", "said"),
    [
        ({}, "ok", "127.0.0.1:0 answers this machine alone"),
        ({"http": "[::]:1", "trust_proxy": ("10.0.0.2",)}, "ok", "other machines, through 10.0.0.2"),
        (
            {"http": "[::]:1"},
            "fail",
            "[::]:1 can be reached from other machines, and anybody there could look",
        ),
        (
            {"http": "[::]:1", "tokens_file": "/dev/null"},
            "warn",
            "a token of 0; tokens can be read on the way",
        ),
        (
            {"tokens_file": "/none"},
            "fail",
            "projector.tokens_file: cannot read /none: No such file or directory",
        ),
        (
            {"tls_cert": "/none", "tls_key": "/none"},
            "fail",
            "projector.tls_cert: cannot use /none with /none",
        ),
    ],
)
async def test_who_may_look_is_told(settings: Settings, keys: dict[str, Any], state: str, said: str) -> None:
    """How each listener stands, before a process that would not start is started."""
    changed = with_key(settings, "projector", **{"http": "127.0.0.1:0", **keys})
    report = await check(changed, offline=True)
    (finding,) = [each for each in report.findings if each.component == "projector http"]
    assert (finding.state, said in finding.found) == (state, True)


def test_the_screen_is_as_wide_as_the_terminal() -> None:
    """Long findings wrap under themselves, and every finding's advice stands below it."""
    report = Report(
        [Finding("postgres", "fail", "word " * 30, "advice " * 12), Finding("a" * 40, "ok", "fine")]
    )
    plain = re.sub(r"\x1b\[\d+m", "", render(report, 60)).splitlines()
    assert max(len(line) for line in plain) <= 60
    assert plain[0].startswith("fail  postgres")
    assert any(line.lstrip().startswith("→ advice") for line in plain)
    assert f"ok    {'a' * 40}" in plain
    assert not report.ok


async def test_settings_that_another_gateway_set_are_told(
    settings: Settings, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """What is in force, since when and whose it is, beside what is configured here."""
    assert (await found(settings))["site settings"].state == "ok"
    await connection.execute("INSERT INTO site_settings VALUES ('retention', '30d', 'gateway-1')")
    finding = (await found(settings))["site settings"]
    assert finding.state == "warn"
    assert re.search(r"gateway\.retention is '30d' since .*, set by gateway-1, and '' here", finding.found)


async def test_a_session_that_outlives_the_dedup_window(
    settings: Settings, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """It matters where several gateways share a database, and a window of that length mends it."""
    assert (await found(settings))["dedup window"].state == "ok"
    await connection.execute("INSERT INTO streams (stream, seen_at) VALUES (0, now()), (1, now())")
    finding = (await found(settings))["dedup window"]
    assert (finding.state, "2 gateways" in finding.found) == ("warn", True)
    longer = with_key(settings, "gateway", dedup_window="7d")
    assert (await found(longer))["dedup window"].state == "ok"


async def test_ids_that_are_sorted_by_a_locale(
    settings: Settings, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """A large table of before keeps the locale's order, which is told as long as that can change."""
    assert (await found(settings))["order of ids"].state == "ok"
    await connection.execute('ALTER TABLE devices ALTER device_id TYPE text COLLATE "default"')
    locale = await connection.fetchval(
        "SELECT datcollate FROM pg_database WHERE datname = current_database()"
    )
    finding = (await found(settings))["order of ids"]
    by_bytes = locale in {"C", "POSIX", "C.UTF-8", "C.utf8"}
    assert finding.state == ("ok" if by_bytes else "warn")
    assert by_bytes or "devices.device_id" in finding.found


async def test_a_constant_key_is_shown(
    settings: Settings, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """Conflicts that all have one key are told with the line to put into the configuration."""
    assert "constant key" not in await found(settings)
    await connection.execute(
        "INSERT INTO dead_letters (received_at, topic, device_id, reason, error, payload)"
        " SELECT now(), 'devices/a;b/telemetry', 'a;b', 'conflict',"
        " 'key ''C4:7C'' is stored with other content and time: …', '' FROM generate_series(1, 2)"
    )
    finding = (await found(settings))["constant key"]
    assert finding.state == "warn"
    assert finding.found.endswith("all with key 'C4:7C'")
    assert 'key = ""' in finding.advice
    assert finding.advice.endswith("--device 'a;b'")
    await connection.execute(
        "INSERT INTO dead_letters (received_at, topic, device_id, reason, error, payload)"
        " SELECT now(), 'devices/a;b/telemetry', 'a;b', 'conflict',"
        " format('key %L is stored with other content and time: …', 'C4:7D'), '' FROM generate_series(1, 4)"
    )
    assert "6 conflicts of device a;b, all with key 'C4:7C' or 1 more" in (
        (await found(settings))["constant key"].found
    )


async def test_each_route_is_shown(settings: Settings) -> None:
    """What it subscribes, keys, times and names."""
    routes = (
        Route(topic="s/{line}/{device_id}/{metric}", key="", clock="prefer", timezone="Europe/Berlin"),
        Route(topic="s/log/#", ignore=True),
    )
    findings = await found(msgspec.structs.replace(settings, route=routes))
    said = findings["messages s/{line}/{device_id}/{metric}"].found
    for part in (
        "subscribes s/+/+/+",
        "key: made of",
        "in Europe/Berlin",
        "named by the topic",
        "tags: line",
    ):
        assert part in said
    assert findings["messages s/log/#"].found.startswith("ignored")
