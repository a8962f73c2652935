"""All scenarios, in the order in which they run and are reported; those of a group run in turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bench import (
    backlog,
    ceiling,
    dialects,
    dirty,
    distance,
    drivers,
    floors,
    growth,
    history,
    history_storage,
    ingest,
    latency,
    page,
    quiet,
    read_side,
    rebuild,
    reference,
    sizing,
    spool,
)

if TYPE_CHECKING:
    from bench.scenario import Scenario

GROUPS: Final[tuple[tuple[Scenario[Any], ...], ...]] = (
    (ceiling.SCENARIO, floors.SCENARIO, reference.SCENARIO, ingest.SCENARIO),
    (drivers.SCENARIO,),
    (dialects.SCENARIO,),
    (dirty.SCENARIO,),
    (history.SCENARIO,),
    (history_storage.SCENARIO,),
    (latency.SCENARIO,),
    (quiet.SCENARIO,),
    (sizing.SCENARIO,),
    (distance.SCENARIO,),
    (spool.SCENARIO,),
    (backlog.SCENARIO,),
    (growth.SCENARIO,),
    (read_side.SCENARIO,),
    (rebuild.SCENARIO,),
    (page.SCENARIO,),
)

SCENARIOS: Final[dict[str, Scenario[Any]]] = {
    scenario.name: scenario for group in GROUPS for scenario in group
}
