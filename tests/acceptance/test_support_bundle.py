"""`gateway support-bundle`: what helps, and nothing that must not leave the site."""

from __future__ import annotations

import json
import tarfile
from typing import TYPE_CHECKING
from urllib.parse import quote

import asyncpg

from gateway.support import parts
from tests.support.devices import publish

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    import pytest

    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

    Run = Callable[..., Awaitable[RunningCommand]]

WORD = "p@ss w/ord+1"
QUOTED = quote(WORD, safe="")


def unpacked(path: Path) -> dict[str, str]:
    """File name → text, without the folder."""
    with tarfile.open(path) as archive:
        members = archive.getmembers()
        assert {oct(each.mode) for each in members} == {"0o600"}
        texts = {each.name: archive.extractfile(each) for each in members}
        return {name.partition("/")[2]: file.read().decode() for name, file in texts.items() if file}


async def test_all_is_in_it(
    run_command: Run, settings: Settings, broker_port: int, topic_prefix: str, tmp_path: Path
) -> None:
    """Of a running gateway: configuration, findings, health, metrics, counts; no payload and no value."""
    gateway = await run_command("gateway", "run", "--log-level", "debug")
    await gateway.event("subscriptions_remembered")
    sent = [
        (f"{topic_prefix}/a1/telemetry", b'{"id": "1", "t": 271828.5}'),
        (f"{topic_prefix}/a1/telemetry", b"rubbish-of-a-device"),
    ]
    await publish(broker_port, sent)
    await gateway.event("batch_stored")
    log = tmp_path / "gateway.log"
    log.write_text("".join(f"line {n}\n" for n in range(10)))
    path = tmp_path / "bundle.tar.gz"
    made = await run_command("gateway", "support-bundle", str(path), "--log", str(log), "--lines", "3")
    assert await made.exit_code() == 0, made.output
    assert oct(path.stat().st_mode)[-3:] == "600"
    made_of = unpacked(path)
    assert f'broker.client_id = "{settings.broker.client_id}"' in made_of["configuration.txt"]
    assert json.loads(made_of["versions.json"])["packages"]["asyncpg"]
    assert {each["component"] for each in json.loads(made_of["check.json"])["findings"]} > {
        "postgres",
        "redis",
    }
    assert made_of["gateway-readyz.txt"].startswith("200\n")
    assert "gateway_received_total" in made_of["gateway-metrics.txt"]
    assert "Connection refused" in made_of["projector-metrics.txt"]
    database = json.loads(made_of["postgres.json"])
    assert [(each["reason"], each["letters"]) for each in database["letters"]] == [("malformed_json", 1)]
    assert {"measurements", "outbox"} <= {each["name"] for each in database["tables"]}
    assert [each["head"] for each in database["streams"]] == [1]
    assert all(isinstance(value, list) for value in database.values()), "each query could be asked"
    assert made_of["log/1-gateway.log"] == "line 7\nline 8\nline 9\n"
    assert all(name in made_of["README.txt"] for name in made_of if name != "README.txt")
    everything = "\n".join(made_of.values())
    assert "271828" not in everything
    assert "rubbish-of-a-device" not in everything
    again = await run_command("gateway", "support-bundle", str(path))
    assert await again.exit_code() == 2
    assert f"{path} is there already" in again.output[-1]


async def test_a_table_that_is_locked_is_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query that waits for a lock is given up soon, and takes no other part along."""
    monkeypatch.setattr(parts, "_QUERY_S", 0.3)
    holder = await asyncpg.connect(settings.postgres.dsn)
    try:
        await holder.execute("BEGIN; LOCK TABLE dead_letters")
        said = json.loads(await parts.database(settings))
    finally:
        await holder.close()
    assert said["letters"] == "no answer within 0.3 s"
    assert isinstance(said["streams"], list)
    assert "idle in transaction" in {each["state"] for each in said["sessions"]}


async def test_no_secret_leaves(run_command: Run, tmp_path: Path) -> None:
    """A password stands in no part, in whatever form a log has it; servers that are away are told."""
    log = tmp_path / "some.log"
    log.write_text(f"one {WORD}\ntwo {quote(WORD, safe='')}\nthree postgresql://u:other@db/x\nfour\n")
    path = tmp_path / "bundle.tar.gz"
    made = await run_command(
        "gateway", "support-bundle", str(path), "--log", str(log),
        EDGE_BROKER_PORT="1", EDGE_BROKER_USERNAME="gateway", EDGE_BROKER_PASSWORD=WORD,
        EDGE_POSTGRES_DSN=f"postgresql://u:{QUOTED}@127.0.0.1:1/x", EDGE_REDIS_URL=f"redis://:{QUOTED}@127.0.0.1:1/0",
    )  # fmt: skip
    assert await made.exit_code() == 0, made.output
    made_of = unpacked(path)
    assert made_of["log/1-some.log"] == "one ***\ntwo ***\nthree postgresql://u:***@db/x\nfour\n"
    assert 'postgres.dsn = "postgresql://u:***@127.0.0.1:1/x"' in made_of["configuration.txt"]
    assert "Connection refused" in made_of["postgres.json"]
    for text in made_of.values():
        assert WORD not in text
        assert QUOTED not in text
