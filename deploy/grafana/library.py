"""Every dashboard, as the files that Grafana reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana import device, fleet, health, regions

if TYPE_CHECKING:
    from grafana_foundation_sdk.models.dashboard import Dashboard

FOLDER: Final = Path(__file__).with_name("dashboards")


def dashboards() -> list[Dashboard]:
    """Build them all, their panels numbered, so that a link to one panel stays valid."""
    built = [module.dashboard().build() for module in (fleet, device, regions, health)]
    for each in built:
        for number, panel in enumerate(each.panels or [], start=1):
            panel.id_val = number
    return built


def rendered() -> dict[str, str]:
    """File name → JSON."""
    encoder = JSONEncoder(indent=2, sort_keys=True, ensure_ascii=False)
    return {f"{each.uid}.json": encoder.encode(each) + "\n" for each in dashboards()}
