"""Draws a picture with rich, as much as fits. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

from runtime.terminal import safe, span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from projector.top.keys import Controls
    from projector.top.picture import DeviceLine, Picture, RegionLine, StreamLine

_REGIONS: Final = 6
_STREAMS: Final = 6
_WIDE: Final = 115
_FRAME: Final = 3  # a blank line, the head of the devices, the keys
_LONG_S: Final = 3600.0
_AHEAD_S: Final = 1.0
_NONE: Final = "-"
_MANY: Final = 0.1  # of the devices


def draw(picture: Picture, controls: Controls, *, width: int, height: int | None) -> RenderableType:
    """The whole screen.

    Args:
        picture: what to draw.
        controls: what the keys have set.
        width: of the screen; on a narrow one regions stand below the streams.
        height: of the screen, which the devices fill; None: all of them, and no line that names the keys.
    """
    streams, regions = picture.streams[:_STREAMS], picture.regions[:_REGIONS]
    title = _title(picture)
    parts: list[RenderableType] = [title, Text()]
    used = len(title.plain.splitlines()) + _FRAME
    if width >= _WIDE:
        side_by_side = Table.grid(padding=(0, 4))
        side_by_side.add_row(_streams(streams), _regions(regions))
        parts += [side_by_side, Text()]
        used += 2 + max(len(streams), len(regions))
    else:
        parts += [_streams(streams), Text(), _regions(regions), Text()]
        used += 4 + len(streams) + len(regions)
    if height is None:
        parts.append(_devices(picture.listed))
    else:
        parts += [_devices(picture.listed[: max(1, height - used)]), _footer(picture, controls)]
    return Group(*parts)


def _title(picture: Picture) -> Text:
    title = Text(f"{picture.devices:,} devices", style="bold")
    unknown = picture.unknown or 0
    silent = "silence is not known yet" if picture.silent is None else f"{picture.silent:,} silent"
    if picture.silent is not None and unknown:
        silent += f", {unknown:,} not known yet"
    is_fine = picture.silent == 0 and unknown <= _MANY * picture.devices
    title.append(f"   {silent}", style="green" if is_fine else "yellow")
    if picture.offline:
        title.append(f"   {picture.offline:,} offline", style="yellow")
    if picture.clocks_wrong:
        title.append(f"   {picture.clocks_wrong:,} clocks wrong", style="yellow")
    if picture.retired:
        title.append(f"   {picture.retired:,} retired", style="dim")
    if picture.never_heard:
        title.append(f"   {picture.never_heard:,} never heard", style="dim")
    title.append(f"   {_rate(picture.events_per_s)} events/s")
    title.append(f"   {picture.at[11:19]}Z", style="dim")
    if picture.redis:
        seen = f" (this is of {picture.at[11:19]}Z)"
        title = Text(f"redis is away, trying again: {picture.redis}{seen}", style="bold red")
    elif picture.projector:
        why = "no projector answers: lag is unknown, and silence is as it was told"
        title.append(f"\n{why}: {picture.projector}", style="yellow")
    return title


def _streams(streams: Sequence[StreamLine]) -> Table:
    steps = ("received", "committed", "published", "projected")
    table = _table("stream", "row", "rows/s", "behind", "for", *steps)
    for line in streams:
        lag = line.lag_seconds or {}
        behind = Text(_NONE if line.behind_rows is None else f"{line.behind_rows:,}")
        if line.behind_rows:
            behind.stylize("yellow")
        since = _NONE if line.behind_seconds is None else span(line.behind_seconds)
        each = [_NONE if (seconds := lag.get(step)) is None else span(seconds) for step in steps]
        table.add_row(str(line.stream), f"{line.cursor:,}", _rate(line.rows_per_s), behind, since, *each)
    return table


def _regions(regions: Sequence[RegionLine]) -> Table:
    table = _table("region", "devices", "messages", "per s")
    for line in regions:
        table.add_row(
            safe(line.region), f"{line.devices:,}", f"{line.messages:,}", _rate(line.messages_per_s)
        )
    return table


def _devices(devices: Sequence[DeviceLine]) -> Table:
    is_named = any(line.name for line in devices)
    table = _table("device", *(["name"] if is_named else ()), "last seen", "messages", "per s", "region")
    for line in devices:
        seen = Text(span(line.silent_s))
        if line.silent:
            style = "yellow" if line.heard_s is not None and line.heard_s <= _LONG_S else "red"
            seen = Text(f"{'' if line.heard_s is None else span(line.heard_s)} silent", style=style)
        elif line.muted:
            seen.append(" muted")
        elif line.online is False:
            seen = Text(f"offline since {_since(line.online_since)}", style="yellow")
        elif line.clock is not None:
            seen = Text(f"clock {line.clock}", style="yellow")
        elif line.silent_s < -_AHEAD_S:
            seen.append(" ahead")
        region = safe(line.region or "-")
        name = [safe(line.name or _NONE)] if is_named else []
        rate = _rate(line.messages_per_s)
        table.add_row(safe(line.device_id), *name, seen, f"{line.messages:,}", rate, region)
    return table


def _footer(picture: Picture, controls: Controls) -> Text:
    order = "silent first" if controls.order == "silent" else "fresh first"
    text = Text(f"q quit   s {order}   / filter", style="dim")
    if controls.typing or controls.part:
        text.append(f" {safe(controls.part)}{'▏' if controls.typing else '  (Esc: none)'}", style="bold")
    if picture.walked is not None:
        text.append(f"   among the first {picture.walked:,} of {picture.devices:,}", style="yellow")
    if picture.silent_walked is not None:
        text.append(f"   among {picture.silent_walked:,} of the silent ones", style="yellow")
    return text


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in names:
        text = name in {"device", "name", "region"}
        table.add_column(name, justify="left" if text else "right", no_wrap=True, overflow="ellipsis")
    return table


def _rate(per_s: float | None) -> str:
    return _NONE if per_s is None else f"{per_s:,.1f}"


def _since(moment: str | None) -> str:
    """A time of the contract to the minute, UTC."""
    return _NONE if moment is None else f"{moment[:10]} {moment[11:16]}Z"
