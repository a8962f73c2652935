"""Every dashboard, as the files that Grafana reads."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana import device, fleet, health, regions, views

if TYPE_CHECKING:
    from grafana_foundation_sdk.models.dashboard import Dashboard

FOLDER: Final = Path(__file__).parent


def dashboards() -> dict[str, Dashboard]:
    """Build them all, by file; their panels are numbered, so that a link to one panel stays valid."""
    built = {"dashboards": [module.dashboard().build() for module in (fleet, device, regions, health)]}
    built["redis/dashboards"] = [views.dashboard().build()]
    for each in chain.from_iterable(built.values()):
        for number, panel in enumerate(each.panels or [], start=1):
            panel.id_val = number
    return {f"{folder}/{each.uid}.json": each for folder, some in built.items() for each in some}


def rendered() -> dict[str, str]:
    """File name → JSON."""
    encoder = JSONEncoder(indent=2, sort_keys=True, ensure_ascii=False)
    return {name: encoder.encode(each) + "\n" for name, each in dashboards().items()}
