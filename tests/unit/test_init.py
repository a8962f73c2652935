"""`gateway init`: what it refuses, what it writes, and what stays."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import tomllib
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from contract.redis_rights import REDIS_USERS
from contract.rights import ROLES
from gateway.cli import main
from gateway.init import answers, broker, certificates, command, devices, words
from gateway.init import folder as folders
from gateway.init.answers import Answers
from gateway.init.folder import Folder
from gateway.init.texts import text
from runtime import tokens
from runtime.errors import ConfigurationError
from runtime.settings import load
from runtime.settings.listener import refuse_open

if TYPE_CHECKING:
    from click.testing import Result

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)


def hosts_of(certificate: str) -> list[str]:
    """The names and addresses that a certificate is for."""
    found = x509.load_pem_x509_certificate(certificate.encode())
    assert found.not_valid_after_utc - found.not_valid_before_utc == timedelta(days=826)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]


def public_key(file: Path) -> object:
    """That of a key."""
    key = serialization.load_pem_private_key(file.read_bytes(), None)
    return key.public_key()


def init(folder: Path, *options: str) -> Result:
    """Run `gateway init` without questions."""
    return CliRunner().invoke(main, ["init", str(folder), "--yes", "--host", "broker.example", *options])


def contents(folder: Path) -> dict[str, str]:
    """Every file of a folder."""
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site that nobody changes."""
    folder = tmp_path_factory.mktemp("made") / "site"
    assert init(folder).exit_code == 0
    return folder


def test_secrets_are_their_owners_alone(made: Path) -> None:
    """Whatever holds a secret is 0600 in a folder of 0700, and no secret is anywhere else, or twice."""
    files = contents(made)
    secrets = {name: value for name, value in files.items() if name.endswith(("_password", ".key"))}
    assert len(secrets) == len(set(secrets.values())) == 13
    for name in files:
        path = made / name
        public = path.parent == made
        assert stat.S_IMODE(path.stat().st_mode) == (0o644 if public else 0o600), name
        assert stat.S_IMODE(path.parent.stat().st_mode) == (0o755 if public else 0o700), name
        assert not public or not [each for each in secrets.values() if each in files[name]], name
    for server in ("mosquitto", "redis", "postgres"):
        held = [name for name in files if name.startswith(f"{server}/")]
        passwords = [value for name, value in secrets.items() if name.endswith("_password")]
        assert [name for name in held for word in passwords if word in files[name]] == []


def test_the_configuration_is_one(made: Path) -> None:
    """Both programs take it, each with secrets of its own, and neither needs those of the other."""
    gateway = load(made / "edge.toml", environ={})
    lines = (made / "projector.env").read_text().splitlines()
    projector = load(environ=dict(line.split("=", 1) for line in lines))
    for settings, name in ((gateway, "gateway"), (projector, "projector")):
        assert settings.broker.username == name
        assert settings.broker.password == (made / name / "broker_password").read_text()
        assert settings.postgres.dsn.startswith(f"postgresql://edge_{name}:")
        assert settings.broker.tls_key_file == str(made / name / "broker.key")
    assert gateway.redis.url == "redis://127.0.0.1:6379/0"
    assert projector.redis.url.startswith("redis://projector:")
    assert f"sh {made}/run.sh" in (made / "README.txt").read_text()


def test_the_lists_are_in_the_files(made: Path) -> None:
    """Users, roles and rights of the files are those of the lists, and nobody else's."""
    users = (made / "redis/users.acl").read_text().splitlines()
    assert users[0] == "user default off"
    assert [line.split()[1] for line in users[1:]] == list(REDIS_USERS)
    for line in users[1:]:
        word = (made / line.split()[1] / "redis_password").read_text()
        assert f" #{hashlib.sha256(word.encode()).hexdigest()} resetchannels -@all +" in line
    sql = (made / "postgres/roles.sql").read_text()
    assert set(re.findall(r"\\set (\w+) edge_", sql)) == set(ROLES)
    for kind, rights in ROLES.items():
        granted = set(re.findall(rf'GRANT .* ON (\w+) TO "edge_{kind}"', sql))
        assert granted == {right.name for right in rights if right.kind == "TABLE"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--host", "broker_1"), "--host: 'broker_1' is neither an address nor a name"),
        (("--host", "10.0.0"), "--host: '10.0.0' is neither an address nor a name"),
        (("--host", "a..b"), "--host: 'a..b' is neither"),
        (("--host", "x" * 64), "--host: "),
        (("--host", "fe80::1%eth0"), "--host: 'fe80::1%eth0' is neither"),
        (("--bind", "every where"), "--bind: 'every where' is neither"),
        (("--port", "70000"), "--port: expected a port from 1 to 65535"),
        (("--port", "8884"), "--inner-port: the same as --port"),
        (("--postgres", "db.example"), "--postgres: expected a URL such as"),
        (("--postgres", "postgresql://db.example:99999/edge"), "--postgres: the port has to be"),
        (("--postgres", "postgresql://me:x@db.example/edge"), "--postgres: without a user"),
        (("--postgres", "postgresql://db.example"), "--postgres: name the database"),
        (("--postgres", 'postgresql://db.example/a"b'), "--postgres: name the database"),
        (("--redis", "http://x"), "--redis: expected a URL such as"),
        (("--redis", "redis://:word@x"), "--redis: without a user"),
        (("--http", "everywhere"), "--http: expected an address such as"),
        (("--http", "0.0.0.0:70000"), "--http: expected an address such as"),
        (("--topic", "plant/telemetry"), "--topic: 'plant/telemetry' has no level {device_id}"),
        (("--topic", "plant/x_{device_id}"), "has no level {device_id}"),
        (("--topic", "{a...}/{device_id}"), "has several levels before {device_id}"),
        (("--topic", "gateway/{device_id}"), "--topic: a device could publish on the internal topic"),
        (("--topic", "+/{device_id}/up"), "--topic: a device could publish on the internal topic"),
        (("--topic", "a/{device_id"), "--topic: "),
        (("--events-topic", "a/#"), "--events-topic: 'a/#' cannot be one"),
        (("--sparkplug", "a/b"), "--sparkplug: 'a/b' cannot be one"),
        (("--new-passwords",), "--new-passwords: replaces what is there, so say --force too"),
        (("--renew",), "no site of `gateway init`, so nothing to renew"),
        (("--cert", "x.crt"), "--cert, --key: one needs the other"),
        (("--cert", "/nowhere.crt", "--key", "x"), "--cert: cannot read /nowhere.crt: No such file"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    """It is told by its option with exit code 2, and nothing is written."""
    done = init(tmp_path / "site", *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert not (tmp_path / "site").exists()


def test_folders_that_cannot_be(tmp_path: Path) -> None:
    """A name that shells take apart, a file in the way, and a folder that cannot be written are told."""
    (tmp_path / "file").touch()
    for folder, said in (
        (tmp_path / "a b", "a folder's name of letters, digits"),
        (tmp_path / "file", f"{tmp_path}/file"),
        (Path("/proc/site"), "/proc/site: cannot be written"),
    ):
        done = init(folder)
        assert done.exit_code == 2, done.output
        assert said in done.stderr


def test_nobody_to_ask(tmp_path: Path) -> None:
    """Without a terminal and --yes it asks nobody, and says so."""
    done = CliRunner().invoke(main, ["init", str(tmp_path / "site")], input="\n" * 9)
    assert (done.exit_code, done.stderr[:13]) == (2, "error: --yes:")


def test_what_is_not_said_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each question has a suggestion, and what was said by options is not asked."""
    monkeypatch.setattr(command, "_somebody_is_there", lambda: True)
    said = ["init", str(tmp_path / "site"), "--redis", "redis://127.0.0.1:7000/3"]
    typed = "broker.example, 10.0.0.7\nn\n\npsql -U postgres\nplants/{device_id}/up\n"
    done = CliRunner().invoke(main, said, input=typed)
    assert done.exit_code == 0, done.output
    assert "Redis" not in done.stdout
    kept = json.loads((tmp_path / "site/answers.json").read_text())
    assert (kept["hosts"], kept["broker_here"]) == (["broker.example", "10.0.0.7"], False)
    assert (kept["postgres"], kept["psql"]) == ("postgresql://127.0.0.1:5432/edge", "psql -U postgres")
    assert (kept["redis"], kept["topics"]) == ("redis://127.0.0.1:7000/3", ["plants/{device_id}/up"])


def test_nothing_is_overwritten_and_secrets_stay(tmp_path: Path) -> None:
    """What is there is refused; --force makes all but secrets anew, --new-passwords passwords too."""
    folder = tmp_path / "site"
    assert init(folder).exit_code == 0
    first = contents(folder)
    refused = init(folder)
    assert refused.exit_code == 2
    assert "is there already, and nothing is overwritten" in refused.stderr
    assert contents(folder) == first
    given = CliRunner().invoke(main, ["devices", "password", "--site", str(folder), "pump-7"])
    assert given.exit_code == 0
    (folder / "edge.toml").write_text("# mine")
    assert init(folder, "--force", "--topic", "plants/{region}/{device_id}/up").exit_code == 0
    second = contents(folder)
    assert second.pop("edge.toml.old") == "# mine"
    assert {"plants/{region}/{device_id}/up"} == {
        each["topic"] for each in tomllib.loads(second["edge.toml"])["route"]
    }
    assert "pattern write plants/+/%u/#\n" in second["mosquitto/acl"]
    assert "topic read plants/+/+/#\n" in second["mosquitto/acl"]
    secrets = [name for name in first if name.endswith(("_password", ".key", ".crt", "dsn", "redis_url"))]
    assert len(secrets) == 23
    assert [name for name in secrets if first[name] != second[name]] == []
    assert "pump-7" in broker.read_passwords(second["mosquitto/passwords"])
    assert init(folder, "--force", "--new-passwords").exit_code == 0
    third = contents(folder)
    kept = [name for name in secrets if first[name] == third[name]]
    assert sorted(kept) == sorted(name for name in secrets if name.endswith((".key", ".crt")))
    assert json.loads(third["answers.json"])["topics"] == ["plants/{region}/{device_id}/up"]
    hashes = [broker.read_passwords(each["mosquitto/passwords"])["pump-7"] for each in (second, third)]
    assert hashes[0] == hashes[1]


def test_other_names_want_another_certificate(tmp_path: Path) -> None:
    """With --force and other names the certificates are for these, by the same authority."""
    folder, long = tmp_path / "site", f"{'long-' * 11}name.{'of-a-cloud.' * 9}example"
    assert init(folder, "--http", "0.0.0.0:9102").exit_code == 0
    authority = (folder / "ca.crt").read_text()
    others = ["init", str(folder), "--yes", "--force", "--host", long, "--host", "2001:DB8::7"]
    assert CliRunner().invoke(main, others).exit_code == 0
    for name in ("mosquitto/server.crt", "projector/http.crt"):
        names = hosts_of((folder / name).read_text())
        assert names == [long, "localhost", "2001:db8::7", "127.0.0.1", "::1"]
    assert (folder / "ca.crt").read_text() == authority
    (folder / "owner/ca.key").unlink()
    refused = init(folder, "--force")
    assert "owner/ca.key: needed for certificates, and not there" in refused.stderr


def test_a_folder_that_was_half_made(tmp_path: Path, made: Path) -> None:
    """Where somebody was cut off between two files --force makes the rest, and all of it fits."""
    names = ["owner/ca.key", "mosquitto/ca.crt", "ca.crt", "gateway/broker.crt", "gateway/broker.key"]
    for count in (1, 2, 4, 5):
        folder = tmp_path / str(count)
        for name in names[:count]:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text((made / name).read_text())
        assert init(folder, "--force").exit_code == 0
        ca = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
        assert public_key(folder / "owner/ca.key") == ca.public_key()
        assert (folder / "ca.crt").read_text() == (folder / "mosquitto/ca.crt").read_text()
        for name in ("mosquitto/server", "gateway/broker", "projector/broker"):
            issued = x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())
            issued.verify_directly_issued_by(ca)
            assert public_key(folder / f"{name}.key") == issued.public_key()


def test_without_the_authoritys_key(tmp_path: Path) -> None:
    """Its key may be kept elsewhere: what is there stays, and only new certificates want it."""
    folder = tmp_path / "site"
    assert init(folder).exit_code == 0
    (folder / "owner/ca.key").unlink()
    authority = (folder / "ca.crt").read_text()
    assert init(folder, "--force").exit_code == 0
    assert (folder / "ca.crt").read_text() == authority
    renewed = CliRunner().invoke(main, ["init", str(folder), "--renew"])
    assert renewed.exit_code == 2
    assert "owner/ca.key: needed for certificates, and not there" in renewed.stderr


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with certificates that somebody else made."""
    folder = tmp_path_factory.mktemp("given")
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.crt"))
    other.cert_pem.write_to_path(str(folder / "other-ca.crt"))
    old = datetime.now(UTC) - timedelta(days=1)
    for name, certificate in {
        "good": authority.issue_cert("broker.example"),
        "other": authority.issue_cert("broker.example"),
        "elsewhere": authority.issue_cert("elsewhere.example"),
        "expired": authority.issue_cert("broker.example", not_after=old),
    }.items():
        certificate.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        for pem in certificate.cert_chain_pems:
            pem.write_to_path(str(folder / f"{name}.crt"), append=True)
    (folder / "none.crt").write_text("nothing")
    return folder


@pytest.mark.parametrize(
    ("cert", "key", "ca", "said"),
    [
        ("good", "other", "ca", "--key: {0}/other.key is not the key of the certificate {0}/good.crt"),
        ("expired", "expired", "ca", "refuses it: certificate has expired"),
        ("elsewhere", "elsewhere", "ca", "reaches it as broker.example refuses it: Hostname mismatch"),
        ("good", "good", "other-ca", "refuses it: unable to get local issuer certificate"),
        ("none", "good", "ca", "--cert, --key: {0}/none.crt and {0}/good.key cannot be used"),
        ("good", "good", "none", "--ca: {0}/none.crt holds no certificate in PEM"),
    ],
)
def test_certificates_that_clients_refuse(
    tmp_path: Path, given: Path, cert: str, key: str, ca: str, said: str
) -> None:
    """What a client would say of them is said at once, with exit code 2."""
    files = ("--cert", f"{given}/{cert}.crt", "--key", f"{given}/{key}.key", "--ca", f"{given}/{ca}.crt")
    done = init(tmp_path / "site", *files)
    assert done.exit_code == 2
    assert said.format(given) in done.stderr
    assert not (tmp_path / "site").exists()


def test_a_given_certificate_is_the_brokers(tmp_path: Path, given: Path) -> None:
    """It goes where the broker has its own; with ours gateway and projector come in."""
    folder = tmp_path / "site"
    files = ("--cert", f"{given}/good.crt", "--key", f"{given}/good.key", "--ca", f"{given}/ca.crt")
    assert init(folder, *files).exit_code == 0
    assert (folder / "mosquitto/server.crt").read_text() == (given / "good.crt").read_text()
    assert (folder / "ca.crt").read_text() == (given / "ca.crt").read_text()
    assert (folder / "mosquitto/ca.crt").read_text() != (given / "ca.crt").read_text()
    settings = load(folder / "edge.toml", environ={})
    assert (settings.broker.host, settings.broker.tls_ca_file) == ("broker.example", str(folder / "ca.crt"))
    names = ("answers.json", "edge.toml", "ca.crt", "mosquitto/server.crt", "mosquitto/server.key")
    first = [(folder / name).read_text() for name in names]
    assert init(folder, "--force").exit_code == 0
    refused = CliRunner().invoke(
        main, ["init", str(folder), "--yes", "--force", "--host", "elsewhere.example"]
    )
    assert "reaches it as elsewhere.example refuses it" in refused.stderr
    assert [(folder / name).read_text() for name in names] == first


@pytest.mark.parametrize(
    "name", ["", "a/b", "a+", "#", "a:b", "$a", "a b", "gateway", "Gateway-0", "projector-0", "x" * 201]
)
def test_names_that_no_device_has(made: Path, name: str) -> None:
    """What would be another's topic, line or client id is no name of a device."""
    done = CliRunner().invoke(main, ["devices", "password", "--site", str(made), "--", name])
    assert done.exit_code == 2
    assert done.stdout == ""


def test_a_page_that_others_reach(tmp_path: Path) -> None:
    """It has TLS and tokens: one is made, those that were made since stay, and the gateway reads neither."""
    folder = tmp_path / "site"
    assert init(folder, "--http", "0.0.0.0:9102").exit_code == 0
    token = (folder / "api/token").read_text()
    settings = load(folder / "edge.toml", environ={})
    assert refuse_open("projector", settings.projector) is None
    assert hosts_of((folder / "projector/http.crt").read_text())[0] == "broker.example"
    assert [each.hash for each in tokens.read(settings.projector.tokens_file)] == [tokens.hash_of(token)]
    wall = tokens.add(settings.projector.tokens_file, "wall", (tokens.READ,))
    assert init(folder, "--force", "--new-passwords").exit_code == 0
    new = (folder / "api/token").read_text()
    assert new != token
    hashes = {each.hash for each in tokens.read(settings.projector.tokens_file)}
    assert hashes == {tokens.hash_of(new), tokens.hash_of(wall)}


def test_servers_elsewhere(tmp_path: Path) -> None:
    """What runs on other machines is not started here, and has no files that are for here alone."""
    folder = tmp_path / "site"
    elsewhere = ("--broker-elsewhere", "--redis", "rediss://redis.example:6380/2")
    assert (
        init(folder, *elsewhere, "--postgres", "postgresql://db.example/site?sslmode=verify-full").exit_code
        == 0
    )
    assert "redis-server" not in (folder / "servers.sh").read_text()
    assert "mosquitto -c" not in (folder / "servers.sh").read_text()
    assert not (folder / "redis/redis.conf").exists()
    assert "\nlistener 8884\n" in (folder / "mosquitto/mosquitto.conf").read_text()
    dsn = (folder / "projector/postgres_dsn").read_text()
    assert dsn.startswith("postgresql://site_projector:")
    assert dsn.endswith("@db.example/site?sslmode=verify-full")
    assert (folder / "projector/redis_url").read_text().endswith("@redis.example:6380/2")
    assert load(folder / "edge.toml", environ={}).broker.host == "broker.example"


@pytest.mark.parametrize(
    ("servers", "said"),
    [
        ({}, []),
        ({"postgres": "postgresql://db.example/edge"}, ["--postgres: db.example"]),
        ({"postgres": "postgresql://db.example/edge?sslmode=prefer"}, ["--postgres: db.example"]),
        ({"postgres": "postgresql://db.example/edge?sslmode=require"}, []),
        ({"postgres": "postgresql:///edge?host=/run/postgresql"}, []),
        ({"redis": "redis://10.0.0.9/0"}, ["--redis: 10.0.0.9"]),
        ({"redis": "rediss://10.0.0.9/0"}, []),
    ],
)
def test_what_can_be_read_on_the_way_is_told(servers: dict[str, str], said: list[str]) -> None:
    """A server on another machine that is spoken to without TLS."""
    told = answers.in_the_clear(Answers(hosts=("b",), **servers))  # type: ignore[arg-type]  # URLs alone
    assert [line.partition(" is ")[0] for line in told] == said


@pytest.mark.parametrize(
    ("url", "prefix"),
    [
        ("redis+cluster://127.0.0.1:7000,127.0.0.1:7001/", "{edge}:"),
        ("rediss+sentinel://[::1]:26379,redis.example/edge/2", ""),
    ],
)
def test_a_redis_of_several_servers(tmp_path: Path, url: str, prefix: str) -> None:
    """None is started here; in a cluster all keys are in one slot, and those are the users'."""
    folder = tmp_path / "site"
    assert init(folder, "--redis", url).exit_code == 0
    assert not (folder / "redis/redis.conf").exists()
    settings = load(folder / "edge.toml", environ={})
    assert (settings.redis.url, settings.redis.prefix) == (url, prefix)
    scheme, _, rest = url.partition("://")
    word = (folder / "projector/redis_password").read_text()
    assert (folder / "projector/redis_url").read_text() == f"{scheme}://projector:{word}@{rest}"
    users = (folder / "redis/users.acl").read_text()
    assert f" ~{prefix}device:* " in users
    assert " +cluster|slots " in users


def test_addresses_of_ipv6(tmp_path: Path) -> None:
    """Redis listens where the projector looks for it, and people read where devices connect."""
    folder = tmp_path / "site"
    options = ("--yes", "--host", "2001:db8::7", "--redis", "redis://[::1]:7000/0")
    assert CliRunner().invoke(main, ["init", str(folder), *options]).exit_code == 0
    assert "\nbind ::1\nport 7000\n" in (folder / "redis/redis.conf").read_text()
    assert " [2001:db8::7]:8883," in (folder / "README.txt").read_text()


def test_who_gives_passwords_at_once(tmp_path: Path) -> None:
    """One waits for the other, and both passwords count."""
    folder = tmp_path / "site"
    assert init(folder).exit_code == 0
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: devices.give(Folder(folder, force=True), [f"pump-{n}"]), range(16)))
    kept = broker.read_passwords((folder / "mosquitto/passwords").read_text())
    assert {f"pump-{n}" for n in range(16)} < set(kept)


def test_folders_above_are_closed_to_others(tmp_path: Path) -> None:
    """Folders that are made on the way are nobody else's to write, whatever the umask."""
    before = os.umask(0)
    try:
        assert init(tmp_path / "a/b/site").exit_code == 0
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / each).stat().st_mode) for each in ("a", "a/b", "a/b/site")] == [
        0o755
    ] * 3


def test_a_folder_that_is_no_site(tmp_path: Path) -> None:
    """It is said to be none."""
    done = CliRunner().invoke(main, ["devices", "password", "--site", str(tmp_path), "pump-7"])
    assert (done.exit_code, "no site of `gateway init`" in done.stderr) == (2, True)


def test_the_brokers_limits_are_those_of_the_repository() -> None:
    """What may wait, and what survives, is the same in both files."""
    assert (ROOT / "mosquitto.conf").read_text().endswith(text("mosquitto.conf"))


def test_sparkplugs_topics_are_in_the_list() -> None:
    """A host application says that it is there and asks for births; an edge node sends its own alone."""
    rules = broker.rules(Answers(hosts=("b",), sparkplug="site")).splitlines()
    for line in (
        *("pattern write spBv1.0/+/+/%u", "pattern write spBv1.0/+/+/%u/+", "pattern read spBv1.0/+/NCMD/%u"),
        *("topic readwrite spBv1.0/STATE/site", "topic write spBv1.0/+/NCMD/+", "topic read spBv1.0/+/+/+"),
    ):
        assert line in rules


def test_what_servers_keep_of_a_password() -> None:
    """It can be worked out from the password by what the formats say, and each time with another salt."""
    _, kind, rounds, salt, digest = words.for_mosquitto("word").split("$")
    assert (kind, rounds, len(b64decode(salt))) == ("7", "101", 12)
    assert b64decode(digest) == hashlib.pbkdf2_hmac("sha512", b"word", b64decode(salt), 101)
    assert re.fullmatch(
        r"SCRAM-SHA-256\$4096:[\w+/=]{24}\$[\w+/=]{44}:[\w+/=]{44}", words.for_postgres("word")
    )
    assert words.for_postgres("word") != words.for_postgres("word")
    assert re.fullmatch(r"[\w-]{32}", words.new_word())


def test_certificates_last(made: Path) -> None:
    """The broker's is for its names and this machine, and for 825 days."""
    authority = certificates.make_authority("ours", NOW)
    pair = certificates.issue(authority, "b", NOW, hosts=["broker.example", "10.0.0.7", "::1"])
    assert hosts_of(pair.certificate) == ["broker.example", "10.0.0.7", "::1"]
    names = hosts_of((made / "mosquitto/server.crt").read_text())
    assert names == ["broker.example", "localhost", "127.0.0.1", "::1"]


def test_answers_are_kept_as_they_were(made: Path) -> None:
    """What was answered is read back, and says what devices may publish on."""
    kept = json.loads((made / "answers.json").read_text())
    assert kept["hosts"] == ["broker.example"]
    several = Answers(hosts=("b",), topics=("$share/g/a/{x}/{device_id}/{metric}", "{device_id}"))
    assert several.below == ["a/+/%u/#", "%u/#"]
    with pytest.raises(ConfigurationError, match="internal topic"):
        answers.check(several)


def test_root_gives_files_to_who_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is an account that a server runs under, its folder is that account's.

    Root follows no link from there: it would write what it reads into a file of that account. A folder
    that the account does not reach is told.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    folder = Folder(tmp_path / "site", accounts={"mosquitto": "nobody", "redis": "no-such-account"})
    folder.private("mosquitto/passwords", "x")
    folder.private("redis/users.acl", "x")
    folder.write()
    owners = [
        (tmp_path / "site" / name).stat().st_uid for name in ("mosquitto", "mosquitto/passwords", "redis")
    ]
    assert owners[0] == owners[1] != 0
    assert owners[2] == 0
    closed = tmp_path / "closed"
    closed.mkdir(0o700)
    inside = Folder(closed / "not-yet/site", accounts={"mosquitto": "nobody", "redis": "no-such-account"})
    assert inside.unreachable() is not None
    assert f"is closed to nobody, and servers read files in {closed}/not-yet/site" in str(
        inside.unreachable()
    )
    monkeypatch.setattr(folders, "_passable", lambda _: True)
    assert inside.unreachable() is None
    (tmp_path / "mosquitto").symlink_to("/etc/hostname")
    (tmp_path / "site/mosquitto/passwords").unlink()
    (tmp_path / "site/mosquitto/passwords").symlink_to(tmp_path / "mosquitto")
    with pytest.raises(ConfigurationError, match="mosquitto/passwords: cannot be read"):
        folder.read("mosquitto/passwords")
