"""How long certificates last: those in files that the configuration names, and those that brokers show."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gateway.check.report import Finding
from runtime.certificates import SOON_S, files_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from runtime.settings import Settings


async def check_certificates(settings: Settings) -> AsyncIterator[Finding]:
    """Look at the files."""
    for key, file in files_of(settings, "gateway").items():
        try:
            yield lasting(f"certificate {key}", file.ends(), file.path)
        except OSError as error:
            told = f"{file.path}: cannot be read: {error.strerror}"
            yield Finding(
                f"certificate {key}", "fail", told, "let the gateway's user read it, or mend the key"
            )
        except ValueError:
            yield Finding(f"certificate {key}", "fail", f"{file.path}: no certificate in PEM is in it")


def lasting(component: str, ends: float, where: str) -> Finding:
    """What to say of a certificate that ends at a time in epoch seconds."""
    left_s = ends - time.time()
    until = f"until {datetime.fromtimestamp(ends, UTC):%F}"
    if left_s > SOON_S:
        return Finding(component, "ok", f"{where}: {until}")
    advice = "make a new one before: `gateway init DIR --renew`, if that made it"
    if left_s > 0:
        return Finding(component, "warn", f"{where}: {until}, {left_s / 86_400:.0f} days", advice)
    return Finding(component, "fail", f"{where}: it has ended, {until}", advice)
