"""Asks every broker for every promise: `python -m tests.brokers [--only NATS] [docs/brokers.md]`."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import click

from deploy.local.services import LocalServices
from runtime import logs
from tests.brokers.broker import Broker
from tests.brokers.client import RefusedError
from tests.brokers.flood import flood
from tests.brokers.kinds import KINDS, Kind
from tests.brokers.promises import PROMISES, Answer
from tests.brokers.report import Row, floods, page, table


async def ask(kind: Kind, services: LocalServices, database: str) -> Row:
    """Everything that there is to know of a broker."""
    said = await asyncio.to_thread(kind.version)
    answers = {}
    for heading, promise in PROMISES.items():
        try:
            with Broker(kind) as broker:
                answers[heading] = await asyncio.to_thread(promise, broker)
        except (RefusedError, OSError) as error:
            answers[heading] = Answer(f"no: {error}", holds=False)
        _say(f"{kind.name}: {heading}: {answers[heading].text}")
    outcome = None
    try:
        with Broker(kind) as broker:
            outcome = await flood(broker, services, database)
    except (RefusedError, OSError) as error:
        _say(f"{kind.name}: no flood: {type(error).__name__}: {error}")
    _say(f"{kind.name}: {outcome}")
    return Row(kind, said, answers, outcome)


async def ask_all(chosen: list[Kind]) -> list[Row]:
    """One after the other."""
    async with LocalServices(["postgres"], environ={}) as services:
        return [await ask(kind, services, f"brokers_{number}") for number, kind in enumerate(chosen)]


def _say(text: str) -> None:
    click.echo(text, err=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.brokers", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--only", action="append", default=[], choices=[kind.name for kind in KINDS])
    logs.configure("json", "warning")
    arguments = parser.parse_args()
    rows = asyncio.run(ask_all([kind for kind in KINDS if kind.name in arguments.only or not arguments.only]))
    if arguments.file is None or arguments.only:
        click.echo(f"{table(rows)}\n\n{floods(rows)}")
    else:
        arguments.file.write_text(page(rows), encoding="utf-8")
