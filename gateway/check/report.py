"""What a check found, and how it is said on one screen."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import click
import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

State = Literal["ok", "warn", "fail"]

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}
_STATE_WIDTH = 6


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at.

    Attributes:
        component: what it is about, such as `postgres` or `route devices/+/telemetry`.
        state: `warn` when the gateway works but a promise is weaker than it could be, or will not last.
        found: what was seen, without secrets; a line, or several.
        advice: what to do about it; empty when there is nothing to do.
        facts: the same for programs, where there is something to reckon with.
    """

    component: str
    state: State
    found: str
    advice: str = ""
    facts: Mapping[str, str | int | bool | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    """All findings, in the order in which a message meets them."""

    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing failed; warnings are no failure."""
        return all(finding.state != "fail" for finding in self.findings)


def render(report: Report, width: int) -> str:
    """Lay the report out, with colours that `click.echo` removes where they do not belong."""
    name_width = max((len(finding.component) for finding in report.findings), default=0) + 2
    name_width = min(name_width, width // 3)
    indent = " " * (_STATE_WIDTH + name_width)
    lines: list[str] = []
    for finding in report.findings:
        state = click.style(finding.state.ljust(_STATE_WIDTH), fg=_COLOURS[finding.state], bold=True)
        found = [
            wrapped
            for line in finding.found.splitlines()
            for wrapped in textwrap.wrap(line, width - len(indent), break_on_hyphens=False)
        ] or [""]
        if len(finding.component) < name_width:
            lines.append(state + finding.component.ljust(name_width) + found[0])
        else:
            lines += [state + finding.component, indent + found[0]]
        lines += [indent + line for line in found[1:]]
        advice = textwrap.wrap(finding.advice, width - len(indent) - 2, break_on_hyphens=False)
        lines += [f"{indent}{'→' if i == 0 else ' '} {line}" for i, line in enumerate(advice)]
    return "\n".join([*lines, "", _verdict(report)])


def encode(report: Report) -> str:
    """The report as one line of JSON, for programs."""
    return msgspec.json.encode({"ok": report.ok, "findings": report.findings}).decode()


def _verdict(report: Report) -> str:
    failed = sum(finding.state == "fail" for finding in report.findings)
    warned = sum(finding.state == "warn" for finding in report.findings)
    if failed:
        return f"Not ready: {failed} failed, {warned} to look at."
    return f"Ready, with {warned} to look at." if warned else "Ready: everything works."
