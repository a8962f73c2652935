"""Tells what has been claimed: in the log, on the topic of devices, and by counting it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import structlog
from msgspec.structs import replace

from contract.changes import VERSION, DeviceChange, encode_change
from contract.events import format_time
from contract.order import format_microseconds
from contract.topics import devices_topic
from projector.post import Post
from projector.watch.drift import RIGHT
from runtime.logs import RateLimit

if TYPE_CHECKING:
    from contract.changes import DeviceState
    from projector.names.book import Names
    from projector.watch.book import Change, Device
    from projector.watch.care import Care, What
    from projector.watch.drifts import ClockChange
    from projector.watch.gauges import Gauges
    from projector.watch.presences import PresenceChange
    from runtime.mqtt import Session

_STATES: Final[dict[What, DeviceState]] = {
    "muted": "muted",
    "unmuted": "unmuted",
    "expired": "unmuted",
    "retired": "retired",
    "unretired": "unretired",
    "returned": "ok",
}

log = structlog.get_logger()


class Voice:
    """Of many changes at once the log has a few lines and their number, the topic all.

    Args:
        session: publishes.
        topic: the events topic, below which that of devices is.
        names: what people call devices.
    """

    def __init__(self, session: Session, topic: str, gauges: Gauges, names: Names) -> None:
        self._gauges = gauges
        self._names = names
        self.warn = RateLimit(log.warning)
        self._say = RateLimit(log.info)
        self._post = Post(session, devices_topic(topic), lost=self._lose)

    @property
    def room(self) -> int:
        """How many more changes may be told."""
        return self._post.room

    @property
    def waiting(self) -> int:
        """How many have been told of and not been published yet."""
        return self._post.waiting

    async def speak(self) -> None:
        """Publish some of what was told."""
        await self._post.publish()
        self.warn.flush()
        self._say.flush()

    async def close(self) -> None:
        """Publish all while the broker takes it; the rest is lost."""
        await self._post.close()
        self.warn.close()
        self._say.close()

    def silence(self, change: Change) -> None:
        """Tell that a device is silent, or back."""
        tell, event = (self.warn, "device_silent") if change.silent else (self._say, "device_back")
        heard_at = text(change.heard_at) if change.heard_at else None
        tell(
            event,
            device=change.device_id,
            region=change.region,
            heard_at=heard_at,
            usual_s=change.usual_s,
        )
        state: DeviceState = "silent" if change.silent else "ok"
        about = (VERSION, change.device_id, change.region, state, text(change.at), heard_at, change.usual_s)
        self._tell(DeviceChange(*about))

    def presence(self, change: PresenceChange, device: Device | None) -> None:
        """Tell that a device said it is offline, or is online again."""
        state: DeviceState = "online" if change.online else "offline"
        since = format_microseconds(change.since)
        tell = self._say if change.online else self.warn
        tell(f"device_{state}", device=change.device_id, region=change.region, since=since)
        heard_at = text(device.at) if device and device.at else None
        self._tell(DeviceChange(VERSION, change.device_id, change.region, state, since, heard_at, None))

    def clock(self, change: ClockChange, device: Device | None) -> None:
        """Tell that a device's clock is wrong, or right."""
        is_right = change.level == RIGHT
        tell, event = (self._say, "device_clock_right") if is_right else (self.warn, "device_clock_wrong")
        tell(
            event,
            device=change.device_id,
            region=change.region,
            clock_error_s=change.error_s,
        )
        state: DeviceState = "clock_right" if is_right else "clock_wrong"
        heard_at = text(device.at) if device and device.at else None
        about = (VERSION, change.device_id, change.region, state, text(change.at), heard_at, None)
        self._tell(DeviceChange(*about, clock_error_seconds=change.error_s))

    def care(self, care: Care, device: Device | None) -> None:
        """Tell what somebody has said of a device, or that it has come to its end."""
        state = _STATES[care.what]
        by = None if care.what in {"expired", "returned"} else care.by
        until = None if care.until is None else format_time(care.until)
        event = "device_back" if state == "ok" else f"device_{state}"
        region = device.region if device else None
        self._say(event, device=care.device_id, region=region, by=by, reason=care.reason or None, until=until)
        heard_at = text(device.at) if device and device.at else None
        about = (VERSION, care.device_id, region, state, format_time(care.at), heard_at, None)
        self._tell(DeviceChange(*about, until=until, by=by, reason=care.reason or None))

    def _tell(self, change: DeviceChange) -> None:
        self._gauges.told(change.state)
        name = self._names.called.get(change.device_id)
        self._post.add(encode_change(replace(change, name=name)))

    def _lose(self, changes: int, reason: str, detail: str) -> None:
        self.warn("device_changes_lost", reason=reason, detail=detail, changes=changes)
        self._gauges.lost(changes)


def text(at: int) -> str:
    """Epoch seconds in the form of the contract."""
    return format_time(datetime.fromtimestamp(at, UTC))
