"""A story as a short timeline, or as one line of JSON. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click
import msgspec

from runtime.terminal import safe, span

if TYPE_CHECKING:
    from gateway.trace.story import Message, Rejected, Step, Story

_COLOURS = {"yes": "green", "no": "red", "unknown": "yellow"}


def as_json(story: Story) -> str:
    """One line of JSON."""
    return msgspec.json.encode(story).decode()


def as_text(story: Story) -> str:
    """Lines for a person; click takes the colours out where there is no terminal."""
    blocks = [
        *(_message(story.key, message) for message in story.messages),
        *(_letter(letter) for letter in story.dead_letters),
    ]
    good = story.verdict == "projected"
    verdict = click.style(story.verdict.upper(), fg="green" if good else "red", bold=True)
    blocks.append(f"{verdict}  {story.why}")
    if not story.messages:
        blocks.append(click.style(f"looked at {safe(story.searched)}", dim=True))
    if story.redis_away:
        blocks.append(
            click.style(f"redis is away, so projections are as reported: {story.redis_away}", fg="yellow")
        )
    return "\n".join(blocks)


def _message(key: str, message: Message) -> str:
    lines = [
        f"{click.style(safe(message.device_id), fg='cyan')}  {safe(message.region or '-')}  key={safe(key)}"
    ]
    before: datetime | None = None
    for step in message.steps:
        at = datetime.fromisoformat(step.at) if step.at else None
        took = ""
        if at and before:
            took = f"{'-' if at < before else '+'}{span((at - before).total_seconds())}"
        before = at or before
        lines.append(_step(step, took))
    lines.append(f"  {'metrics':<20} {safe(bytes(message.metrics).decode())}")
    return "\n".join(lines)


def _step(step: Step, took: str) -> str:
    at = f"{step.at[:10]} {step.at[11:23]}Z" if step.at else ""
    state = click.style(f"{step.state:<7}", fg=_COLOURS[step.state])
    return f"  {step.step:<20} {state} {at:<24} {took:>7}  {safe(step.detail)}"


def _letter(letter: Rejected) -> str:
    replayed = f", replayed {letter.replayed_at[:19]}Z" if letter.replayed_at else ""
    whether = "" if letter.certain else " (contains the key and cannot be read)"
    reason = click.style(f"REJECTED {letter.reason}", fg="red", bold=True)
    received = f"{letter.received_at[:10]} {letter.received_at[11:23]}Z"
    device = safe(letter.device_id or "unknown device")
    return f"dead letter {letter.id}  {received}  {device}  {reason}{whether}{replayed}  {safe(letter.error)}"
