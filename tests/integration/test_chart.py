"""What the Helm chart makes. Needs `helm` and `kubernetes-validate`, which `make chart` brings."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.decode.dialects import complete_routes
from runtime.settings import Settings, load

CHART = Path(__file__).parents[2] / "deploy/helm"
VERSIONS = ("1.28.0", "1.32.0", "1.36.0")

LEAST = {"secrets.keys.tokens": "", "config": '[gateway]\ntrust_proxy = ["10.0.0.7"]\n'}
ALL = {
    "image.repository": "registry.example/edge",
    "image.tag": "v7",
    "image.pullSecrets": "{mine}",
    "tls.secret": "certificate",
    "tls.configMap": "authority",
    "tls.listeners": "true",
    "migrate.resources.limits.memory": "128Mi",
    "gateway.replicas": "3",
    "gateway.firstStream": "4",
    "gateway.username": "gateway",
    "gateway.spool.storageClass": "fast",
    "gateway.nodeSelector.zone": "a",
    "gateway.tolerations[0].operator": "Exists",
    "gateway.priorityClassName": "high",
    "gateway.podAnnotations.why": "because",
    "projector.username": "projector",
    "projector.hosts": "{edge.example,*.plant.example}",
    "projector.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution"
    ".nodeSelectorTerms[0].matchExpressions[0].key": "zone",
    "projector.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution"
    ".nodeSelectorTerms[0].matchExpressions[0].operator": "Exists",
    "secrets.keys.gatewayBrokerPassword": "gateway-password",
    "secrets.keys.projectorBrokerPassword": "projector-password",
    "networkPolicy.readers[0].namespaceSelector.matchLabels.name": "ingress",
    "networkPolicy.metrics[0].namespaceSelector.matchLabels.name": "monitoring",
    "serviceMonitor.enabled": "true",
    "serviceMonitor.bearerTokenSecret.name": "prometheus",
    "serviceMonitor.bearerTokenSecret.key": "token",
    "serviceAccount.annotations.a": "b",
}
NONE = {
    "migrate.enabled": "false",
    "gateway.spool.enabled": "false",
    "podDisruptionBudget.enabled": "false",
    "networkPolicy.enabled": "false",
}
MONITORED = {name: value for name, value in ALL.items() if name.startswith("serviceMonitor.")}
CASES = {"as it comes": {}, "least": LEAST, "all": ALL, "none": NONE}


def tool(name: str) -> str:
    """Its path; without it the test is left out, unless `CHART=all` asks for it."""
    path = shutil.which(name)
    if path is None:
        (pytest.fail if os.environ.get("CHART") == "all" else pytest.skip)(f"no {name} here: make chart")
    return path


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it, and have what it says."""
    return subprocess.run([tool("helm"), *arguments], capture_output=True, text=True, check=False)


def rendered(values: dict[str, str], version: str = VERSIONS[0]) -> str:
    """What would be applied, of a release `site` in the namespace `edge`."""
    options = [
        f"--set={name}={value.replace(',', chr(92) + ',') if name == 'config' else value}"
        for name, value in values.items()
    ]
    done = helm("template", "site", str(CHART), "--namespace=edge", f"--kube-version={version}", *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects(text: str) -> dict[tuple[str, str], dict[str, Any]]:
    """By kind and name."""
    found = [each for each in yaml.safe_load_all(text) if each]
    by_name = {(each["kind"], each["metadata"]["name"]): each for each in found}
    assert len(by_name) == len(found)
    return by_name


def container(made: dict[str, Any]) -> dict[str, Any]:
    """The one of a workload."""
    (only,) = made["spec"]["template"]["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def test_lint() -> None:
    """Helm itself has nothing against it."""
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", CASES)
def test_objects_fit_the_schemas_of_kubernetes(case: str, version: str, tmp_path: Path) -> None:
    """Every object is one that a cluster of this version takes, without a field that it does not know."""
    parts = rendered(CASES[case], version).split("\n---\n")
    checked = 0
    for n, part in enumerate(parts):
        made = yaml.safe_load(part)
        if (
            made is None or made["kind"] == "ServiceMonitor"
        ):  # the operator's own; its schema is not Kubernetes'
            continue
        path = tmp_path / f"{n}.yaml"
        path.write_text(part)
        done = subprocess.run(
            [tool("kubernetes-validate"), "--strict", "-k", version.rpartition(".")[0], str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{made['kind']}: {done.stdout}{done.stderr}"
        checked += 1
    assert checked >= (6 if case == "none" else 9)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("role", ["gateway", "projector", "migrate"])
def test_the_configuration_is_one_that_starts(case: str, role: str, tmp_path: Path) -> None:
    """Each program has, with the file, environment and secrets of its pod, a whole configuration."""
    made = objects(rendered(CASES[case]))
    names = {
        "gateway": ("StatefulSet", "site-gateway"),
        "projector": ("Deployment", "site-projector"),
        "migrate": ("Job", "site-migrate-1"),
    }
    if case == "none" and role == "migrate":
        assert names[role] not in made
        return
    workload = made[names[role]]
    settings = settings_of(workload, made["ConfigMap", "site"]["data"]["edge.toml"], tmp_path)
    who = {
        "gateway": "gateway-postgres-dsn",
        "projector": "projector-postgres-dsn",
        "migrate": "owner-postgres-dsn",
    }
    assert settings.postgres.dsn == f"postgresql://{who[role]}@db/edge"
    if role == "gateway":
        assert (settings.broker.client_id, settings.gateway.stream) == ("site-gateway-2", 2)
        assert settings.gateway.migrate == (case == "none")
        assert settings.spool.path == ("" if case == "none" else "/var/lib/mqtt-edge-gateway/spool")
    if role == "projector":
        assert {"site-projector", "site-projector.edge.svc"} <= set(settings.projector.hosts)
        assert ("edge.example" in settings.projector.hosts) == (case == "all")
    if case == "all" and role != "migrate":
        assert (settings.broker.username, settings.broker.password) == (role, f"{role}-password-x")


def settings_of(workload: dict[str, Any], config: str, folder: Path) -> Settings:
    """What a container of this workload loads; a secret's content tells its key."""
    spec = workload["spec"]["template"]["spec"]
    secrets = {
        item["path"] for volume in spec["volumes"] if "secret" in volume for item in volume["secret"]["items"]
    }
    environ: dict[str, str] = {}
    for each in container(workload)["env"]:
        value = each.get("value", "2" if "pod-index" in str(each) else f"{workload['metadata']['name']}-2")
        if value.startswith("/run/secrets/edge/"):
            key = value.removeprefix("/run/secrets/edge/")
            assert key in secrets, f"{each['name']}: the pod has no {key}"
            secrets.discard(key) if key != "tokens" else None
            text = {"redis-url": "redis://redis:6379/0"}.get(key)
            if "dsn" in key:
                text = f"postgresql://{key}@db/edge"
            value = str(folder / key)
            (folder / key).write_text(text or f"{key}-x")
        environ[each["name"]] = value
    assert secrets <= {"tokens"}, "a pod has no secret that it does not use"
    (folder / "edge.toml").write_text(config)
    environ["EDGE_CONFIG"] = str(folder / "edge.toml")
    return load(environ=environ, complete=complete_routes)


def test_pods_have_few_rights() -> None:
    """No pod runs as root, gains rights, writes to its image, or has a token of the cluster."""
    made = objects(rendered({}))
    for (kind, name), each in made.items():
        if kind not in {"StatefulSet", "Deployment", "Job"}:
            continue
        pod = each["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"], name
        assert not pod["automountServiceAccountToken"], name
        assert container(each)["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name


def test_services_of_the_cluster_are_no_settings() -> None:
    """A pod has no variable that Kubernetes makes of a service: EDGE_PROJECTOR_PORT of a release `edge`."""
    for (kind, name), each in objects(rendered({})).items():
        if kind in {"StatefulSet", "Deployment", "Job"}:
            assert each["spec"]["template"]["spec"]["enableServiceLinks"] is False, name


@pytest.mark.parametrize(
    ("values", "scheme"), [({}, "HTTP"), ({"tls.listeners": "true"}, "HTTPS")], ids=["plain", "tls"]
)
def test_who_asks_for_health_and_metrics_speaks_as_the_listeners_do(
    values: dict[str, str], scheme: str
) -> None:
    """Probes and Prometheus use TLS when the listeners do, and only then."""
    made = objects(rendered(values | MONITORED))
    for kind, name in (("StatefulSet", "site-gateway"), ("Deployment", "site-projector")):
        pod = container(made[kind, name])
        probes = [pod[f"{which}Probe"]["httpGet"] for which in ("startup", "liveness", "readiness")]
        assert [each.get("scheme", "HTTP") for each in probes] == [scheme] * 3
    (endpoint,) = made["ServiceMonitor", "site"]["spec"]["endpoints"]
    assert endpoint["scheme"] == scheme.lower()


def test_selectors_find_their_pods() -> None:
    """Services, budgets and policies are about the pods of one role, and never the job that migrates."""
    made = objects(rendered({}))
    labels = {
        kind: made[kind, name]["spec"]["template"]["metadata"]["labels"]
        for kind, name in (
            ("StatefulSet", "site-gateway"),
            ("Deployment", "site-projector"),
            ("Job", "site-migrate-1"),
        )
    }
    for role, kind in (("gateway", "StatefulSet"), ("projector", "Deployment")):
        selectors = [
            made["Service", f"site-{role}"]["spec"]["selector"],
            made["PodDisruptionBudget", f"site-{role}"]["spec"]["selector"]["matchLabels"],
            made["NetworkPolicy", f"site-{role}"]["spec"]["podSelector"]["matchLabels"],
            made[kind, f"site-{role}"]["spec"]["selector"]["matchLabels"],
        ]
        for selector in selectors:
            assert [each for each, has in labels.items() if selector.items() <= has.items()] == [kind]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"gateway.replica": "3"}, "replica"),
        ({"secrets.name": ""}, "/secrets/name"),
        ({"gateway.replicas": "-1"}, "/gateway/replicas"),
        ({"projector.port": "80"}, "/projector/port"),
        ({"secrets.keys.redisUrl": ""}, "/secrets/keys/redisUrl"),
        ({"serviceMonitor.enabled": "true"}, "serviceMonitor.bearerTokenSecret"),
    ],
)
def test_values_that_cannot_be_are_named(values: dict[str, str], named: str) -> None:
    """A value that is misspelt or impossible stops the installation, and is named."""
    options = [f"--set={name}={value}" for name, value in values.items()]
    done = helm("template", "site", str(CHART), f"--kube-version={VERSIONS[0]}", *options)
    assert done.returncode != 0
    assert named in done.stderr
