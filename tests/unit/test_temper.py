"""Whom a session tells of connections that fail, and how often."""

from __future__ import annotations

import structlog
from structlog.testing import LogCapture

from runtime.backoff import Backoff
from runtime.mqtt.port import Disconnected, SessionOptions, SessionStatus
from runtime.mqtt.temper import Temper


async def test_reasons_that_take_turns_are_told_once_each() -> None:
    """A broker that is away for two reasons in turn costs a line for each, not one for each attempt."""
    captured = LogCapture()
    log = structlog.wrap_logger(None, processors=[captured])
    status = SessionStatus()
    temper = Temper(SessionOptions("h", 1883, "c"), status, Backoff(0.1, 1), log)
    for _ in range(50):
        temper.failed(Disconnected("refused"))
        temper.failed(Disconnected("no answer"))
    assert [line["reason"] for line in captured.entries] == ["refused", "no answer"]
    assert status.reason == "no answer"
    temper.connected()
    temper.failed(Disconnected("refused"))
    assert [line["reason"] for line in captured.entries] == ["refused", "no answer", "refused"]
