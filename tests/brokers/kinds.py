"""Brokers to try: how each is brought here, and how it is started so that it loses as little as it can.

What is not one of Debian's packages is built below `.make/brokers`, from a registry and at a fixed version.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from deploy.local.install import ensure
from tests.brokers import BUILT, SOURCES, built_mochi

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_ROOT: Final = Path(__file__).parents[2]
_NATS: Final = "v2.15.3"
_KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
_LIBRARIES: Final = "usr/lib/x86_64-linux-gnu"


class Command(NamedTuple):
    """A process of a broker."""

    arguments: list[str]
    environment: Mapping[str, str] = MappingProxyType({})


class Kind(NamedTuple):
    """A broker.

    Attributes:
        name: as people call it.
        settings: what in its configuration keeps messages, for the report.
        version: what it says of itself; brings it here first when it is not.
        nodes: what starts it, a process each. Writes configuration into the folder, where data stays; of the
            ports, which are free, MQTT is on the first, of further nodes on the next.
    """

    name: str
    settings: str
    version: Callable[[], str]
    nodes: Callable[[Path, list[int]], list[Command]]


def _mosquitto() -> list[str]:
    return [str(ensure(["mosquitto"])["mosquitto"])]


def _mosquitto_nodes(command: Callable[[], list[str]], folder: Path, ports: list[int]) -> list[Command]:
    return [Command([*command(), "-c", str(_mosquitto_conf(folder, ports[0]))])]


def _mosquitto_version(command: Callable[[], list[str]]) -> str:
    return _said([*command(), "-h"]).split()[2]


def _mosquitto_conf(folder: Path, port: int) -> Path:
    lines = (_ROOT / "mosquitto.conf").read_text(encoding="utf-8").splitlines()
    changed = {
        "listener 1883 127.0.0.1": f"listener {port} 127.0.0.1",
        "persistence_location /var/lib/mosquitto/": f"persistence_location {folder}/",
    }
    assert changed.keys() <= set(lines)
    file = folder / "mosquitto.conf"
    file.write_text("\n".join(["user root", *(changed.get(line, line) for line in lines)]), encoding="utf-8")
    return file


def _newer_mosquitto() -> list[str]:
    """Debian's next release has it: its package beside the libraries that it was built with."""
    root = BUILT / "mosquitto-2.1"
    libraries = root / "root" / _LIBRARIES
    if not (root / "done").exists():
        for folder in ("lists/partial", "cache/archives/partial"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        mirror = _said(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Origin: Debian"]).split()[0]
        (root / "sources").write_text(f"deb [signed-by={_KEYRING}] {mirror} sid main\n", encoding="ascii")
        (root / "status").touch()
        apt = [
            "apt-get", "-qq", "-y", *(f"-oDir::{key}={root}/{value}" for key, value in {
                "Etc::sourcelist": "sources", "Etc::sourceparts": "none", "State::lists": "lists",
                "State::status": "status", "Cache": "cache",
            }.items()),
        ]  # fmt: skip
        _run([*apt, "update"])
        _run([*apt, "--no-install-recommends", "--download-only", "install", "mosquitto"])
        for package in (root / "cache/archives").glob("*.deb"):
            _run(["dpkg", "-x", str(package), str(root / "root")])
        _run(["/sbin/ldconfig", "-n", str(libraries)])
        (root / "done").touch()
    return [
        str(libraries / "ld-linux-x86-64.so.2"),
        "--library-path",
        str(libraries),
        str(root / "root/usr/sbin/mosquitto"),
    ]


def _nats() -> Path:
    binary = BUILT / f"nats-{_NATS}" / "nats-server"
    if not binary.exists():
        _run(["go", "install", f"github.com/nats-io/nats-server/v2@{_NATS}"], GOBIN=str(binary.parent))
    return binary


def _nats_version() -> str:
    return _said([str(_nats()), "--version"]).split()[-1].removeprefix("v")


def _nats_nodes(of: int, folder: Path, ports: list[int]) -> list[Command]:
    return [_nats_node(folder, ports, node, of) for node in range(of)]


def _nats_node(folder: Path, ports: list[int], node: int, of: int) -> Command:
    mqtt, client, route = ports[node], ports[of + node], ports[2 * of + node]
    routes = ", ".join(f"nats://127.0.0.1:{ports[2 * of + each]}" for each in range(of))
    cluster = f"cluster {{ name: edge, listen: 127.0.0.1:{route}, routes: [{routes}] }}" if of > 1 else ""
    file = folder / f"nats-{node}.conf"
    file.write_text(
        f"""
server_name: node{node}
listen: 127.0.0.1:{client}
jetstream {{ store_dir: "{folder}/node{node}", sync_interval: always }}
mqtt {{ listen: 127.0.0.1:{mqtt}, ack_wait: "30s", max_ack_pending: 3000, stream_replicas: {of} }}
{cluster}
""",
        encoding="utf-8",
    )
    return Command([str(_nats()), "-c", str(file)])


def _rabbitmq_version() -> str:
    ensure(["rabbitmq"])
    return _said(["dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server"])


def _rabbitmq_nodes(folder: Path, ports: list[int]) -> list[Command]:
    (folder / "rabbitmq.conf").write_text(
        f"""
mqtt.listeners.tcp.1 = 127.0.0.1:{ports[0]}
listeners.tcp = none
mqtt.allow_anonymous = true
mqtt.default_user = guest
mqtt.default_pass = guest
mqtt.prefetch = 3000
mqtt.subscription_ttl = 604800000
""",
        encoding="utf-8",
    )
    (folder / "enabled_plugins").write_text("[rabbitmq_mqtt].\n", encoding="ascii")
    environment = {
        "RABBITMQ_NODENAME": f"edge{ports[0]}@localhost",
        "RABBITMQ_DIST_PORT": str(ports[1]),
        "ERL_EPMD_PORT": str(ports[2]),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "HOME": str(folder),
    }
    # Erlang would start the name server of its nodes by itself, and leave it behind.
    return [
        Command(["epmd"], environment),
        Command(["/usr/lib/rabbitmq/bin/rabbitmq-server"], environment),
    ]


def _mochi_version() -> str:
    return _in_file(SOURCES / "mochi/go.mod", "mochi-mqtt/server/v2 v")


def _mochi_nodes(folder: Path, ports: list[int]) -> list[Command]:
    return [Command([str(built_mochi()), str(ports[0]), str(folder)])]


def _aedes_version() -> str:
    return _in_file(SOURCES / "aedes/package.json", '"aedes": "').rstrip('",')


def _aedes_nodes(folder: Path, ports: list[int]) -> list[Command]:
    place = BUILT / "aedes"
    if not (place / "node_modules/aedes").exists():
        shutil.copytree(SOURCES / "aedes", place, dirs_exist_ok=True)
        _run(["npm", "install", "--silent", "--no-audit", "--no-fund"], cwd=place)
    shutil.copy(SOURCES / "aedes/server.js", place)
    return [Command(["node", str(place / "server.js"), str(ports[0]), str(folder / "level")])]


def _hivemq_version() -> str:
    dependency = (SOURCES / "hivemq/pom.xml").read_text(encoding="utf-8").partition("<dependency>")[2]
    return dependency.partition("<version>")[2].partition("<")[0]


def _hivemq() -> Path:
    place = BUILT / "hivemq"
    if not (place / "target/lib").exists():
        shutil.copytree(SOURCES / "hivemq", place, dirs_exist_ok=True)
        _run(["mvn", "-q", "-B", "package"], cwd=place)
    return place / "target"


def _hivemq_nodes(folder: Path, ports: list[int]) -> list[Command]:
    for each in ("conf", "data", "extensions"):
        (folder / each).mkdir(exist_ok=True)
    (folder / "conf/config.xml").write_text(
        f"""<?xml version="1.0"?>
<hivemq>
  <listeners>
    <tcp-listener><port>{ports[0]}</port><bind-address>127.0.0.1</bind-address></tcp-listener>
  </listeners>
  <mqtt>
    <queued-messages><max-queue-size>1000000</max-queue-size></queued-messages>
  </mqtt>
  <anonymous-usage-statistics><enabled>false</enabled></anonymous-usage-statistics>
</hivemq>
""",
        encoding="utf-8",
    )
    target = _hivemq()
    return [Command(["java", "-Xmx512m", "-cp", f"{target}/classes:{target}/lib/*", "Broker", str(folder)])]


def _run(command: list[str], cwd: Path | None = None, **environment: str) -> None:
    """Raises: RuntimeError, with what it said last."""
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed ({done.returncode}):\n{done.stdout[-2000:]}")


def _said(command: list[str]) -> str:
    done = subprocess.run([*command], capture_output=True, text=True, check=False, timeout=20)
    return done.stdout


def _in_file(path: Path, before: str) -> str:
    return path.read_text(encoding="utf-8").partition(before)[2].split()[0]


_OURS: Final = "the repository's `mosquitto.conf`"
_SYNCED: Final = "`jetstream { sync_interval: always }`"

MOSQUITTO: Final = Kind(
    "mosquitto 2.0", _OURS, partial(_mosquitto_version, _mosquitto), partial(_mosquitto_nodes, _mosquitto)
)
MOSQUITTO_21: Final = Kind(
    "mosquitto 2.1",
    _OURS,
    partial(_mosquitto_version, _newer_mosquitto),
    partial(_mosquitto_nodes, _newer_mosquitto),
)
NATS: Final = Kind("NATS", _SYNCED, _nats_version, partial(_nats_nodes, 1))
NATS_CLUSTER: Final = Kind(
    "NATS, three nodes", f"{_SYNCED}, `mqtt {{ stream_replicas: 3 }}`", _nats_version, partial(_nats_nodes, 3)
)
RABBITMQ: Final = Kind(
    "RabbitMQ",
    "`mqtt.prefetch = 3000`, `mqtt.subscription_ttl = 604800000`",
    _rabbitmq_version,
    _rabbitmq_nodes,
)
MOCHI: Final = Kind("mochi-mqtt", "its Bolt hook", _mochi_version, _mochi_nodes)
AEDES: Final = Kind("Aedes", "`aedes-persistence-level`", _aedes_version, _aedes_nodes)
HIVEMQ: Final = Kind(
    "HiveMQ CE",
    "persistence in files, `<max-queue-size>1000000</max-queue-size>`",
    _hivemq_version,
    _hivemq_nodes,
)

KINDS: Final = (MOSQUITTO, MOSQUITTO_21, NATS, NATS_CLUSTER, RABBITMQ, MOCHI, AEDES, HIVEMQ)
