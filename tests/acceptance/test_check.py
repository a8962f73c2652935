from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from deploy.local.server import free_port

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.support.commands import RunningCommand

    Run = Callable[..., Awaitable[RunningCommand]]

pytestmark = pytest.mark.usefixtures("durable")


def states(command: RunningCommand) -> dict[str, str]:
    """Component → state, as the screen shows them."""
    found = (re.match(r"(ok|warn|fail)\s+(\S+(?: \S+)*?)(?:\s{2,}|$)", line) for line in command.stdout)
    return {match[2]: match[1] for match in found if match}


async def test_everything_works(run_command: Run) -> None:
    """One screen: each component, what was found, and a verdict; exit code 0."""
    command = await run_command("gateway", "check", COLUMNS="120")
    assert await command.exit_code() == 0
    assert set(states(command).values()) == {"ok"}
    assert {"broker", "internal topic", "postgres", "schema", "tables", "redis"} <= set(states(command))
    assert command.stdout[-1] == "Ready: everything works."
    assert "\x1b" not in "".join(command.stdout)


async def test_nothing_is_there(run_command: Run) -> None:
    """Each component that is away fails by itself, with advice and without secrets; exit code 1."""
    port = free_port()
    command = await run_command(
        "gateway",
        "check",
        COLUMNS="120",
        EDGE_BROKER_PORT=str(port),
        EDGE_POSTGRES_DSN=f"postgresql://me:hunter2@127.0.0.1:{port}/edge",
        EDGE_REDIS_URL=f"redis://:hunter2@127.0.0.1:{port}/0",
    )
    assert await command.exit_code() == 1
    found = {name: state for name, state in states(command).items() if not name.startswith("messages ")}
    away = {"broker": "fail", "postgres": "fail", "spool": "ok", "redis": "fail"}
    assert found == {**away, "gateway http": "ok", "projector http": "ok"}
    output = "\n".join(command.output)
    assert output.count("→ check ") == 3
    assert command.stdout[-1] == "Not ready: 3 failed, 0 to look at."
    assert "hunter2" not in output


async def test_warnings_are_no_failure(run_command: Run, empty_database: str) -> None:
    """A database that is not migrated yet is something to know, not a failure; exit code 0."""
    command = await run_command("gateway", "check", COLUMNS="120", EDGE_POSTGRES_DSN=empty_database)
    assert await command.exit_code() == 0
    assert states(command)["schema"] == "warn"
    assert command.stdout[-1] == "Ready, with 1 to look at."


async def test_a_wrong_configuration_is_exit_code_2(run_command: Run) -> None:
    """A configuration that nothing can be tried with is refused by key on stderr; exit code 2."""
    for variable, message in {
        "EDGE_BROKER_PORT": "error: EDGE_BROKER_PORT (broker.port): expected a port from 1 to 65535, got str",
        "EDGE_REDIS_URL": "error: redis.url: expected a URL such as ",
        "EDGE_POSTGRES_DSN": "error: postgres.dsn: expected a URL such as ",
    }.items():
        command = await run_command("gateway", "check", **{variable: "hunter2"})
        assert await command.exit_code() == 2
        assert command.stdout == []
        [line] = command.output
        assert line.startswith(message)


async def test_a_missing_file_is_exit_code_2(run_command: Run) -> None:
    """`--config` wins over `EDGE_CONFIG`, and a file that is not there is refused."""
    command = await run_command("gateway", "check", "--config", "absent.toml")
    assert await command.exit_code() == 2
    assert command.output == [
        "error: absent.toml: cannot read the configuration file: No such file or directory"
    ]


async def test_usage(run_command: Run) -> None:
    """Wrong usage is exit code 2; help is there without a configuration."""
    command = await run_command("gateway", "check", "--log-format", "xml")
    assert await command.exit_code() == 2
    command = await run_command("gateway", "check", "--help", EDGE_CONFIG="absent.toml")
    assert await command.exit_code() == 0
    assert "--log-format" in "\n".join(command.stdout)


async def test_findings_for_programs(run_command: Run) -> None:
    """With --json the findings are one line of JSON, with the verdict."""
    command = await run_command("gateway", "check", "--json")
    assert await command.exit_code() == 0
    (line,) = command.stdout
    report = json.loads(line)
    assert report["ok"] is True
    states = {each["component"]: each["state"] for each in report["findings"]}
    assert states["internal topic"] == "ok"


async def test_what_is_in_force(run_command: Run, tmp_path: Path) -> None:
    """Each key with its value and where that is from; of secrets nothing is told."""
    (tmp_path / "word").write_text("hunter2", encoding="utf-8")
    command = await run_command(
        "gateway",
        "config",
        "--json",
        EDGE_POSTGRES_DSN="postgresql://me:hunter2@127.0.0.1/edge",
        EDGE_BROKER_PASSWORD_FILE=str(tmp_path / "word"),
    )
    assert await command.exit_code() == 0
    shown = {each["key"]: each for each in map(json.loads, command.stdout)}
    assert shown["postgres.dsn"]["value"] == "postgresql://me:***@127.0.0.1/edge"
    assert shown["postgres.dsn"]["source"] == "EDGE_POSTGRES_DSN"
    assert shown["broker.password"]["value"] == "***"
    assert shown["broker.password"]["source"] == f"EDGE_BROKER_PASSWORD_FILE, {tmp_path}/word"
    assert shown["broker.port"]["source"].endswith("edge.toml")
    assert shown["events.port"] == {**shown["broker.port"], "key": "events.port", "source": "[broker]"}
    assert shown["broker.keepalive_s"] == {"key": "broker.keepalive_s", "value": 30, "source": "default"}
    assert shown["route"]["source"].endswith("edge.toml")
    assert "hunter2" not in "\n".join(command.output)


async def test_statements_for_a_role(run_command: Run) -> None:
    """What gives a role its rights is printed, and names the database that is configured."""
    command = await run_command("gateway", "rights", "projector", "--role", "reader")
    assert await command.exit_code() == 0
    assert command.stdout[0].startswith('GRANT CONNECT, TEMPORARY ON DATABASE "test_')
    assert 'GRANT SELECT ON outbox TO "reader";' in command.stdout
