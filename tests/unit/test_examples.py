"""Examples of routes: what is played, what is said of those that fail, and which cannot be played."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
import pytest
from click.testing import CliRunner

from gateway.check.routes import check_routes
from gateway.cli import main
from gateway.decode import Decoder, Limits
from gateway.decode.dialects import complete_routes
from gateway.decode.examples import play
from gateway.decode.routes import compile_routes
from gateway.explain import render
from gateway.explain.explanation import explain
from gateway.subscriptions import plan
from runtime.errors import ConfigurationError
from runtime.settings import Route, Settings, load
from runtime.settings.route import Example

README = Path(__file__).parents[2] / "README.md"
NOW = datetime(2026, 11, 23, 9, 0, 0, tzinfo=UTC)
TOPIC = "devices/a1/telemetry"
PAYLOAD = '{"id": "7", "ts": "2026-11-23T08:59:59.5Z", "region": "north", "t": 21.5, "on": true, "n": 3}'


def faults(example: Example, *routes: Route) -> list[str]:
    """What is said of an example of the last route."""
    *before, last = routes or (Route(),)
    compiled = compile_routes([*before, msgspec.structs.replace(last, example=(example,))])
    [outcome] = play(compiled, Decoder(compiled, Limits()), NOW)
    return outcome.faults


def refusal(example: Example) -> str:
    with pytest.raises(ConfigurationError) as caught:
        faults(example)
    return str(caught.value)


@pytest.mark.parametrize(
    "expected",
    [
        {},
        {"device_id": "a1", "key": "7", "region": "north", "tags": {}},
        {"metrics": {"t": 21.5, "on": True, "n": 3}},
        {"metrics": {"t": 21.50000000001, "on": True, "n": 3.0}},
        {"ts": "2026-11-23T08:59:59.500Z"},
        {"ts": "2026-11-23T09:59:59.5+01:00"},
        {"ts": datetime(2026, 11, 23, 8, 59, 59, 500_000, tzinfo=UTC)},
    ],
)
def test_what_is_left_out_is_not_looked_at(expected: dict[str, object]) -> None:
    """An example passes when the fields that it names are so; times and numbers may be written otherwise."""
    assert faults(Example(TOPIC, payload=PAYLOAD, expect=(expected,))) == []


@pytest.mark.parametrize(
    ("expected", "told"),
    [
        ({"device_id": "a2"}, ['device_id: expected "a2", got "a1"']),
        ({"key": 7}, ['key: expected 7, got "7"']),
        ({"region": ""}, ['region: expected "", got "north"']),
        ({"ts": "yesterday"}, ['ts: expected "yesterday", got "2026-11-23T08:59:59.500000Z"']),
        ({"tags": {"line": "3"}}, ['tags.line: expected "3", got none']),
        (
            {"metrics": {"t": 21.4, "on": 1, "h": 40}},
            [
                "metrics.t: expected 21.4, got 21.5",
                "metrics.on: expected 1, got true",
                "metrics.h: expected 40, got none",
                "metrics.n: not expected, got 3",
            ],
        ),
    ],
)
def test_what_differs_is_said(expected: dict[str, object], told: list[str]) -> None:
    """Each field that is not as expected is named with both values, so that either can be mended."""
    assert faults(Example(TOPIC, payload=PAYLOAD, expect=(expected,))) == told


def test_numbers_and_orders_of_readings() -> None:
    """Readings are compared one by one in their order; those too many or too few are shown."""
    both: tuple[dict[str, object], ...] = ({"metrics": {"t": 1}}, {"metrics": {"t": 2}})
    payload = '[{"t": 1}, {"t": 2}]'
    assert faults(Example(TOPIC, payload=payload, expect=both)) == []
    assert faults(Example(TOPIC, payload=payload, expect=both[::-1])) == [
        "reading 1: metrics.t: expected 2, got 1",
        "reading 2: metrics.t: expected 1, got 2",
    ]
    [line] = faults(Example(TOPIC, payload=payload, expect=both[:1]))
    assert line.startswith("reading 2: not expected, got {")
    assert faults(Example(TOPIC, payload='{"t": 1}', expect=both)) == [
        'reading 2: expected {"metrics":{"t":2}}, got none'
    ]


def test_dead_letters_can_be_expected() -> None:
    """`reject` is the reason of the dead letters; without it there are to be none."""
    assert faults(Example(TOPIC, payload='{"t":', reject="malformed_json")) == []
    [line] = faults(Example(TOPIC, payload='{"t":', reject="too_deep"))
    assert line.startswith("expected a dead letter for too_deep, got malformed_json: ")
    [line, nothing] = faults(Example(TOPIC, payload='{"t":', expect=({},)))
    assert line.startswith("expected no dead letter, got malformed_json: ")
    assert nothing == "the reading: expected {}, got none"
    assert faults(Example(TOPIC, payload='{"t": 1}', expect=({},), reject="too_deep")) == [
        "expected a dead letter for too_deep, got none"
    ]
    half = '[{"t": 1}, {"id": 1.5}]'
    assert faults(Example(TOPIC, payload=half, expect=({},), reject="invalid_key")) == []


def test_an_example_that_expects_nothing() -> None:
    """Of a message that is left out nothing is expected; a reading that comes all the same is shown."""
    ignored = Route(topic="a/{device_id}", ignore=True)
    assert faults(Example("a/b", payload="x"), Route(), ignored) == []
    assert faults(Example(TOPIC)) == []
    [line] = faults(Example(TOPIC, payload=PAYLOAD))
    assert line.startswith(
        'the reading: not expected, got {"device_id":"a1","ts":"2026-11-23T08:59:59.500000Z"'
    )


def test_an_example_that_another_route_takes() -> None:
    """The first route that matches counts: an example that never comes to its own route says whose it is."""
    first, own = Route(topic="a/#"), Route(topic="a/{device_id}")
    assert faults(Example("a/b", payload=PAYLOAD), first, own) == [
        "route[0], a/#, takes its topic, for it stands before: the first that matches counts"
    ]
    assert faults(Example("a/b/c", payload=PAYLOAD), first, own) == [
        "route[0], a/#, takes its topic, which is none of its route's, a/{device_id}"
    ]
    assert faults(Example("b/c"), own) == [
        "topic 'b/c' matches no configured route; one with ignore = true leaves such out"
    ]


def test_an_example_beside_a_dialect() -> None:
    """An example beside a dialect of several routes is played once, by whichever of them takes it."""
    dialect = {
        "dialect": "tasmota",
        "example": [
            {
                "topic": "tele/p1/SENSOR",
                "payload": '{"Time": "2026-11-23T09:00:00", "POWER": "ON"}',
                "expect": [{"metrics": {"POWER": 1}}],
            }
        ],
    }
    raw: dict[str, object] = {"route": [{"topic": "a/{device_id}"}, dialect]}
    complete_routes(raw)
    compiled = compile_routes(msgspec.convert(raw["route"], list[Route]))
    [outcome] = play(compiled, Decoder(compiled, Limits()), NOW)
    assert (outcome.topic, outcome.faults) == ("tele/p1/SENSOR", [])


@pytest.mark.parametrize(("t", "code", "said"), [(1, 0, "Ready"), (2, 1, "metrics.t: expected 2, got 1")])
def test_without_any_server(tmp_path: Path, t: int, code: int, said: str) -> None:
    """`gateway check --offline` plays examples where there is no server, and its exit code tells."""
    file = tmp_path / "edge.toml"
    example = f"payload = '{{\"t\": 1}}'\nexpect = [{{ metrics = {{ t = {t} }} }}]"
    file.write_text(f'[[route]]\n[[route.example]]\ntopic = "{TOPIC}"\n{example}\n')
    done = CliRunner().invoke(main, ["check", "--offline", "--config", str(file)], catch_exceptions=False)
    assert (done.exit_code, said in done.stdout) == (code, True)


def test_errors_name_the_place_in_the_file(tmp_path: Path) -> None:
    """A dialect stands for many routes, and those behind it are still counted as they are written."""
    file = tmp_path / "edge.toml"
    file.write_text('[[route]]\ndialect = "tasmota"\n[[route]]\ntopic = "x"\neach = "[["\n')
    with pytest.raises(ConfigurationError, match=r"^route\[1\]\.each: '\[\[' is no JMESPath expression"):
        plan(load(file, {}, complete_routes))
    file.write_text(
        '[[route]]\ndialect = "tasmota"\n[[route]]\ntopic = "x"\n[[route.example]]\ntopic = "y"\n'
    )
    wanted = plan(load(file, {}, complete_routes))
    [outcome] = play(wanted.routes, wanted.decoder, NOW)
    assert outcome.where == "route[1].example[0]"


def test_the_example_of_the_readme(tmp_path: Path) -> None:
    """What README.md says of a route with an example is so, down to what `gateway decode` prints."""
    readme, file = README.read_text(), tmp_path / "edge.toml"
    [toml] = re.findall(r"```toml\n([^`]*?example\]\][^`]*`gateway check`.*?)```", readme, re.DOTALL)
    file.write_text(toml)
    routes = compile_routes(load(file, {}).route)
    [outcome] = play(routes, Decoder(routes, Limits()), NOW)
    assert outcome.faults == []
    [example] = routes[0].route.example
    [shown] = re.findall(r"```text\n(topic .*?)```", readme, re.DOTALL)
    later = NOW.replace(minute=1)
    said = explain(routes, Limits(), example.topic, example.payload.strip().encode(), later)
    assert click.unstyle(render.as_text(said, 200)).splitlines() == shown.splitlines()


def test_topics_with_an_impossible_name() -> None:
    """A topic that its route refuses is a dead letter like any other, and can be expected."""
    topic = f"devices/{'x' * 200}/telemetry"
    assert faults(Example(topic, payload="{}", reject="invalid_device_id")) == []


def test_bytes_that_are_no_text() -> None:
    """A payload is text, or bytes in hex or base64; spaces and lines are for the eye."""
    expect: tuple[dict[str, object], ...] = ({"metrics": {"t": 1}},)
    assert faults(Example(TOPIC, hex="7b22 7422\n3a31 7d", expect=expect)) == []
    assert faults(Example(TOPIC, base64="eyJ0\n Ijox fQ==", expect=expect)) == []


def test_times_of_arrival() -> None:
    """`at` is when the message arrives: device times are checked against it, and it stands for none."""
    at = "2030-01-01T00:00:00Z"
    assert faults(Example(TOPIC, payload='{"t": 1}', at=at, expect=({"ts": at},))) == []
    ahead = '{"t": 1, "ts": "2030-01-01T00:00:00Z"}'
    assert faults(Example(TOPIC, payload=ahead, reject="time_out_of_range")) == []
    assert faults(Example(TOPIC, payload=ahead, at=at, expect=({"ts": at},))) == []


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (Example(TOPIC, payload="x", hex="00"), "route[0].example[0].hex: payload says the payload already"),
        (Example(TOPIC, hex="0"), "route[0].example[0].hex: no hex: "),
        (Example(TOPIC, base64="***"), "route[0].example[0].base64: no base64: "),
        (Example(TOPIC, at="noon"), "route[0].example[0].at: expected a time such as "),
        (
            Example(TOPIC, expect=({}, {"device": "a"})),
            "route[0].example[0].expect[1].device: no such field of a reading; did you mean device_id?",
        ),
        (
            Example(TOPIC, expect=({"zzz": 1},)),
            "route[0].example[0].expect[0].zzz: no such field of a reading; it has device_id, ts, key, ",
        ),
    ],
)
def test_an_example_that_cannot_be_played(example: Example, message: str) -> None:
    """What an example says that means nothing is refused with its place in the file."""
    assert refusal(example).startswith(message)


async def test_check_plays_them(tmp_path: Path) -> None:
    """`gateway check` counts the examples that pass, and names each that does not with all differences."""
    file = tmp_path / "edge.toml"
    file.write_text(
        """
        [[route]]
        topic = "a/{device_id}"
        key = ""
        [[route.example]]
        topic = "a/b"
        payload = '{"t": 1}'
        expect = [{ device_id = "b", metrics = { t = 1 } }]
        [[route.example]]
        topic = "a/b"
        payload = '{"t": 1, "\\u202e": 2}'
        expect = [{ device_id = "c", metrics = { t = 2 } }]
        """
    )
    settings: Settings = load(file, {})
    findings = [each async for each in check_routes(plan(settings), NOW)]
    _, passed, failed = findings
    assert (passed.state, passed.found) == ("ok", "1 of 2 become what they are expected to")
    assert (failed.component, failed.state) == ("example route[0].example[1]", "fail")
    assert failed.found.splitlines() == [
        "of a/b:",
        'device_id: expected "c", got "b"',
        "metrics.t: expected 2, got 1",
        "metrics.\\u202e: not expected, got 2",
    ]
    assert "gateway decode" in failed.advice


async def test_what_is_never_reached_is_named(tmp_path: Path) -> None:
    """Of two routes with the same topics, whatever they call their levels, the second is told of."""
    file = tmp_path / "edge.toml"
    routes = 'dialect = "telegraf-json/host"', 'topic = "a/{device_id}/+"', 'topic = "a/{x}/+"\ndevice = "d"'
    last = 'dialect = "influx/telegraf"'
    file.write_text("".join(f"[[route]]\n{words}\n" for words in (*routes, last)))
    settings: Settings = load(file, {}, complete_routes)
    findings = [each async for each in check_routes(plan(settings), NOW)]
    assert [(each.state, each.found) for each in findings if each.state != "ok"] == [
        ("warn", "route[2] is never reached: route[1] has the same topics"),
        (
            "warn",
            "route[3] (influx/telegraf) is never reached: route[0] (telegraf-json/host) has the same topics",
        ),
    ]
