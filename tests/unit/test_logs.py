from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from runtime import logs

if TYPE_CHECKING:
    from collections.abc import Iterator


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Leave structlog, `logging` and `warnings` as they were."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    logging.captureWarnings(capture=False)
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What was logged so far, parsed."""
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_json_lines_start_with_time_level_and_event(capsys: pytest.CaptureFixture[str]) -> None:
    """Elsewhere than on a terminal each event is one JSON object, its UTC time, level and name first."""
    logs.configure("auto", "info")
    structlog.get_logger().info("batch_stored", rows=3, device="a1")
    [line] = lines(capsys)
    assert list(line) == ["timestamp", "level", "event", "rows", "device"]
    assert line["timestamp"].endswith("Z")
    assert (line["level"], line["event"], line["rows"]) == ("info", "batch_stored", 3)


@pytest.mark.parametrize(
    ("chosen", "terminal", "is_json", "coloured"),
    [
        ("auto", True, False, True),
        ("auto", False, True, False),
        ("json", True, True, False),
        ("console", False, False, False),
        ("console", True, False, True),
    ],
)
def test_format(
    monkeypatch: pytest.MonkeyPatch, chosen: logs.Format, *, terminal: bool, is_json: bool, coloured: bool
) -> None:
    """Coloured for a terminal, JSON elsewhere or when asked for, plain console without a terminal."""
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure(chosen, "info")
    structlog.get_logger().info("hello")
    assert stream.getvalue().startswith("{") is is_json
    assert ("\x1b[" in stream.getvalue()) is coloured


def test_level(capsys: pytest.CaptureFixture[str]) -> None:
    """Events below the level are not written."""
    logs.configure("json", "warning")
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    assert [line["event"] for line in lines(capsys)] == ["loud"]


def test_libraries_take_the_same_way(capsys: pytest.CaptureFixture[str]) -> None:
    """What libraries log through `logging` is JSON too, with the logger's name, from warning on."""
    logs.configure("json", "info")
    logging.getLogger("uvicorn.error").info("chatter")
    logging.getLogger("uvicorn.error").warning("cannot %s to redis://u:hunter2@host", "connect")
    [line] = lines(capsys)
    assert line["event"] == "cannot connect to redis://u:***@host"
    assert (line["logger"], line["level"]) == ("uvicorn.error", "warning")


def test_python_warnings_take_the_same_way(capsys: pytest.CaptureFixture[str]) -> None:
    """A Python warning does not break the stream of JSON lines."""
    logs.configure("json", "info")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning("odd", RuntimeWarning, "file.py", 1)
    [line] = lines(capsys)
    assert "odd" in line["event"]


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgresql://me:hunter2@host:5432/db", "postgresql://me:***@host:5432/db"),
        ("redis://:hunter2@host/0", "redis://:***@host/0"),
        ("at postgres://me:hun/t@er2@host/db: refused", "at postgres://me:***@host/db: refused"),
        ("postgresql://me@site:hunter2@host/db", "postgresql://me@site:***@host/db"),
        ("host=h password=hunter2 user=me", "host=h password=*** user=me"),
        ("host=h password='hunter 2'", "host=h password=***"),
        (
            "postgresql://host/db?user=me&password=hunter2&x=1",
            "postgresql://host/db?user=me&password=***&x=1",
        ),
        ("http://127.0.0.1:9101/readyz", "http://127.0.0.1:9101/readyz"),
        ("postgresql://postgres@127.0.0.1:5432/db", "postgresql://postgres@127.0.0.1:5432/db"),
        ("postgresql://h/d?sslpassword=hunter2", "postgresql://h/d?sslpassword=***"),
        ("PGPASSWORD=hunter2 psql", "PGPASSWORD=*** psql"),
        ("redis+cluster://me:hunter2@a:1,[::1]:2/", "redis+cluster://me:***@a:1,[::1]:2/"),
        (
            "rediss+sentinel://:hunter2@a,b:2/s/0?sentinel_password=hunter2&db=1",
            "rediss+sentinel://:***@a,b:2/s/0?sentinel_password=***&db=1",
        ),
        ("no secret here", "no secret here"),
    ],
)
def test_mask(text: str, masked: str) -> None:
    """The password of a URL or a connection string is masked, and nothing else."""
    assert logs.mask(text) == masked


def test_a_line_of_a_megabyte_is_masked_at_once() -> None:
    """A blob beside an address costs what its length is, and not its square."""
    blob = "a" * 1_000_000
    started = time.process_time()
    assert logs.mask(f"{blob} redis://u:hunter2@h") == f"{blob} redis://u:***@h"
    assert time.process_time() - started < 1


def test_secrets_are_masked_wherever_they_stand(capsys: pytest.CaptureFixture[str]) -> None:
    """No field, error or traceback brings a secret into a log."""
    logs.configure("json", "debug")
    log = structlog.get_logger()
    log.info("a", dsn="host=x password=hunter2", password="hunter2", reason="redis://u:hunter2@h")
    log.info("b", error=ValueError("postgresql://u:hunter2@h"))
    try:
        int("postgresql://u:hunter2@h")
    except ValueError:
        log.exception("c")
    written = capsys.readouterr().err
    assert "hunter2" not in written
    assert len(written.splitlines()) == 3


def test_exceptions_are_one_line_with_their_place(capsys: pytest.CaptureFixture[str]) -> None:
    """Above debug an exception is one line that names its type, its message and the place that raised it."""
    logs.configure("console", "info")
    group = ExceptionGroup("two", [ValueError("first\nsecond line"), KeyError("k")])
    structlog.get_logger().error("failed", exc_info=group)
    [line] = capsys.readouterr().err.splitlines()
    assert "ValueError: first second line; KeyError: 'k'" in line


def test_the_place_is_that_of_the_error_inside_a_group(capsys: pytest.CaptureFixture[str]) -> None:
    """`error_at` names the line that raised, not the task group that gathered it."""
    logs.configure("json", "info")
    try:
        int("x")
    except ValueError as error:
        group = ExceptionGroup("g", [error])
    structlog.get_logger().error("failed", exc_info=group)
    [line] = lines(capsys)
    assert line["error"].startswith("ValueError: invalid literal")
    assert "test_logs.py:" in line["error_at"]


def test_debug_shows_tracebacks(capsys: pytest.CaptureFixture[str]) -> None:
    """At debug the whole traceback is there."""
    logs.configure("json", "debug")
    try:
        int("x")
    except ValueError:
        structlog.get_logger().exception("failed")
    [line] = lines(capsys)
    assert "Traceback" in line["exception"]


def test_a_line_never_raises(capsys: pytest.CaptureFixture[str]) -> None:
    """Values that JSON cannot hold are written some way; a log line never ends a process."""
    logs.configure("json", "info")
    loop: list[object] = []
    loop.append(loop)
    structlog.get_logger().info("odd", surrogate="\ud800", thing=object(), loop=loop, nan=float("nan"))
    [line] = lines(capsys)
    assert line["event"] == "odd"


def test_stdout_stays_free() -> None:
    """Results have standard output for themselves."""
    script = (
        "import structlog; from runtime import logs; logs.configure('json', 'info');"
        "structlog.get_logger().info('x'); print('result')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "result\n"
    assert json.loads(done.stderr)["event"] == "x"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Emitted(list[dict[str, Any]]):
    def __call__(self, event: str, **fields: object) -> None:
        self.append({"event": event, **fields})


def test_rate_limit_counts_what_it_leaves_out() -> None:
    """So many lines of one event and reason an interval are written, then one counts the rest."""
    clock, emitted = Clock(), Emitted()
    limit = logs.RateLimit(emitted, lines=2, interval_s=10, clock=clock)
    for n in range(5):
        limit("message_rejected", reason="malformed_json", topic=f"t/{n}")
    assert [line["topic"] for line in emitted] == ["t/0", "t/1"]
    clock.now = 10.0
    limit("message_rejected", reason="malformed_json", topic="t/5")
    assert emitted[2] == {
        "event": "lines_suppressed",
        "of": "message_rejected",
        "reason": "malformed_json",
        "lines": 3,
        "interval_s": 10,
    }
    assert emitted[3]["topic"] == "t/5"


def test_rate_limit_keeps_reasons_apart() -> None:
    """A flood of one reason does not hide the first line of another."""
    emitted = Emitted()
    limit = logs.RateLimit(emitted, lines=1, clock=Clock())
    for reason in ("a", "a", "b", None, None):
        limit("rejected", reason=reason)
    assert [line.get("reason") for line in emitted] == ["a", "b", None]


def test_rate_limit_flush_and_close() -> None:
    """A count is told when its interval is over although nothing more comes, and at the end in any case."""
    clock, emitted = Clock(), Emitted()
    limit = logs.RateLimit(emitted, lines=1, interval_s=10, clock=clock)
    limit("rejected", reason="a")
    limit("rejected", reason="a")
    limit.flush()
    assert len(emitted) == 1
    clock.now = 11.0
    limit.flush()
    assert [line["event"] for line in emitted] == ["rejected", "lines_suppressed"]
    limit("rejected", reason="a")
    limit("rejected", reason="a")
    limit.close()
    limit.close()
    assert [line["event"] for line in emitted[2:]] == ["rejected", "lines_suppressed"]
