"""`gateway decode` as somebody in front of a message uses it: no server, pipes and terminals.

One of these starts a process for a pipe and one for a terminal; the others call the same command in here.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from tests.support.terminals import Terminal

if TYPE_CHECKING:
    from pathlib import Path

TOPIC = "devices/a1/telemetry"
FIELDS = ["device_id", "ts", "key", "region", "tags", "metrics"]
TWO_ROUTES = """
[[route]]
topic = "noise/#"
ignore = true

[[route]]
topic = "plant/{line}/{device_id}"
each = "values"
key = ""
time = "at"
tags = ["gw"]
on_bad_field = "drop"
ignore = ["debug.*"]
clock = "prefer"
"""


def decode(*arguments: str, payload: bytes = b"", **environment: str) -> Result:
    cleared = {name: None for name in os.environ if name.startswith("EDGE_")}
    runner = CliRunner(env={**cleared, **environment})
    return runner.invoke(main, ["decode", *arguments], input=payload, catch_exceptions=False)


def readings(done: Result) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def letters(done: Result) -> list[dict[str, str]]:
    return [json.loads(line) for line in done.stderr.splitlines()]


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "edge.toml"
    path.write_text(TWO_ROUTES, encoding="utf-8")
    return str(path)


def test_readings_for_a_program() -> None:
    """`--json` prints an array of readings with the six fields, and nothing else; exit code 0."""
    payload = b'{"id": "7", "ts": "2026-11-23T09:00:00.25Z", "region": "north", "t": 21.5, "on": true}'
    done = decode(TOPIC, "--json", payload=payload)
    [reading] = readings(done)
    assert (done.exit_code, done.stderr, list(reading)) == (0, "", FIELDS)
    assert reading == {
        "device_id": "a1",
        "ts": "2026-11-23T09:00:00.250000Z",
        "key": "7",
        "region": "north",
        "tags": {},
        "metrics": {"t": 21.5, "on": True},
    }


def test_in_a_pipe() -> None:
    """The command is a process like any other: bytes on stdin, readings on stdout, an exit code."""
    done = subprocess.run(
        (sys.executable, "-m", "gateway", "decode", TOPIC, "--json"),
        input=b'[{"t": 1}, 2]',
        capture_output=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
        timeout=30,
    )
    assert (done.returncode, json.loads(done.stdout)[0]["metrics"]) == (1, {"t": 1})
    assert json.loads(done.stderr)["reason"] == "wrong_root"


def test_a_dead_letter_for_a_program() -> None:
    """A dead letter is an object with reason and error on stderr; exit code 1."""
    done = decode(TOPIC, "-", "--json", payload=b'{"t": ')
    [letter] = letters(done)
    assert (done.exit_code, list(letter), letter["reason"]) == (1, ["reason", "error"], "malformed_json")
    assert readings(done) == []


def test_some_of_both_for_a_program() -> None:
    """Of an array the good readings come on stdout and the bad ones on stderr; exit code 1."""
    done = decode(TOPIC, "--json", payload=b'[{"t": 1}, {"id": 1.5}, {"t": 2}, {}]')
    assert [each["metrics"] for each in readings(done)] == [{"t": 1}, {"t": 2}]
    assert [each["reason"] for each in letters(done)] == ["invalid_key", "empty_message"]
    assert done.exit_code == 1


def test_a_message_for_a_person(config: str) -> None:
    """Route, readings, whose device, time and key they have, tags, types, what is left out and why."""
    payload = {
        "gw": "g7",
        "at": "soon",
        "spare": None,
        "values": [{"t": 21.5, "on": True, "s": "x", "debug.a": 1}, {"t": 2, "h": "\x00"}],
    }
    done = decode("plant/3/p1", "--config", config, payload=json.dumps(payload).encode())
    text = done.stdout
    assert (done.exit_code, done.stderr) == (0, "")
    assert "route[1]  plant/{line}/{device_id}\n" in text
    assert "READING 1 of 2\n" in text
    assert "p1  of the topic\n" in text
    assert "of arrival: the device's cannot be relied on\n" in text
    assert "made here, a new one each time: there is neither key nor time\n" in text
    assert "line = 3\n" in text
    assert "gw = g7\n" in text
    assert "on  true  boolean\n" in text
    assert 's   "x"  text\n' in text
    assert "t   21.5  number\n" in text
    assert "debug.a    ignored\n" in text
    assert "h          invalid_string\n" in text
    assert "\x1b" not in text


def test_a_dead_letter_for_a_person() -> None:
    """The reason and its text, and of an array which bytes; exit code 1."""
    done = decode(TOPIC, payload=b'[{"t": 1}, {"id": 1.5}]')
    text = done.stdout
    assert done.exit_code == 1
    assert "READING\n" in text
    assert "DEAD LETTER  invalid_key\nelement 1: message key is a number with a fraction" in text
    assert 'bytes      {"id": 1.5}\n' in text


def test_nothing_of_strangers_reaches_a_terminal() -> None:
    """What would steer a terminal, in names, values, keys and topics, is written in escapes."""
    hostile = "\x1b]0;x\x07\u202e"
    payload = json.dumps({"id": hostile, "ts": "2026-11-23T09:00:00Z", "a" + hostile[-1]: hostile}).encode()
    done = decode(TOPIC, payload=payload)
    assert done.exit_code == 0
    assert not set("\x1b\x07\u202e") & set(done.stdout)
    assert "\\x1b]0;x\\x07\\u202e" in done.stdout
    done = decode("x\x1b[2J/y", payload=b"\x1b[2J")
    assert "\x1b" not in done.stdout + done.stderr


def test_ignored_and_empty(config: str) -> None:
    """What is only counted says so and is no failure: an ignored topic, a payload of no bytes."""
    done = decode("noise/a", "--config", config, payload=b"x")
    assert (done.exit_code, "ignored: its route has ignore = true" in done.stdout) == (0, True)
    done = decode(TOPIC)
    assert (done.exit_code, "empty payload" in done.stdout) == (0, True)
    done = decode(TOPIC, "--json")
    assert (done.exit_code, readings(done)) == (0, [])


def test_files_and_encodings(tmp_path: Path) -> None:
    """A payload comes from a file or stdin, as it is or in hex or base64 with any spaces."""
    message = b'{"t": 21.5}'
    file = tmp_path / "payload"
    for option, written in (
        ((), message),
        (("--hex",), message.hex(" ").encode() + b"\n"),
        (("--base64",), b"eyJ0Ijog\nMjEuNX0=\n"),
        ((), gzip.compress(message)),
    ):
        file.write_bytes(written)
        done = decode(TOPIC, str(file), *option, "--json")
        assert readings(done)[0]["metrics"] == {"t": 21.5}


def test_the_time_of_arrival() -> None:
    """`--at` is when the message arrives: device times are checked against it."""
    ahead = b'{"ts": "2030-01-01T00:00:00Z", "t": 1}'
    assert letters(decode(TOPIC, "--json", payload=ahead))[0]["reason"] == "time_out_of_range"
    done = decode(TOPIC, "--json", "--at", "2030-01-01T12:00", payload=ahead)
    assert readings(done)[0]["ts"] == "2030-01-01T00:00:00.000000Z"


def test_no_secret_is_needed(tmp_path: Path) -> None:
    """A site's configuration serves away from the site: files with its secrets are not looked for."""
    path = tmp_path / "edge.toml"
    path.write_text('[postgres]\ndsn_file = "/absent"\n[broker]\npassword_file = "/absent"\n')
    assert decode(TOPIC, "--config", str(path), payload=b'{"t": 1}').exit_code == 0


def test_a_dialect() -> None:
    """`--dialect` decodes by the routes of one, and says which part of it took the message."""
    payload = b'{"Time": "2026-11-23T09:00:00", "ENERGY": {"Power": 12}}'
    done = decode("tele/plug-1/SENSOR", "--dialect", "tasmota", payload=payload)
    assert done.exit_code == 0
    assert "tasmota, part sensor\n" in done.stdout
    assert "ENERGY.Power  12  number\n" in done.stdout


def test_routes_of_the_environment() -> None:
    """`EDGE_ROUTE` is a JSON array of routes, dialects among them."""
    route = '[{"dialect": "tasmota", "prefix": "hall/"}, {"topic": "rest/{device_id}"}]'
    payload = b'{"Time": "2026-11-23T09:00:00", "ENERGY": {"Power": 12}}'
    done = decode("hall/tele/plug-1/SENSOR", "--json", payload=payload, EDGE_ROUTE=route)
    assert readings(done)[0]["metrics"] == {"ENERGY.Power": 12}
    assert readings(decode("rest/r", "--json", payload=b'{"t": 1}', EDGE_ROUTE=route))[0]["device_id"] == "r"


@pytest.mark.parametrize(
    ("arguments", "payload", "said"),
    [
        (
            ("devices/+/telemetry",),
            b"{}",
            "'devices/+/telemetry' has a wildcard: give the topic of a message",
        ),
        (("devices/#",), b"{}", "has a wildcard"),
        (("",), b"{}", "a topic has at least one character"),
        ((TOPIC, "absent.json"), b"", "absent.json: cannot read the payload: No such file or directory"),
        ((TOPIC, "."), b"", ".: cannot read the payload: Is a directory"),
        ((TOPIC, "--hex"), b"7b7", "the payload is no hex: 3 digits, and two make a byte"),
        ((TOPIC, "--hex"), b"7z", "the payload is no hex: "),
        ((TOPIC, "--base64"), b"***", "the payload is no base64: "),
        ((TOPIC, "--hex", "--base64"), b"7b7d", "--hex and --base64: one of them"),
        ((TOPIC, "--at", "noon"), b"{}", "'noon' is neither a time such as"),
        ((TOPIC, "--dialect", "tasmot"), b"{}", "--dialect: there is no 'tasmot'; did you mean 'tasmota'?"),
        ((TOPIC, "--config", "none.toml"), b"{}", "none.toml: cannot read the configuration file"),
    ],
)
def test_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], payload: bytes, said: str
) -> None:
    """What cannot be decoded at all is said in words on stderr, and nothing on stdout; exit code 2."""
    monkeypatch.chdir(tmp_path)
    done = decode(*arguments, payload=payload)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in " ".join(done.stderr.split())


def test_a_route_that_means_nothing(tmp_path: Path) -> None:
    """A mistake in what a route says of its messages is named with its place in the file; exit code 2."""
    path = tmp_path / "edge.toml"
    path.write_text('[[route]]\n[[route]]\ntopic = "b/{device_id}"\neach = "[["\n', encoding="utf-8")
    done = decode(TOPIC, "--config", str(path), payload=b"{}")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: route[1].each: '[[' is no JMESPath expression")


async def test_on_a_terminal() -> None:
    """A narrow terminal cuts long values, and who is waited for is told."""
    terminal = await Terminal.start("gateway", "decode", TOPIC, env={}, rows=30, columns=60)
    said = await terminal.errors.readline()
    assert b"type the payload, and Ctrl-D" in said
    terminal.type('{"t": "%s"}\n\x04' % ("long " * 40))
    shown = await terminal.until("READING", "text")
    lines = re.sub(r"\x1b\[\d+m|\r", "", shown.split("READING")[1]).splitlines()
    assert max(map(len, lines)) <= 60
    assert any("…" in line for line in lines)
    assert await terminal.exit_code() == 0
    await terminal.close()
