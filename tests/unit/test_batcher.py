"""When a batch is due, and how long the next one lingers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import pytest
from prometheus_client import CollectorRegistry

from gateway.batcher import Batch, BatchPolicy, Patience
from gateway.intake import Intake
from gateway.ledger import Ledger
from runtime.http import Health
from runtime.settings import Gateway, Settings, Spool
from tests.support.write_side import NOW, Delivered, decode

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from runtime.mqtt import Chunk
    from runtime.mqtt.port import Delivery


@dataclass
class Came:
    """A chunk of so many messages."""

    deliveries: Sequence[Delivery]
    size_bytes: int = 100

    def ack(self) -> None:
        """Nobody waits for it."""


def batch(messages: int, *, qos0: int = 0, readings: int | None = None) -> Batch:
    """A batch of messages, some of them of QoS 0; each is one reading unless told otherwise."""
    sent = [Delivered("t", b"", qos=0 if at < qos0 else 1) for at in range(messages)]
    (reading,), _ = decode(b'{"x": 1}')
    count = messages if readings is None else readings
    return Batch(readings=[reading] * count, chunks=[cast("Chunk", Came(sent))])


def patience(linger_s: float = 0.02) -> Patience:
    return Patience(BatchPolicy(max_messages=1000, max_bytes=1_000_000, linger_s=linger_s))


@pytest.mark.parametrize(
    ("linger_s", "times"),
    [(0.02, 5.0), (0.001, 5.0), (0.05, 2.0), (0.1, 1.0), (2.0, 1.0), (0.0, 1.0)],
)
def test_few_messages_wait_for_one_another(linger_s: float, times: float) -> None:
    """Five times as long, but no longer than 100 ms unless more is set."""
    assert patience(linger_s).after(batch(5), 0.1) == times


@pytest.mark.parametrize(
    ("messages", "since_s", "times"),
    [(249, 0.1, 5.0), (250, 0.1, 1.0), (2, 0.0001, 1.0), (2, 60.0, 5.0), (1, 60.0, 1.0), (0, 60.0, 1.0)],
)
def test_only_few_do(messages: int, since_s: float, times: float) -> None:
    """From 2,500 a second on, and where one comes alone, nothing waits longer than it is set."""
    assert patience().after(batch(messages), since_s) == times


def test_a_message_of_many_readings_comes_alone() -> None:
    """One message waits for nobody, however many readings it has."""
    assert patience().after(batch(1, readings=50), 1.0) == 1.0


def test_a_broker_that_waits_for_acknowledgements_is_not_kept_waiting() -> None:
    """The same number at most, again and again, is all that the broker sends before some are acknowledged."""
    asked = patience()
    counts = (20, 20, 13, 20, 20, 20, 20, 7, 20, 20)
    assert [asked.after(batch(each), 0.1) for each in counts] == [5, 5, 5, 5, 5, 5, 1, 1, 1, 1]
    assert [asked.after(batch(20 + each, qos0=each), 0.1) for each in (3, 1, 2)] == [1, 1, 1]
    asked.after(batch(1000), 0.02)
    assert [asked.after(batch(each), 0.1) for each in (20, 21, 24, 20, 23, 22)] == [5.0] * 6


def test_devices_that_keep_time_are_no_such_broker() -> None:
    """The same number by chance is less where a batch lingers less: the next ones linger longer again."""
    asked = patience()
    counts = (*[100] * 6, 20, 21, *[100] * 5)
    assert [asked.after(batch(each), 0.1) for each in counts] == [*[5] * 5, 1, 1, *[5] * 6]


@pytest.mark.parametrize(("linger_ms", "after_s"), [(20, 2.1), (100, 2.1), (3000, 5.0), (0, 2.0)])
async def test_what_lingers_is_not_spooled_for_that(linger_ms: int, after_s: float, tmp_path: Path) -> None:
    """PostgreSQL has `spool.after` for a batch from when it is due."""
    settings = Settings(
        gateway=Gateway(batch_linger_ms=linger_ms), spool=Spool(path=str(tmp_path), min_free_bytes="1MB")
    )
    registry = CollectorRegistry()
    async with asyncio.TaskGroup() as tasks:
        intake = Intake(
            settings,
            tasks,
            subscriptions=(),
            make_will=lambda: None,
            health=Health(),
            ledger=Ledger(registry, now=lambda: NOW),
            registry=registry,
        )
        intake.make(())
        assert intake.entrance is not None
        assert intake.entrance._after_s == after_s
        await intake.close()
