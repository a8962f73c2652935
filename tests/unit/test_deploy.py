"""What can be checked of the deployment files without a container."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from runtime.settings import Broker, Settings, duration_s, host_port, load

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
    """A container that dies comes back, and one that does not work is seen."""
    assert set(compose["services"]) == {"mosquitto", "postgres", "redis", "gateway", "projector"}
    for name, service in compose["services"].items():
        assert service["restart"] == "unless-stopped", name
        assert service["healthcheck"]["test"], name


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


def test_the_broker_allows_what_the_gateway_asks_for(mosquitto_conf: dict[str, str]) -> None:
    """The broker's limits are not below the gateway's own defaults."""
    gateway = Broker()
    assert int(mosquitto_conf["max_inflight_messages"]) >= gateway.receive_maximum
    assert int(mosquitto_conf["max_packet_size"]) >= gateway.max_packet_bytes
    assert duration_s(mosquitto_conf["persistent_client_expiration"]) >= duration_s(gateway.session_expiry)


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_locks_are_hashed_and_name_no_index(name: str) -> None:
    """Every requirement is pinned with its hashes, wherever it will be fetched from."""
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks = text.split("\n    # via")[:-1]
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
