"""The books: what their metrics say before there is anything to count."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client import CollectorRegistry

import gateway
from gateway.ledger import REASONS, Ledger

IN_CODE = re.compile(
    r"""(?:\b(?:Reject|NoNumber|reject)\(|unfit\.add\([^,"]+,|
    \breason(?:,\ fault)?\ =\ \(?|\b_?(?:MANY|MALFORMED):\ Final\ =|\bread_text\(text,)\s*
    "([a-z0-9_]+)\"""",
    re.VERBOSE,
)


def test_every_reason_is_counted_from_the_start() -> None:
    """Prometheus sees no rise from nothing to 500, and the first burst is the one to see."""
    code = "".join(path.read_text(encoding="utf-8") for path in Path(gateway.__path__[0]).rglob("*.py"))
    assert set(IN_CODE.findall(code)) == set(REASONS)
    registry = CollectorRegistry()
    Ledger(registry, now=lambda: datetime.now(UTC))
    for reason in REASONS:
        assert registry.get_sample_value("gateway_dead_lettered_total", {"reason": reason}) == 0.0
