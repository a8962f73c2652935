"""What can be checked of the deployment files without a container."""

from __future__ import annotations

import hashlib
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from runtime.http.proxies import Proxies
from runtime.settings import Broker, Settings, duration_s, host_port, load, refuse_open

ROOT = Path(__file__).parents[2]


@pytest.fixture
def compose() -> dict[str, Any]:
    """The compose file, parsed."""
    parsed = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text(encoding="utf-8"))
    assert isinstance(parsed, dict)
    return parsed


@pytest.fixture
def container_settings(tmp_path: Path) -> Settings:
    """`deploy/edge.toml` as a container loads it, its secret elsewhere."""
    secret = tmp_path / "postgres_dsn"
    secret.write_text("postgresql://edge:word@postgres:5432/edge")
    return load(ROOT / "deploy/edge.toml", environ={"EDGE_POSTGRES_DSN_FILE": str(secret)})


@pytest.fixture
def mosquitto_conf() -> dict[str, str]:
    """The broker's options; none is given twice."""
    lines = (ROOT / "mosquitto.conf").read_text(encoding="utf-8").splitlines()
    options = [line.partition(" ")[::2] for line in lines if line and not line.startswith("#")]
    assert len(options) == len(dict(options))
    return dict(options)


def test_every_service_restarts_and_tells_its_health(compose: dict[str, Any]) -> None:
    """A container that dies comes back, one that does not work is seen; the job is tried till done."""
    services = compose["services"]
    job = services.pop("grafana-role")
    assert job["restart"] == "on-failure"
    asked_for = {name for name, service in services.items() if service.get("profiles") == ["grafana"]}
    assert asked_for == {"grafana", "prometheus"}
    assert set(services) - asked_for == {"mosquitto", "postgres", "redis", "gateway", "projector"}
    for name, service in services.items():
        assert service["restart"] == "unless-stopped", name
        assert service["healthcheck"]["test"], name


def test_mounted_files_are_there(compose: dict[str, Any]) -> None:
    """What containers mount from the repository exists."""
    mounted = [
        volume.split(":")[0]
        for service in compose["services"].values()
        for volume in service.get("volumes", [])
        if volume.startswith(".")
    ]
    assert len(mounted) > 6
    for path in mounted:
        assert (ROOT / "deploy" / path).exists(), path


def test_prometheus_scrapes_the_containers(compose: dict[str, Any]) -> None:
    """Its targets are the services' `/metrics`."""
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    for job in scraped["scrape_configs"]:
        (target,) = job["static_configs"][0]["targets"]
        name, _, port = target.partition(":")
        assert name == job["job_name"]
        assert compose["services"][name]["ports"] == [f"127.0.0.1:{port}:{port}"]


@pytest.mark.parametrize(
    ("sources", "provider", "also"),
    [
        ("provisioning/datasources/edge.yaml", "provisioning/dashboards/edge.yaml", ""),
        ("redis/datasource.yaml", "redis/provider.yaml", "deploy/compose.redis-panels.yaml"),
    ],
)
def test_grafana_finds_sources_and_dashboards(
    compose: dict[str, Any], sources: str, provider: str, also: str
) -> None:
    """Its sources are services, and what it reads is mounted where it looks; the optional part too."""
    of = yaml.safe_load((ROOT / also).read_text(encoding="utf-8")) if also else compose
    volumes = of["services"]["grafana"]["volumes"]
    mounted = dict(volume.split(":")[:2] for volume in volumes if volume.startswith("."))
    assert mounted[f"./grafana/{sources}"].startswith("/etc/grafana/provisioning/datasources/")
    assert mounted[f"./grafana/{provider}"].startswith("/etc/grafana/provisioning/dashboards/")
    read = {
        name: yaml.safe_load((ROOT / "deploy/grafana" / name).read_text(encoding="utf-8"))
        for name in (sources, provider)
    }
    for source in read[sources]["datasources"]:
        host = source["url"].partition("://")[2] or source["url"]
        assert host.partition(":")[0] in compose["services"]
    (folder,) = (each["options"]["path"] for each in read[provider]["providers"])
    (here,) = (path for path, there in mounted.items() if there == folder)
    assert list((ROOT / "deploy" / here).glob("*.json"))


def test_grafana_installs_no_plugin_unless_asked(compose: dict[str, Any]) -> None:
    """A plugin that is not to be had, or does not load, keeps nothing from starting."""
    assert not [name for name in compose["services"]["grafana"]["environment"] if "PLUGINS" in name]


def test_redis_gets_the_hash_of_grafanas_password(compose: dict[str, Any], tmp_path: Path) -> None:
    """The script in Redis's container writes the list of users, with no password in it in clear."""
    _, _, script = shlex.split(compose["services"]["redis"]["command"].replace("$$", "$"))
    (tmp_path / "password").write_text("secret")
    for path, here in {
        "/run/secrets/grafana_password": tmp_path / "password",
        "/etc/grafana.acl": ROOT / "deploy/grafana/redis.acl",
        "/tmp/users.acl": tmp_path / "users.acl",  # noqa: S108  # in the container
    }.items():
        assert path in script
        script = script.replace(path, str(here))
    subprocess.run(["sh", "-c", script.partition("&& exec")[0]], check=True)
    users = (tmp_path / "users.acl").read_text(encoding="utf-8").splitlines()
    assert users[0] == "user default on nopass ~* &* +@all"
    assert users[1].startswith(
        f"user grafana on #{hashlib.sha256(b'secret').hexdigest()} resetchannels -@all "
    )


def test_containers_find_each_other(compose: dict[str, Any], container_settings: Settings) -> None:
    """Hosts in the containers' configuration are services; its ports are published and asked for health."""
    services = compose["services"]
    assert container_settings.broker.host in services
    assert "@postgres:" in container_settings.postgres.dsn
    assert "//redis:" in container_settings.redis.url
    for name in ("gateway", "projector"):
        host, port = host_port(getattr(container_settings, name).http)
        assert host == "0.0.0.0"  # noqa: S104  # inside its container
        assert services[name]["ports"] == [f"127.0.0.1:{port}:{port}"]
        assert f":{port}/readyz" in services[name]["healthcheck"]["test"][-1]


def test_containers_let_in_who_is_in_their_network(container_settings: Settings) -> None:
    """Ports are open to this machine alone, and what comes by them is a container's, or Docker's own."""
    for name in ("gateway", "projector"):
        listener = getattr(container_settings, name)
        assert refuse_open(name, listener) is None
        assert Proxies(listener.trust_proxy).has("172.18.0.1")
        assert not Proxies(listener.trust_proxy).has("8.8.8.8")


def test_no_secret_is_in_the_files(compose: dict[str, Any]) -> None:
    """Passwords come from files that are mounted, and every mounted secret is declared."""
    with (ROOT / "deploy/edge.toml").open("rb") as file:
        assert set(tomllib.load(file)["postgres"]) == {"dsn_file"}
    for service in compose["services"].values():
        assert set(service.get("secrets", [])) <= set(compose["secrets"])
    assert "POSTGRES_PASSWORD" not in compose["services"]["postgres"]["environment"]


def test_the_broker_in_its_container_keeps_its_data(
    compose: dict[str, Any], mosquitto_conf: dict[str, str]
) -> None:
    """The container's command replaces the path that is in `mosquitto.conf`, by that of a volume."""
    service = compose["services"]["mosquitto"]
    assert f"s|{mosquitto_conf['persistence_location']}|/mosquitto/data/|" in service["command"]
    assert "mosquitto:/mosquitto/data" in service["volumes"]


def test_the_broker_in_its_container_closes_the_internal_topic(
    compose: dict[str, Any], tmp_path: Path
) -> None:
    """Its script adds a list of rights and passwords for the two names that gateway and projector have."""
    _, _, script = shlex.split(compose["services"]["mosquitto"]["command"].replace("$$", "$"))
    for user in ("gateway", "projector"):
        given = compose["services"][user]
        assert given["environment"]["EDGE_BROKER_USERNAME"] == user
        secret = given["environment"]["EDGE_BROKER_PASSWORD_FILE"].removeprefix("/run/secrets/")
        assert secret in given["secrets"]
        assert secret in compose["services"]["mosquitto"]["secrets"]
        (tmp_path / secret).write_text(f"word of {user}".replace(" ", "-"))
        assert f"\nuser {user}\n" in (ROOT / "mosquitto.acl").read_text(encoding="utf-8")
    for path, here in {
        "/tmp/": f"{tmp_path}/",  # noqa: S108  # in the container
        "/run/secrets/": f"{tmp_path}/",
        "/etc/mosquitto.": f"{ROOT}/mosquitto.",
        "chown mosquitto:mosquitto": "true",
    }.items():
        assert path in script
        script = script.replace(path, here)
    subprocess.run(["sh", "-c", script.partition("&& exec")[0]], check=True)
    users = (tmp_path / "passwords").read_text(encoding="utf-8").splitlines()
    assert [line.partition(":")[0] for line in users] == ["gateway", "projector"]
    assert "word" not in "".join(users)
    assert (tmp_path / "acl").read_text(encoding="utf-8") == (ROOT / "mosquitto.acl").read_text(
        encoding="utf-8"
    )
    options = (tmp_path / "mosquitto.conf").read_text(encoding="utf-8").splitlines()
    assert [line for line in options if line.startswith("listener")] == ["listener 1883"]  # in its container
    assert options[-2:] == [f"acl_file {tmp_path}/acl", f"password_file {tmp_path}/passwords"]


def test_the_broker_listens_to_this_machine_alone(
    compose: dict[str, Any], mosquitto_conf: dict[str, str]
) -> None:
    """Where nobody is asked for a password, nobody elsewhere is listened to."""
    assert mosquitto_conf["allow_anonymous"] == "true"
    assert mosquitto_conf["listener"] == "1883 127.0.0.1"
    assert compose["services"]["mosquitto"]["ports"] == ["127.0.0.1:1883:1883"]


def test_the_broker_allows_what_the_gateway_asks_for(mosquitto_conf: dict[str, str]) -> None:
    """The broker's limits are not below the gateway's own defaults."""
    gateway = Broker()
    assert int(mosquitto_conf["max_inflight_messages"]) >= gateway.receive_maximum
    assert int(mosquitto_conf["max_packet_size"]) >= gateway.max_packet_bytes
    assert duration_s(mosquitto_conf["persistent_client_expiration"]) >= duration_s(gateway.session_expiry)


@pytest.mark.parametrize(
    "name", ["requirements.lock", "requirements-dev.lock", "deploy/local/requirements-uv.lock"]
)
def test_locks_are_hashed_and_name_no_index(name: str) -> None:
    """Every requirement is pinned with its hashes, wherever it will be fetched from."""
    text = (ROOT / name).read_text(encoding="utf-8")
    _, *blocks = re.split(r"\n(?=[a-z])", text)
    assert blocks
    assert all("==" in block and "--hash=sha256:" in block for block in blocks)
    assert "://" not in text
    assert "--index-url" not in text


def test_the_image_runs_what_was_tested() -> None:
    """The development lock holds every runtime requirement at the same version."""

    def pins(name: str) -> set[str]:
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        return {line.split()[0] for line in lines if "==" in line and not line.startswith(" ")}

    assert pins("requirements.lock") <= pins("requirements-dev.lock")
