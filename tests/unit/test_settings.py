from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING

import msgspec
import pytest

from gateway.decode.dialects import complete_routes
from runtime.errors import ConfigurationError
from runtime.settings import Broker, Limit, Settings, duration_s, host_port, load, tls_context
from runtime.settings.shown import effective

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Writes the configuration file."""

    def make(text: str) -> Path:
        path = tmp_path / "edge.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return make


def refusal(path: Path | None = None, environ: Mapping[str, str] | None = None) -> str:
    """The message with which a configuration is refused, with exit code 2."""
    with pytest.raises(ConfigurationError) as caught:
        load(path, environ or {})
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_without_anything_the_defaults_are_for_localhost() -> None:
    """Without a file every command works against localhost defaults, those that INTERFACE lists."""
    settings = load(None, {})
    assert (settings.broker.host, settings.broker.port, settings.broker.driver) == ("127.0.0.1", 1883, "auto")
    assert settings.broker.client_id == "gateway-0"
    assert settings.events.topic == "gateway/events/v1"
    assert settings.postgres.dsn == "postgresql://postgres@127.0.0.1:5432/postgres"
    assert settings.redis.url == "redis://127.0.0.1:6379/0"
    assert (settings.gateway.stream, settings.gateway.batch_messages) == (0, 1000)
    assert (settings.gateway.batch_linger_ms, settings.gateway.dedup_window) == (20, "24h")
    assert (settings.gateway.http, settings.projector.http) == ("127.0.0.1:9101", "127.0.0.1:9102")
    [route] = settings.route
    assert (route.topic, route.format, route.identity) == ("devices/{device_id}/telemetry", "json", "key")


def test_file_sets_what_it_names(write: Callable[[str], Path]) -> None:
    """A key of the file replaces the default, and only that one."""
    path = write('[broker]\nhost = "mqtt.example"\n[[route]]\ntopic = "a"\n[[route]]\ntopic = "b"\nqos = 0\n')
    settings = load(path, {})
    assert (settings.broker.host, settings.broker.port) == ("mqtt.example", 1883)
    assert [(route.topic, route.qos) for route in settings.route] == [("a", 1), ("b", 0)]


def test_the_file_can_be_named_by_the_environment(write: Callable[[str], Path]) -> None:
    """`EDGE_CONFIG` names the file when no option does."""
    path = write("[broker]\nport = 1884\n")
    assert load(None, {"EDGE_CONFIG": str(path)}).broker.port == 1884
    assert load(None, {"EDGE_CONFIG": ""}).broker.port == 1883


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[brokr]", "brokr: no such section; did you mean broker?"),
        ("[broker]\nprot = 1", "broker.prot: no such key; did you mean port?"),
        ("[[route]]\ntopik = 'x'", "route[0].topik: no such key; did you mean topic?"),
        ("[[route]]\n[[route]]\nzzz = 'x'", "route[1].zzz: no such key; see the configuration table"),
        ("broker = 3", "broker: expected a table"),
        ("route = 3", "route: expected a list of tables, [[route]]"),
        ("route = [3]", "route[0]: expected a table"),
        ("route = []", "route: at least one [[route]] is needed"),
        ("[broker]\nport = 'x'", "broker.port: expected a port from 1 to 65535, got str"),
        ("[broker]\nport = 65536", "broker.port: expected a port from 1 to 65535"),
        ("[broker]\nport = 0", "broker.port: expected a port from 1 to 65535"),
        ("[broker]\nport = true", "broker.port: expected a port from 1 to 65535, got bool"),
        ("[broker]\ntls = 'yes'", "broker.tls: expected true or false, got str"),
        ("[broker]\nhost = ''", "broker.host: expected text that is not empty"),
        ("[broker]\nclient_id = ''", "broker.client_id: expected 1 to 128 characters"),
        (
            "[broker]\ndriver = 'mqtt6'",
            "broker.driver: expected one of auto, mqtt5, mqtt311, aiomqtt, got 'mqtt6'",
        ),
        ("[broker]\nkeepalive_s = 1", "broker.keepalive_s: expected int >= 5"),
        ("[broker]\nsession_expiry = '7 days'", "broker.session_expiry: expected a duration such as "),
        ("[broker]\nsession_expiry = '500ms'", "broker.session_expiry: shorter than "),
        ("[gateway]\ndedup_window = '1ms'", 'gateway.dedup_window: shorter than "1m", the least '),
        ("[gateway]\nshutdown_timeout = '1ms'", 'gateway.shutdown_timeout: shorter than "1s"'),
        ("[broker]\nsession_expiry = '99999d'", "broker.session_expiry: longer than ten years"),
        ("[gateway]\nmax_ahead = '31d'", 'gateway.max_ahead: longer than "30d"'),
        ("[gateway]\ndedup_window = '0h'", "gateway.dedup_window: expected a duration such as "),
        ("[gateway]\ndedup_window = 24", "gateway.dedup_window: expected a duration such as "),
        ("[gateway]\nbatch_messages = 0", "gateway.batch_messages: expected int >= 1"),
        ("[gateway]\nbatch_messages = 30000", "gateway.batch_messages: expected int <= 20000"),
        ("[gateway]\nbatch_linger_ms = 1.5", "gateway.batch_linger_ms: expected int, got float"),
        ("[gateway]\nhttp = '9101'", "gateway.http: expected an address such as "),
        ("[projector]\nhttp = 'localhost:99999'", "projector.http: the port is beyond 65535"),
        (
            "[events]\ntopic = 'events/#'",
            "events.topic: expected a topic of 1 to 1000 characters without + and #",
        ),
        ("[events]\ndriver = 'x'", "events.driver: expected one of auto, mqtt5, mqtt311, aiomqtt, got 'x'"),
        ("[[route]]\nqos = 3", "route[0].qos: expected one of 0, 1, 2, got 3"),
        (
            "[[route]]\n[route.csv]\ndelimeter = ';'",
            "route[0].csv.delimeter: no such key; did you mean delimiter?",
        ),
        ("[[route]]\n[route.csv]\ncolumns = ['a']", 'route[0].csv: has no effect with format = "json"'),
        (
            "[[route]]\n[route.bytes]\npreset = 'x'",
            'route[0].bytes.preset: expected one of "", cayenne-lpp, ',
        ),
        ("[[route]]\n[[route.bytes.field]]\nname = 't'", "route[0].bytes.field[0].type: is needed"),
        ("[[route]]\nignore = 'x'", "route[0].ignore: expected true, false or a list of names"),
        ("[[route]]\nignore = ['a', '']", "route[0].ignore[1]: expected a name of 1 to 512 characters"),
        ("[[route]]\ntags = 'x'", "route[0].tags: expected a list of paths such as "),
        ("[[route]]\nstates = { OFF = 0, ON = '1' }", "route[0].states.ON: expected a number, got str"),
        ("[[route]]\nstates = { ON = nan }", "route[0].states.ON: expected a finite number"),
        ("[[route]]\nrename = { a = 1 }", "route[0].rename.a: expected the name of a metric, got int"),
        ("[[route]]\n[[route.example]]", "route[0].example[0].topic: is needed"),
        ("[[route]]\nidentity = 'time'", "route[0].identity: expected one of key, key+time, got 'time'"),
        (
            "[broker]\ntransport = 'websockets'\ndriver = 'mqtt5'",
            'broker.transport: "websockets" needs driver',
        ),
        (
            "[events]\ntransport = 'websockets'\ndriver = 'mqtt5'",
            'events.transport: "websockets" needs driver',
        ),
        ("[broker]\ntls = true\ntls_key_file = 'k'", "broker.tls_key_file: needs broker.tls_cert_file"),
        ("[broker]\ntls_ca_file = 'ca.pem'", "broker.tls_ca_file: has no effect without broker.tls = true"),
        ("[events]\ntls_ca_file = 'ca.pem'", "events.tls_ca_file: has no effect without events.tls = true"),
        ("limit = 3", "limit: expected a list of tables, [[limit]]"),
        ("[[limit]]\nwarn = 1", "limit[0].metric: is needed"),
        ("[[limit]]\nmetric = ''", "limit[0].metric: expected text that is not empty"),
        ("[[limit]]\nmetric = 't'", "limit[0]: needs warn, crit or both"),
        ("[[limit]]\nmetric = 'seen_ms'\nwarn = 1", "limit[0].metric: seen_ms has no last value"),
        ("[[limit]]\nmetric = 't'\nfro = '1m'", "limit[0].fro: no such key; did you mean for?"),
        ("[[limit]]\nmetric = 't'\nwarn = '30'", "limit[0].warn: expected a number, got str"),
        ("[[limit]]\nmetric = 't'\ncrit = true", "limit[0].crit: expected a number, got bool"),
        ("[[limit]]\nmetric = 't'\ncrit = nan", "limit[0].crit: expected a finite number"),
        ("[[limit]]\nmetric = 't'\nwarn = 2\ncrit = 1", "limit[0].warn: has to be below crit"),
        ("[[limit]]\nmetric = 't'\nwarn = 1\ncrit = 1", "limit[0].warn: has to be below crit"),
        (
            "[[limit]]\nmetric = 't'\nwhen = 'below'\nwarn = 1\ncrit = 2",
            "limit[0].warn: has to be above crit",
        ),
        ("[[limit]]\nmetric = 't'\nwhen = 'over'\nwarn = 1", "limit[0].when: expected one of above, below"),
        ("[[limit]]\nmetric = 't'\nwarn = 1\nfor = '5'", "limit[0].for: expected a duration such as "),
        ("[[limit]]\nmetric = 't'\nwarn = 1\nfor = '8d'", 'limit[0].for: longer than "7d"'),
        (
            "[[limit]]\nmetric = 't'\nwarn = 1\n[[limit]]\nmetric = 't'\ndevice = 'a'\nwarn = 2",
            "limit[1]: never looked at, because limit[0] takes every device",
        ),
        ("[broker]\nclient_id = 'x'\n[projector]\nclient_id = 'x'", "projector.client_id: equal to broker"),
    ],
)
def test_refusals_name_the_key_and_what_would_be_right(
    write: Callable[[str], Path], text: str, message: str
) -> None:
    """Unknown keys, wrong types and impossible values are refused at start with the key's path."""
    assert refusal(write(text)).startswith(message)


def test_a_file_that_cannot_be_read(tmp_path: Path, write: Callable[[str], Path]) -> None:
    """A missing, unreadable or broken file is named, with the place of the mistake."""
    assert refusal(tmp_path / "none.toml").endswith(
        "cannot read the configuration file: No such file or directory"
    )
    assert "cannot read the configuration file" in refusal(tmp_path)
    path = write("[broker]\nport =\n")
    assert refusal(path) == f"{path}: not valid TOML: Invalid value (at line 2, column 7)"
    path.write_bytes(b"[broker]\nhost = '\xff'")
    assert refusal(path) == f"{path}: not UTF-8: invalid start byte at byte 17"


def test_the_environment_wins_over_the_file(write: Callable[[str], Path]) -> None:
    """Every key is also `EDGE_<SECTION>_<KEY>`, which wins."""
    path = write("[broker]\nport = 1884\nhost = 'file'\n")
    settings = load(path, {"EDGE_BROKER_PORT": "1885", "HOME": "/", "EDGE_BROKER_TLS": "true"})
    assert (settings.broker.port, settings.broker.host, settings.broker.tls) == (1885, "file", True)


def test_every_key_has_its_variable() -> None:
    """Whatever stands in the file has a variable of its own: a value is taken, or refused as this key's."""
    for section in msgspec.structs.fields(Settings):
        for key in getattr(section.type, "__struct_fields__", ()):
            variable = f"EDGE_{section.name}_{key}".upper()
            said = ""
            try:
                load(None, {variable: "?"})
            except ConfigurationError as error:
                said = str(error)
            assert not said or f"{section.name}.{key}" in said, variable


def test_routes_come_from_the_environment_as_json() -> None:
    """`EDGE_ROUTE` is a JSON array of what `[[route]]` holds."""
    text = '[{"topic": "a/{device_id}", "identity": "key+time"}, {"topic": "b"}]'
    settings = load(None, {"EDGE_ROUTE": text})
    assert [(route.topic, route.identity) for route in settings.route] == [
        ("a/{device_id}", "key+time"),
        ("b", "key"),
    ]


def test_routes_of_dialects_come_from_the_environment_too() -> None:
    """A dialect in `EDGE_ROUTE` stands for its routes in their place, with what is said beside it."""
    dialect = '{"dialect": "tasmota/sensor", "timezone": "Europe/Berlin", "prefix": "x/"}'
    text = f'[{{"topic": "a/{{device_id}}"}}, {dialect}]'
    first, second = load(None, {"EDGE_ROUTE": text}, complete_routes).route
    assert (first.topic, first.dialect) == ("a/{device_id}", "")
    assert (second.topic, second.dialect) == ("x/tele/{device_id}/SENSOR", "tasmota/sensor")
    assert (second.timezone, second.time) == ("Europe/Berlin", "Epoch | Time")


def test_units_are_a_table_with_keys_of_its_own(write: Callable[[str], Path]) -> None:
    """`[units]` names any metric, also one with dots; `EDGE_UNITS` is the same in JSON and replaces it."""
    path = write("[units]\ntemperature = '°C'\n'meter.total' = 'kWh'\n")
    assert load(path, {}).units == {"temperature": "°C", "meter.total": "kWh"}
    assert load(path, {"EDGE_UNITS": '{"speed": "km/h"}'}).units == {"speed": "km/h"}
    path = write("[units]\ntemperature = 3\n")
    assert refusal(path, {}).startswith("units.temperature: expected a unit of at most 12 characters")
    assert refusal(write("units = 3\n"), {}) == "units: expected a table"


def test_limits_are_tables_and_json(write: Callable[[str], Path]) -> None:
    """Both sides of a metric have a limit of their own, and the special stands before the general."""
    text = (
        "[[limit]]\nmetric = 't'\ndevice = 'freezer-*'\nwarn = -15\nfor = '5m'\n"
        "[[limit]]\nmetric = 't'\nwarn = 30\ncrit = 35.5\n"
        "[[limit]]\nmetric = 't'\nwhen = 'below'\ncrit = 2\n"
    )
    limits = load(write(text), {}).limit
    assert limits == (
        Limit("t", device="freezer-*", warn=-15.0, for_="5m"),
        Limit("t", warn=30.0, crit=35.5),
        Limit("t", when="below", crit=2.0),
    )
    json = '[{"metric": "t", "region": "north", "crit": 9, "for": "1h"}]'
    assert load(write(text), {"EDGE_LIMIT": json}).limit == (Limit("t", region="north", crit=9.0, for_="1h"),)


def test_limits_are_bounded() -> None:
    """A pattern stands for many devices; a table for each of thousands is a mistake."""
    table = '{"metric": "t", "device": "d", "warn": 1}'
    assert refusal(None, {"EDGE_LIMIT": f"[{', '.join([table] * 501)}]"}).startswith("limit: more than 500")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("EDGE_UNITS", "[]", "EDGE_UNITS: expected a JSON object"),
        (
            "EDGE_PROJECTOR_GRAFANA_URL",
            "javascript:alert(1)",
            "EDGE_PROJECTOR_GRAFANA_URL (projector.grafana_url): expected an address such as",
        ),
        ("EDGE_BROKR_PORT", "1", "EDGE_BROKR_PORT: no such setting; did you mean EDGE_BROKER_PORT?"),
        ("EDGE_BROKER_PORT", "x", "EDGE_BROKER_PORT (broker.port): expected a port from 1 to 65535"),
        ("EDGE_BROKER_TLS", "maybe", "EDGE_BROKER_TLS (broker.tls): expected true or false"),
        (
            "EDGE_BROKER_DRIVER",
            "x",
            "EDGE_BROKER_DRIVER (broker.driver): expected one of auto, mqtt5, mqtt311, aiomqtt",
        ),
        (
            "EDGE_GATEWAY_DEDUP_WINDOW",
            "1y",
            "EDGE_GATEWAY_DEDUP_WINDOW (gateway.dedup_window): expected a duration",
        ),
        ("EDGE_ROUTE", "{", "EDGE_ROUTE: not valid JSON: "),
        ("EDGE_ROUTE", "{}", "EDGE_ROUTE: expected a JSON array of objects"),
        ("EDGE_ROUTE", '[{"topik": "x"}]', "route[0].topik: no such key; did you mean topic?"),
        ("EDGE_ROUTE", "[]", "route: at least one [[route]] is needed"),
    ],
)
def test_refusals_of_the_environment_name_the_variable(variable: str, value: str, message: str) -> None:
    """A variable that is unknown or wrong is refused by its own name."""
    assert refusal(None, {variable: value}).startswith(message)


def test_a_word_that_means_nothing_elsewhere_is_a_password_here() -> None:
    """`null` is a password like any other, not the lack of one."""
    assert load(None, {"EDGE_EVENTS_PASSWORD": "null"}).events.password == "null"


@pytest.mark.parametrize(
    ("section", "key", "secret"),
    [
        ("broker", "password", "hunter2"),
        ("events", "password", "hunter2"),
        ("postgres", "dsn", "postgresql://u:hunter2@h/d"),
        ("redis", "url", "redis://:hunter2@h"),
    ],
)
def test_secrets_can_stay_in_files(
    write: Callable[[str], Path], tmp_path: Path, section: str, key: str, secret: str
) -> None:
    """Each secret can be read from a file, without its last newline; the environment wins as usual."""
    source = tmp_path / "secret"
    source.write_text(f"{secret}\n", encoding="utf-8")
    path = write(f"[{section}]\n{key}_file = '{source}'\n")
    variable = f"EDGE_{section}_{key}".upper()
    assert getattr(getattr(load(path, {}), section), key) == secret
    assert getattr(getattr(load(None, {f"{variable}_FILE": str(source)}), section), key) == secret
    other = secret.replace("hunter2", "other")
    assert getattr(getattr(load(path, {variable: other}), section), key) == other
    plain = write(f"[{section}]\n{key} = '{other}'\n")
    assert getattr(getattr(load(plain, {f"{variable}_FILE": str(source)}), section), key) == secret


def test_a_secret_given_twice_is_refused(write: Callable[[str], Path], tmp_path: Path) -> None:
    """A secret and its file beside each other are a mistake, because one of them is stale."""
    source = tmp_path / "secret"
    source.write_text("x", encoding="utf-8")
    path = write(f"[broker]\npassword = 'hunter2'\npassword_file = '{source}'\n")
    assert refusal(path) == "broker.password: set either this or broker.password_file"
    environ = {"EDGE_BROKER_PASSWORD": "hunter2", "EDGE_BROKER_PASSWORD_FILE": str(source)}
    assert refusal(None, environ) == "broker.password: set either this or broker.password_file"


def test_a_secret_file_that_cannot_be_used(tmp_path: Path) -> None:
    """A secret's file that is missing, empty or not text is refused by the key that names it."""
    source = tmp_path / "secret"
    environ = {"EDGE_REDIS_URL_FILE": str(source)}
    assert refusal(None, environ) == f"redis.url_file: cannot read {source}: No such file or directory"
    source.write_text(" \n", encoding="utf-8")
    assert refusal(None, environ) == f"redis.url_file: {source} is empty"
    source.write_bytes(b"hunter2\xff")
    assert refusal(None, environ) == f"redis.url_file: {source} is not UTF-8"


@pytest.mark.parametrize(
    "text",
    [
        "[broker]\npassword = ['hunter2']",
        "[postgres]\ndsn = {hunter2 = 1}",
        "[broker]\npassword = 'hunter2",
        "[broker]\npassword = hunter2",
        "[broker]\npassword = 'hunter2'\nport = 'x'",
    ],
)
def test_no_error_quotes_a_secret(write: Callable[[str], Path], text: str) -> None:
    """A value never leaves through an error message, however it was mistyped."""
    assert "hunter2" not in refusal(write(text))


def test_repr_hides_secrets() -> None:
    """Printing the settings shows no password and no connection URL."""
    settings = load(
        None,
        {
            "EDGE_BROKER_PASSWORD": "hunter2",
            "EDGE_EVENTS_PASSWORD": "hunter2",
            "EDGE_POSTGRES_DSN": "postgresql://u:hunter2@h/d",
            "EDGE_REDIS_URL": "redis://:hunter2@h",
            "EDGE_REDIS_API_URL": "redis://api:hunter2@h",
        },
    )
    assert "hunter2" not in repr(settings)
    shown = {each.key: each.value for each in effective(settings, None, {})}
    assert (shown["redis.url"], shown["redis.api_url"]) == ("redis://:***@h", "redis://api:***@h")
    assert "password=***" in repr(settings)
    assert "password=''" in repr(Settings().broker)


def test_events_take_what_they_do_not_set_from_the_broker() -> None:
    """What `[events]` does not set is taken from `[broker]`; what it sets stands, empty or not."""
    settings = load(
        None,
        {
            "EDGE_BROKER_HOST": "devices",
            "EDGE_BROKER_USERNAME": "me",
            "EDGE_BROKER_PASSWORD": "pw",
            "EDGE_BROKER_TLS": "true",
            "EDGE_EVENTS_HOST": "internal",
            "EDGE_EVENTS_TLS": "false",
            "EDGE_EVENTS_USERNAME": "",
        },
    )
    events = settings.events_broker("relay")
    assert (events.host, events.port, events.client_id) == ("internal", 1883, "relay")
    assert (events.username, events.password, events.tls) == ("", "pw", False)
    assert settings.broker.host == "devices"


@pytest.mark.parametrize(
    ("text", "seconds"), [("250ms", 0.25), ("90s", 90), ("15m", 900), ("24h", 86_400), ("7d", 604_800)]
)
def test_durations(text: str, seconds: float) -> None:
    """A duration is a whole number and a unit."""
    assert duration_s(text) == seconds


@pytest.mark.parametrize(
    ("text", "parts"), [("127.0.0.1:9101", ("127.0.0.1", 9101)), ("[::1]:80", ("::1", 80)), ("h:1", ("h", 1))]
)
def test_addresses(text: str, parts: tuple[str, int]) -> None:
    """An address is a host and a port, an IPv6 host in brackets."""
    assert host_port(text) == parts


def test_tls_context(tmp_path: Path) -> None:
    """No TLS is no context; certificate files that cannot be used are refused by their section."""
    assert tls_context(Broker()) is None
    assert tls_context(Broker(tls=True)) is not None
    (tmp_path / "ca.pem").write_text("not a certificate", encoding="utf-8")
    for name in ("none.pem", "ca.pem"):
        with pytest.raises(ConfigurationError, match=r"^events\.tls: cannot use the certificate files /.+: "):
            tls_context(Broker(tls=True, tls_ca_file=str(tmp_path / name)), "events")


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an environment given, the process's own is read."""
    monkeypatch.setitem(os.environ, "EDGE_BROKER_PORT", "1999")
    assert load().broker.port == 1999


def test_host_names() -> None:
    """A list in the file, names with commas between them in the environment; what is no name is refused."""
    assert load(environ={}).projector.hosts == ()
    given = load(environ={"EDGE_PROJECTOR_HOSTS": "edge.example, *.plant.example,*"})
    assert given.projector.hosts == ("edge.example", "*.plant.example", "*")
    assert load(environ={"EDGE_PROJECTOR_HOSTS": ""}).projector.hosts == ()
    for wrong in ("https://edge.example", "edge.example:80", "a*b"):
        with pytest.raises(ConfigurationError, match=r"projector\.hosts.*expected host names such as"):
            load(environ={"EDGE_PROJECTOR_HOSTS": wrong})


@pytest.mark.parametrize(
    ("key", "address", "reason"),
    [
        (
            "postgres.dsn",
            "postgresql://me:hunter2@host:99999/db",
            "the port has to be a number from 1 to 65535",
        ),
        ("postgres.dsn", "postgresql://me:hunter2@host:0/db", "the port has to be a number"),
        ("postgres.dsn", "postgresql://me:hunter2@host:x/db", "the port has to be a number"),
        ("postgres.dsn", "postgresql://me:hun@ter2@host/db", "write characters such as @"),
        ("postgres.dsn", "postgresql://me:hun/ter2@host/db", "write characters such as @"),
        ("postgres.dsn", "postgresql://me:hun#ter2@host/db", "write characters such as @"),
        ("postgres.dsn", "postgresql://me:hun?ter2@host/db", "write characters such as @"),
        ("postgres.dsn", "postgresql://me:hun:ter2@host/db", "write characters such as @"),
        ("postgres.dsn", "postgresql://me:hun ter2@host/db", "there is white space in it"),
        ("postgres.dsn", "mysql://me:hunter2@host/db", "expected a URL such as postgresql://"),
        ("postgres.dsn", "hunter2", "expected a URL such as postgresql://"),
        ("postgres.dsn", "postgresql://me:hunter2@::1:5432/db", "an IPv6 address stands in brackets"),
        ("redis.url", "redis://:hunter2@host:99999/0", "the port has to be a number"),
        ("redis.url", "redis://:hun@ter2@host/0", "write characters such as @"),
        ("redis.url", "http://:hunter2@host/0", "expected a URL such as redis://"),
        ("redis.url", "redis://:hunter2@host/x", "expected the number of a database"),
        ("redis.url", "redis://:hunter2@[::1", "an IPv6 address stands in brackets"),
        ("redis.url", "redis://:hunter2@a:1,b:2/0", "several hosts are those of a cluster, redis+cluster://"),
        ("redis.url", "redis+clusters://:hunter2@a/", "expected a URL such as redis://"),
        ("redis.url", "redis+cluster://:hun@ter2@a,b/", "write characters such as @"),
        ("redis.url", "redis+cluster://:hunter2@a:1,b:x/", "the port has to be a number"),
        (
            "redis.url",
            "redis+cluster://:hunter2@a:1,:2/",
            "a host without a name; expected a URL such as redis+cl",
        ),
        ("redis.url", "redis+cluster://:hunter2@a:1/1", "a Redis Cluster has no database but 0"),
        ("redis.url", "redis+cluster://:hunter2@a:1/?db=1", "a Redis Cluster has no database but 0"),
        ("redis.url", "redis+sentinel://:hunter2@a:1,b", "name behind the hosts what the sentinels watch"),
        ("redis.url", "redis+sentinel://:hunter2@a/s/x", "expected the number of a database"),
    ],
)
def test_an_address_that_cannot_be_one_is_refused_without_quoting_it(
    key: str, address: str, reason: str, tmp_path: Path
) -> None:
    """It is refused by its key before anything parses it, from a file too, and no piece of it is told."""
    variable = f"EDGE_{key}".upper().replace(".", "_")
    (tmp_path / "secret").write_text(address, encoding="utf-8")
    for environ, name in (
        ({variable: address}, key),
        ({f"{variable}_FILE": str(tmp_path / "secret")}, f"{key}_file"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            load(None, environ)
        assert str(caught.value).startswith(f"{name}: {reason}")
        assert "hun" not in str(caught.value)
        assert "ter2" not in str(caught.value)


@pytest.mark.parametrize(
    "environ",
    [
        {"EDGE_POSTGRES_DSN": "postgresql://me:a%40b@host:5432,other:5433/db?sslmode=verify-full"},
        {"EDGE_POSTGRES_DSN": "postgres://[::1]:5432/db"},
        {"EDGE_POSTGRES_DSN": "postgresql:///db?host=/run/postgresql"},
        {"EDGE_REDIS_URL": "rediss://user:a%40b@host"},
        {"EDGE_REDIS_URL": "unix:///run/redis.sock?db=1"},
        {"EDGE_REDIS_URL": "rediss+sentinel://user:a%40b@host,[::1]:26380/service"},
        {"EDGE_REDIS_URL": "redis+cluster://host:7000,host:7001", "EDGE_REDIS_PREFIX": "site.{edge}:"},
    ],
)
def test_addresses_that_are_taken(environ: dict[str, str]) -> None:
    """Several hosts, sockets, IPv6 and escaped passwords are addresses."""
    load(None, environ)


def test_the_query_api_has_another_user_of_the_same_redis() -> None:
    """`redis.api_url` differs from `redis.url` by user and password alone, whatever the kind of address."""
    several = "redis+cluster://{}h:7000,i:7001/?ssl_check_hostname=no"
    for url in ("redis://{}h:6379/1", several):
        environ = {"EDGE_REDIS_URL": url.format("projector:a@"), "EDGE_REDIS_API_URL": url.format("api:b@")}
        assert load(None, environ | {"EDGE_REDIS_PREFIX": "{e}:"}).redis.api_url == url.format("api:b@")
    for other in ("redis://api:hunter2@h:6379/2", "redis://api:hunter2@i:6379/1", "rediss://api:x@h:6379/1"):
        environ = {"EDGE_REDIS_URL": "redis://h:6379/1", "EDGE_REDIS_API_URL": other}
        assert (
            refusal(None, environ) == "redis.api_url: differs from redis.url by more than user and password"
        )
    assert refusal(None, {"EDGE_REDIS_API_URL": "h"}).startswith("redis.api_url: expected a URL such as")


def test_tls_is_1_2_at_least_and_names_its_protocol() -> None:
    """Older versions are refused, and a broker that tells protocols apart by ALPN is told which."""
    context = tls_context(Broker(tls=True, tls_alpn="mqtt"))
    assert context is not None
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    with pytest.raises(ConfigurationError, match=r"^broker\.tls_alpn: has no effect without broker\.tls"):
        load(None, {"EDGE_BROKER_TLS_ALPN": "mqtt"})
