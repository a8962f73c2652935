"""A site as `gateway init` makes it, on private ports: its three commands, and who may do what."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import subprocess
import tempfile
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiomqtt
import asyncpg
import httpx
import msgspec
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, ResponseError

from deploy.local.server import reserve_port
from deploy.local.site import Site
from gateway.init.devices import hang_up
from runtime.mqtt import Message, MqttSession, options_from
from runtime.mqtt.port import Refused
from runtime.settings import load, tls_context
from tests.support.commands import RunningCommand

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from deploy.local.services import LocalServices
    from runtime.settings import Settings

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(120),
    pytest.mark.usefixtures("durable"),
]

EVENTS = "gateway/events/v1"
ROW, DEVICES, LIMITS = f"{EVENTS}/0", f"{EVENTS}/devices", f"{EVENTS}/devices/limits"


class Running:
    """A site whose three commands have been run.

    Attributes:
        words: device → password.
        gateway: its address; `projector` that of the other.
    """

    def __init__(self, site: Site, services: LocalServices, ports: tuple[int, int]) -> None:
        self.site = site
        self.services = services
        self.gateway, self.projector = (f"127.0.0.1:{port}" for port in ports)
        self.words: dict[str, str] = {}

    def read(self, name: str) -> str:
        """A file of the folder."""
        return (self.site.folder / name).read_text(encoding="utf-8")

    def client(self, user: str, identifier: str | None = None) -> aiomqtt.Client:
        """A client of the broker: a device at the devices' listener, gateway and projector at their own."""
        broker = self.settings(user).broker
        return aiomqtt.Client(
            broker.host,
            broker.port,
            username=user,
            password=self.word(user),
            tls_context=tls_context(broker),
            protocol=aiomqtt.ProtocolVersion.V5,
            identifier=identifier,
        )

    async def run(self, *arguments: str, **environ: str) -> RunningCommand:
        """Run a command of the gateway's."""
        env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **environ}
        return await RunningCommand.start(
            "gateway", *arguments, env=env, process_group=self.services.place.group
        )

    async def postgres(self, kind: str) -> asyncpg.Connection[asyncpg.Record]:
        """A connection of a role, by its password."""
        url = f"postgresql://edge_{kind}:{self.read(f'{kind}/postgres_password')}@127.0.0.1"
        return await asyncpg.connect(f"{url}:{self.services.postgres.port}/edge")

    def redis(self, user: str) -> Redis:
        """A client of Redis, by its password."""
        word = self.read(f"{user}/redis_password")
        return Redis.from_url(
            f"redis://{user}:{word}@127.0.0.1:{self.site.redis_port}/0", decode_responses=True
        )

    def word(self, user: str) -> str:
        """A user's password at the broker."""
        return self.words.get(user) or self.read(f"{user}/broker_password")

    def settings(self, user: str) -> Settings:
        """The configuration that a user goes by."""
        own = {"EDGE_CONFIG": str(self.site.folder / "edge.toml")}
        others = {"gateway": own, "projector": self.site.projectors()}
        return load(environ=others.get(user, self.site.devices()))


@asynccontextmanager
async def commands(lines: list[str], environ: dict[str, str], group: int, log: Path) -> AsyncIterator[None]:
    """Run what was printed, in its order, until the block ends; what ends by itself has to succeed."""
    running: list[subprocess.Popen[bytes]] = []
    try:
        with log.open("wb") as out:
            for line in lines:
                started = subprocess.Popen(  # noqa: ASYNC220  # a fork
                    line.split(),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    env=environ,
                    process_group=group,
                )
                if "database" in line:
                    assert await asyncio.to_thread(started.wait, 60) == 0, await said(log)
                else:
                    running.append(started)
        yield
    finally:
        for each in running:
            each.terminate()
        for each in running:
            await asyncio.to_thread(each.wait, 30)


async def said(log: Path) -> str:
    """What was written to a log."""
    return await asyncio.to_thread(log.read_text, encoding="utf-8", errors="replace")


async def eventually(holds: Callable[[], Awaitable[bool]], log: Path | None = None) -> None:
    """Wait until something holds that nobody tells of."""
    try:
        async with asyncio.timeout(30):
            while not await holds():  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(await said(log) if log else "it never held") from None


async def get(url: str) -> httpx.Response:
    """The answer of a process; 503 when there is none."""
    async with httpx.AsyncClient() as client:
        try:
            return await client.get(url, timeout=5)
        except httpx.HTTPError:
            return httpx.Response(503)


async def ready(address: str) -> bool:
    """Whether a process says that it is ready."""
    return (await get(f"http://{address}/readyz")).status_code == httpx.codes.OK


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(services: LocalServices) -> AsyncIterator[Running]:
    """A fresh site: exactly what was printed was run, and three devices have passwords."""
    with (
        tempfile.TemporaryDirectory(prefix="edge-site-") as name,
        reserve_port() as one,
        reserve_port() as other,
        Site(Path(name) / "site", services.postgres) as site,
    ):
        os.chmod(name, 0o711)  # noqa: PTH101, S103  # the servers' accounts pass through
        ports = one.getsockname()[1], other.getsockname()[1]
        here = Running(site, services, ports)
        printed = await asyncio.to_thread(site.make)
        assert len(printed) == 3
        environ = {"PATH": os.environ["PATH"], "HOME": name, "PYTHONUNBUFFERED": "1"}
        environ |= {"EDGE_GATEWAY_HTTP": here.gateway, "EDGE_PROJECTOR_HTTP": here.projector}
        log = Path(name) / "log"
        async with commands(printed, environ, services.place.group, log):
            given = await asyncio.to_thread(site.passwords, ["pump-7", "pump-8", "pump-9"])
            here.words = dict(line.split(":") for line in given.splitlines())
            for address in (here.gateway, here.projector):
                await eventually(partial(ready, address), log)
            yield here
        lines = (await said(log)).splitlines()
        assert [line for line in lines if "Traceback" in line or "NOPERM" in line] == []


async def simulate(running: Running) -> dict[str, Any]:
    """Devices publish, each by its own password; what came of it."""
    words = running.site.folder.parent / "words"
    words.write_text("".join(f"{name}:{word}\n" for name, word in running.words.items()), encoding="utf-8")
    arguments = ("--json", "--messages", "60", "--rate", "600", "--garbage", "0")
    done = await running.run("simulate", "--passwords", str(words), *arguments, **running.site.devices())
    assert await done.exit_code() == 0, done.output
    summary = json.loads(done.stdout[-1])
    assert isinstance(summary, dict)
    return summary


async def test_three_commands_and_devices_publish(running: Running) -> None:
    """Devices publish over TLS with passwords of their own, and all of it is stored and in the views."""
    summary = await simulate(running)
    assert (summary["acknowledged"], summary["complete"]) == (60, True)
    stored = summary["kinds"]["good"]["sent"] + summary["kinds"]["late"]["sent"]
    grafana = await running.postgres("grafana")
    async with running.redis("api") as redis:

        async def shown() -> bool:
            counts = [await redis.hget(f"device:stats:{name}", "sample_count") for name in running.words]
            return bool(sum(int(count or 0) for count in counts) == stored)

        await eventually(shown)
    assert await grafana.fetchval("SELECT count(*) FROM measurements") == stored
    for path in ("/devices", "/regions", "/devices/pump-7/stats", "/devices/pump-7/windows", "/lag", "/"):
        assert (await get(f"http://{running.projector}{path}")).status_code == httpx.codes.OK, path
    await grafana.close()


async def test_check_says_ready(running: Running) -> None:
    """`gateway check` finds nothing wrong, with the gateway's rights alone, and when certificates end."""
    done = await running.run("check", "--json", "--config", str(running.site.folder / "edge.toml"))
    assert await done.exit_code() == 0, done.output
    report = json.loads(done.stdout[-1])
    states = {finding["component"]: finding["state"] for finding in report["findings"]}
    assert {name for name, state in states.items() if state != "ok"} == {"redis"}
    assert states["redis"] == "warn"
    assert states["broker certificate"] == "ok"
    metrics = (await get(f"http://{running.gateway}/metrics")).text
    for name in ("broker", "events broker", "broker.tls_ca_file", "broker.tls_cert_file"):
        assert f'gateway_certificate_expires_timestamp_seconds{{certificate="{name}"}}' in metrics


OWN, OTHERS = "devices/pump-7/telemetry", "devices/pump-8/telemetry"
EVERYWHERE = (
    OWN,
    OTHERS,
    "devices/x",
    ROW,
    f"{ROW}/check",
    DEVICES,
    LIMITS,
    "gateway/x",
    "spBv1.0/STATE/x",
    "x",
)
PUBLISHES = {"pump-7": {OWN}, "gateway": {ROW, f"{ROW}/check"}, "projector": {DEVICES, LIMITS}}
READS = {"pump-7": set(), "gateway": {OTHERS}, "projector": {ROW, DEVICES}}
TOLD = {"pump-8": [OTHERS], "gateway": [ROW, f"{ROW}/check"], "projector": [DEVICES, LIMITS]}


@pytest.mark.parametrize("user", PUBLISHES)
async def test_who_publishes_what(running: Running, user: str) -> None:
    """Each publishes on its own topics alone: no device as another, or on the internal topic."""
    broker = msgspec.structs.replace(
        running.settings(user).broker, username=user, password=running.word(user), client_id="table"
    )
    allowed = set()
    async with MqttSession(options_from(broker, clean_start=True)) as session, asyncio.timeout(20):
        await session.connected()
        for topic in EVERYWHERE:
            with suppress(Refused):
                await session.publish([Message(topic, b"{}")])
                allowed.add(topic)
    assert allowed == PUBLISHES[user]


@pytest.mark.parametrize("user", READS)
async def test_who_reads_what(running: Running, user: str) -> None:
    """Nobody but projectors reads the internal topic, and no device what another sends."""
    async with running.client(user) as client, asyncio.timeout(20):
        for topic_filter in ("#", "$SYS/#"):
            await client.subscribe(topic_filter, qos=1)
        for other, topics in TOLD.items():
            async with running.client(other) as publisher:
                for topic in topics:
                    await publisher.publish(topic, b"{}", qos=1)
        # Its acknowledgement comes behind all that was sent before.
        await client.publish(min(PUBLISHES[user]), b"{}", qos=1)
        came = [str((await anext(client.messages)).topic) for _ in range(len(client.messages))]
    heard = {topic for topic in came if not topic.startswith("$SYS/")}
    assert heard - PUBLISHES[user] == READS[user] - PUBLISHES[user]
    assert not [topic for topic in came if topic.startswith("$SYS/") and user != "gateway"]


async def test_who_is_not_let_in(running: Running) -> None:
    """Nobody without a password, no wrong one, and no device where gateway and projector come in."""
    anonymous = aiomqtt.Client("127.0.0.1", running.site.port, tls_context=device_tls(running), timeout=2)
    wrong = aiomqtt.Client(
        *("127.0.0.1", running.site.port),
        username="pump-7",
        password=running.words["pump-8"],
        tls_context=device_tls(running),
        timeout=2,
    )
    inside = aiomqtt.Client(
        *("127.0.0.1", running.site.inner_port),
        username="gateway",
        password=running.read("gateway/broker_password"),
        tls_context=device_tls(running),
        timeout=2,
    )
    plain = aiomqtt.Client("127.0.0.1", running.site.port, timeout=2)

    async def enter(client: aiomqtt.Client) -> None:
        async with client:
            await client.publish(OWN, b"{}", qos=1)

    clients = (anonymous, wrong, inside, plain)
    came = await asyncio.gather(*map(enter, clients), return_exceptions=True)
    assert [type(each) for each in came if not isinstance(each, aiomqtt.MqttError)] == []


async def test_a_device_cannot_end_the_gateways_session(running: Running) -> None:
    """A device that says to have the gateway's client id has its own name all the same."""
    before = await metric(running.gateway, "gateway_connections_total")
    async with running.client("pump-7", identifier="gateway-0") as client:
        await client.publish(OWN, b"{}", qos=1)
    assert await metric(running.gateway, "gateway_connected") == 1
    assert await metric(running.gateway, "gateway_connections_total") == before


async def test_a_stolen_gateway_credential_forges_no_view(running: Running) -> None:
    """Who has the gateway's way to the topic, and not its signature, changes no view and ends nothing."""
    forged = {"device_id": "pump-7", "ts": "2026-11-23T09:00:00Z", "received_at": "2026-11-23T09:00:00Z"}
    row = {"v": 1, "stream": 0, "n": 10**9, "epoch": "x", "created_at": "yesterday"}
    told = "projector_messages_not_believed_total"
    before = await metric(running.projector, told)
    async with running.client("gateway") as client:
        for n in (1, 10**9):
            events = [{**forged, "key": "k", "metrics": {"forged": 1}}]
            await client.publish(ROW, json.dumps({**row, "n": n, "events": events}).encode(), qos=1)

    async def noticed() -> bool:
        return await metric(running.projector, told) >= before + 2

    await eventually(noticed)
    async with running.redis("api") as redis:
        assert not await redis.hexists("device:stats:pump-7", "last_forged")
    assert await ready(running.projector)


async def test_tail_hears_as_the_projector_does(running: Running) -> None:
    """`gateway tail` with the projector's name at the broker shows what a device sends."""
    environ = {name: value for name, value in running.site.projectors().items() if "BROKER" in name}
    tail = await running.run("tail", "--config", str(running.site.folder / "edge.toml"), **environ)

    async def shows() -> bool:
        async with running.client("pump-8") as client:
            await client.publish(OTHERS, b'{"tailed": 1}', qos=1)
        return any("tailed=1" in line for line in tail.stdout)

    await eventually(shows)
    await tail.kill()


async def test_a_payload_that_names_another_device_is_refused(running: Running) -> None:
    """What a device says of another on its own topic is a dead letter."""
    async with running.client("pump-7") as client:
        await client.publish(OWN, b'{"id": "x", "device_id": "pump-8", "t": 1}', qos=1)
    owner = await running.postgres("owner")

    async def kept() -> bool:
        counted = "SELECT count(*) FROM dead_letters WHERE reason = 'device_mismatch'"
        return bool(await owner.fetchval(counted))

    await eventually(kept)
    await owner.close()


LOCKS = [
    f"{tried}advisory_{within}lock{shared}"
    for tried in ("", "try_")
    for within in ("", "xact_")
    for shared in ("", "_shared")
]
STATEMENTS = {
    "owner": ("CREATE ROLE mine", "SELECT pg_read_file('/etc/passwd')", "CREATE DATABASE mine"),
    "gateway": (
        *("UPDATE measurements SET region = ''", "DELETE FROM measurements", "DROP TABLE dead_letters"),
        *("SELECT * FROM device_care", "INSERT INTO projections VALUES ('redis', 0)", "CREATE TABLE mine ()"),
        *("SELECT rolpassword FROM pg_authid", "COPY (SELECT 1) TO PROGRAM 'true'", "SET ROLE edge_owner"),
    ),
    "projector": (
        *("INSERT INTO measurements DEFAULT VALUES", "UPDATE devices SET region = ''", "TRUNCATE outbox"),
        *("DELETE FROM dead_letters", "SELECT * FROM message_keys_0", "DELETE FROM stream_leases"),
        *("SELECT drop_leaving_partition('measurements')", "CREATE TABLE mine ()", "SET ROLE edge_gateway"),
    ),
    "grafana": (
        *(
            "INSERT INTO measurements DEFAULT VALUES",
            "DELETE FROM devices",
            "SELECT payload FROM dead_letters",
        ),
        *("SELECT * FROM stream_keys", "SELECT * FROM outbox", "CREATE TEMPORARY TABLE mine ()"),
        *("SELECT lo_create(0)", "SET ROLE edge_owner", "SELECT * FROM measurements_default"),
        *(f"SELECT pg_{name}(hashtext('mqtt-edge-gateway/stream'), 0)" for name in LOCKS),
        *(f"SELECT pg_{name}(hashtextextended('mqtt-edge-gateway/packing', 0))" for name in LOCKS),
        "SELECT pg_logical_emit_message(false, 'x', 'y')",
        "SELECT FROM measurements FOR KEY SHARE",
    ),
}


@pytest.mark.parametrize("kind", STATEMENTS)
async def test_what_a_role_may_not(running: Running, kind: str) -> None:
    """Each role has its password, and is refused what is not its own, whoever has got that."""
    connection = await running.postgres(kind)
    await connection.execute("SET default_transaction_read_only = off")  # that it cannot rests on rights
    may = []
    for statement in STATEMENTS[kind]:
        try:
            await connection.execute(statement)
            may.append(statement)
        except asyncpg.InsufficientPrivilegeError:
            continue
    assert may == []
    await connection.close()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(f"postgresql://edge_{kind}:x@127.0.0.1:{running.services.postgres.port}/edge")


WRITES: tuple[tuple[str, ...], ...] = (
    ("HSET", "device:stats:pump-7", "last_t", "1"),
    ("DEL", "device:stats:pump-7"),
    ("EVAL", "return redis.call('HSET', KEYS[1], 'a', '1')", "1", "device:stats:pump-7"),
)
NOBODYS: tuple[tuple[str, ...], ...] = (
    *(("FLUSHALL",), ("FLUSHDB",), ("CONFIG", "GET", "*"), ("CONFIG", "SET", "dir", "/"), ("SHUTDOWN",)),
    *(
        ("ACL", "LIST"),
        ("DEBUG", "SLEEP", "0"),
        ("SET", "mine", "1"),
        ("GET", "mine"),
        ("REPLICAOF", "a", "1"),
    ),
    *(
        ("KEYS", "*"),
        ("MODULE", "LIST"),
        ("MONITOR",),
        ("SCRIPT", "FLUSH"),
        ("CLIENT", "KILL", "TYPE", "normal"),
    ),
    ("EVAL", "return redis.call('SET', 'mine', '1')", "0"),
)
COMMANDS = {
    "projector": NOBODYS,
    "api": (*NOBODYS, *WRITES),
    "grafana": (*NOBODYS, *WRITES, ("HGETALL", "projector:cursor"), ("SCAN", "0")),
}


@pytest.mark.parametrize("user", COMMANDS)
async def test_what_a_user_of_redis_may_not(running: Running, user: str) -> None:
    """Who reads writes nothing, and nobody has the server's own commands, or other keys."""
    async with running.redis(user) as redis:
        assert await redis.hgetall("device:stats:nobody") == {}
        may = []
        for command in COMMANDS[user]:
            try:
                await redis.execute_command(*command)  # type: ignore[no-untyped-call]  # ships it untyped
                may.append(command)
            except ResponseError as error:
                if not any(words in str(error) for words in ("permission", "not allowed", "can't")):
                    may.append(command)
        assert may == []
    async with Redis.from_url(f"redis://127.0.0.1:{running.site.redis_port}/0") as nobody:
        with pytest.raises(AuthenticationError):
            await nobody.ping()


async def test_a_device_that_is_taken_away(running: Running) -> None:
    """With --remove a device is let in no more, and mosquitto knows it at once; a new password lets it in."""
    command = ("devices", "password", "--site", str(running.site.folder))
    assert await (await running.run(*command, "--remove", "pump-9")).exit_code() == 0
    await eventually(partial(let_in, running, "pump-9", but=False))
    given = await running.run(*command, "pump-9")
    assert await given.exit_code() == 0
    running.words["pump-9"] = given.stdout[-1].partition(":")[2]
    await eventually(partial(let_in, running, "pump-9"))
    again = await running.run(*command, "--remove", "nobody")
    assert (await again.exit_code(), again.output) == (1, ["error: nobody: no device with a password"])


async def test_certificates_are_renewed_while_all_runs(running: Running) -> None:
    """`--renew` makes new ones, and nothing else; the broker shows the new one when it is told to read it."""
    before = {path: path.read_bytes() for path in running.site.folder.rglob("*") if path.is_file()}
    done = await running.run("init", str(running.site.folder), "--renew")
    assert await done.exit_code() == 0, done.output
    changed = {
        str(path.relative_to(running.site.folder))
        for path, content in before.items()
        if "data" not in path.relative_to(running.site.folder).parts and path.read_bytes() != content
    }
    assert changed == {
        f"{folder}/{name}.{end}"
        for folder, name in (("mosquitto", "server"), ("gateway", "broker"), ("projector", "broker"))
        for end in ("crt", "key")
    }
    assert (await simulate(running))["complete"]  # by the old one
    hang_up(running.site.folder / "mosquitto/mosquitto.conf")
    new = ssl.PEM_cert_to_DER_cert(running.read("mosquitto/server.crt"))

    async def shows_it() -> bool:
        return await asyncio.to_thread(shown, running) == new

    await eventually(shows_it)
    assert (await simulate(running))["complete"]


def shown(running: Running) -> bytes:
    """The certificate that the broker shows."""
    with (
        socket.create_connection(("127.0.0.1", running.site.port), 5) as plain,
        device_tls(running).wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        return secured.getpeercert(binary_form=True) or b""


def device_tls(running: Running) -> ssl.SSLContext:
    """What a device trusts."""
    return ssl.create_default_context(cafile=running.site.folder / "ca.crt")


async def let_in(running: Running, device: str, *, but: bool = True) -> bool:
    """Whether the broker takes a device's password, or does not."""
    try:
        async with running.client(device):
            return but
    except aiomqtt.MqttError:
        return not but


async def metric(address: str, name: str) -> float:
    """The sum of a metric's samples."""
    families = text_string_to_metric_families((await get(f"http://{address}/metrics")).text)
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)
