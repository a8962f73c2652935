"""What the query API answers. Every answer says in `views`, or in `history`, how current it is."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar
from zlib import crc32

import msgspec
from litestar import Request, Response
from litestar.exceptions import NotFoundException
from litestar.openapi.datastructures import ResponseSpec

from contract.events import format_time
from projector.history.series import Series
from projector.lag import Freshness  # noqa: TC001  # msgspec and Litestar read annotations
from projector.names.book import NOBODY
from projector.query import DeviceStats, RegionStats
from projector.watch.book import STATES, State

if TYPE_CHECKING:
    from litestar import Litestar
    from litestar.types import HTTPResponseStartEvent, Receive, Scope, Send

    from projector.watch.care import Care
    from projector.watch.said import Said

_encoder = msgspec.json.Encoder()

A = TypeVar("A", "DeviceAnswer", "RegionAnswer")


class CareAnswer(msgspec.Struct, frozen=True):
    """What somebody has said of a device, with `projector devices mute` or `retire`.

    Attributes:
        since: when, ISO 8601 UTC.
        until: when a mute ends by itself, same form; null for a retired one.
        by: who.
    """

    since: str
    until: str | None
    by: str
    reason: str


class WatchedDevice(DeviceStats, frozen=True, kw_only=True):
    """Statistics of a device, whether it is silent, and whether its clock is right.

    Attributes:
        state: `silent` when nothing has come of it for longer than is usual for it, whatever its clock says;
            `ok`; `unknown`, as long as a projector that has just begun has not heard it; `offline`, when it
            said so itself; or `muted` or `retired`, whatever it is beside that.
        heard_at: when its last message came, ISO 8601 UTC; null when that is not known.
        usual_seconds: how long it usually pauses; null when that is not known.
        clock_wrong_since: when its clock was found to be wrong (`projector.clock_tolerance`), same form; null
            when it is right.
        clock_error_seconds: by how much a wrong one is ahead, negative behind; null as long as that has not
            shown since a projector began.
        care: null for a device that is neither muted nor retired.
        name: what people call it (`gateway devices set`); null when nobody has said.
        labels: what people have put on it.
        expected_seconds: how often people say it should send: then silence goes by that, not by its pauses.
        blocked: whether nothing that it sends is let in.
    """

    state: State
    heard_at: str | None
    usual_seconds: int | None
    clock_wrong_since: str | None
    clock_error_seconds: int | None
    care: CareAnswer | None
    name: str | None
    labels: dict[str, str]
    expected_seconds: int | None
    blocked: bool


class DeviceAnswer(WatchedDevice, frozen=True, kw_only=True):
    """Statistics of one device."""

    views: Freshness


def heard(said: Said) -> dict[str, Any]:
    """What the watch says of a device, as fields of an answer."""
    care, known = said.care, said.known
    return {
        "state": said.state,
        "heard_at": _time(said.heard_at),
        "usual_seconds": said.usual_s,
        "clock_wrong_since": _time(said.clock_since),
        "clock_error_seconds": said.clock_error_s,
        "care": None if care is None else _care(care),
        "name": known.name,
        "labels": known.label,
        "expected_seconds": known.expected_s,
        "blocked": known.blocked,
    }


def version_of(said: Said) -> tuple[int, ...]:
    """Numbers that change whenever what the watch says does."""
    return (
        *(STATES.index(said.state), said.heard_at or 0, said.usual_s or 0),
        *(said.clock_since or 0, said.clock_error_s or 0, said.care.version if said.care else 0),
        said.offline_since or 0,
        0 if said.known is NOBODY else crc32(repr(said.known).encode()),
    )


def _care(care: Care) -> CareAnswer:
    until = None if care.until is None else format_time(care.until)
    return CareAnswer(format_time(care.at), until, care.by, care.reason)


def _time(at: int | None) -> str | None:
    return None if at is None else format_time(datetime.fromtimestamp(at, UTC))


class RegionAnswer(RegionStats, frozen=True, kw_only=True):
    """Statistics of one region."""

    views: Freshness


class DevicePage(msgspec.Struct, frozen=True):
    """Some devices, those with the oldest readings first.

    Attributes:
        next: the `after` of the next page; null when this is the last. A page may hold fewer devices than
            asked for, or none, and still have a next.
    """

    devices: list[WatchedDevice]
    next: str | None
    views: Freshness


class RegionPage(msgspec.Struct, frozen=True):
    """Some regions, by name.

    Attributes:
        next: the `after` of the next page; null when this is the last.
        dropped: how many regions without devices have made room for others (`projector.max_regions`).
    """

    regions: list[RegionStats]
    next: str | None
    dropped: int
    views: Freshness


class SeriesAnswer(Series, frozen=True, kw_only=True):
    """A metric of one device over time."""

    history: Freshness


class ProblemError(msgspec.Struct, frozen=True):
    """What is wrong with a parameter."""

    message: str
    key: str | None = None
    source: str | None = None


class Problem(msgspec.Struct, frozen=True):
    """A problem document (RFC 9457).

    Attributes:
        detail: what is wrong, with what, and how to mend it.
        errors: each parameter that is wrong, when several can be.
    """

    type: str
    status: int
    title: str
    detail: str
    errors: list[ProblemError] = []


def problem(description: str) -> ResponseSpec:
    """A problem document as a documented response."""
    return ResponseSpec(
        Problem, description=description, media_type="application/problem+json", generate_examples=False
    )


def unknown_device(device_id: str, said: Said | None = None) -> NotFoundException:
    """The refusal of a device that the views do not have."""
    if said is not None and said.known.never_heard:
        called = f", {said.known.name!r}" if said.known.name else ""
        return NotFoundException(f"device {device_id!r}{called} is in the registry and was never heard")
    return NotFoundException(f"no device {device_id!r} is in the views; GET /devices lists those that are")


class StatsResponse(Response[A]):
    """Statistics, or 304 when the caller has them.

    The tag is weak, as `views` changes without it; so a 304 says in a header how current the views are. These
    are the answers that are asked for most, so they go to the server without what the framework's own
    response can do beside.

    Args:
        answer: what to send.
        version: changes whenever the statistics do.
    """

    __slots__ = ("_tag",)

    def __init__(self, answer: A, *version: int) -> None:
        self.content = answer
        self._tag = b'W/"%b"' % b"-".join(b"%x" % number for number in version)

    def to_asgi_response(self, app: Litestar | None, request: Request[Any, Any, Any], **_: Any) -> Any:  # noqa: ANN401, ARG002  # the framework's signature
        """Compare tags and write what goes out."""
        headers = [(b"etag", self._tag)]
        for name, value in request.scope["headers"]:
            if name == b"if-none-match" and _names(value, self._tag):
                headers.append((b"views", _summary(self.content.views)))
                return _Written(HTTPStatus.NOT_MODIFIED, headers, b"")
        body = _encoder.encode(self.content)
        headers += (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))
        return _Written(HTTPStatus.OK, headers, body)


class _Written:
    """An answer as the server takes it."""

    __slots__ = ("_body", "_start")

    def __init__(self, status: HTTPStatus, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self._start: HTTPResponseStartEvent = {
            "type": "http.response.start",
            "status": status,
            "headers": headers,
        }
        self._body = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # ASGI
        await send(self._start)
        await send({"type": "http.response.body", "body": self._body, "more_body": False})


def _summary(views: Freshness) -> bytes:
    """Freshness as a header, a dictionary of RFC 8941."""
    as_of = f'as_of="{views.as_of}", ' if views.as_of else ""
    return f"{as_of}behind_rows={views.behind_rows}, behind_seconds={views.behind_seconds:.3f}".encode()


def _names(condition: bytes, tag: bytes) -> bool:
    """Whether `If-None-Match` names a tag, compared weakly (RFC 9110 §13.1.2)."""
    tags = [each.strip().removeprefix(b"W/") for each in condition.split(b",")]
    return b"*" in tags or tag.removeprefix(b"W/") in tags
