"""What the query API answers. Every answer says in `views` how current it is."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, TypeVar, cast

import msgspec
from litestar import Request, Response
from litestar.openapi.datastructures import ResponseSpec
from msgspec.structs import astuple

from projector.lag import Freshness  # noqa: TC001  # msgspec and Litestar read annotations
from projector.query import DeviceStats, RegionStats

A = TypeVar("A", "DeviceAnswer", "RegionAnswer")


class DeviceAnswer(DeviceStats, frozen=True, kw_only=True):
    """Statistics of one device."""

    views: Freshness


class RegionAnswer(RegionStats, frozen=True, kw_only=True):
    """Statistics of one region."""

    views: Freshness


class DevicePage(msgspec.Struct, frozen=True):
    """Some devices, the longest silent first.

    Attributes:
        next: the `after` of the next page; null when this is the last. A page may hold fewer devices than
            asked for, or none, and still have a next.
    """

    devices: list[DeviceStats]
    next: str | None
    views: Freshness


class RegionPage(msgspec.Struct, frozen=True):
    """Some regions, by name.

    Attributes:
        next: the `after` of the next page; null when this is the last.
    """

    regions: list[RegionStats]
    next: str | None
    views: Freshness


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


def device_answer(
    request: Request[Any, Any, Any], stats: DeviceStats, views: Freshness
) -> Response[DeviceAnswer]:
    """Answer with a device's statistics, or with 304 when the caller has them."""
    tag = f'W/"{stats.updated_ms:x}-{stats.sample_count:x}"'
    return _unless_known(request, tag, DeviceAnswer(*astuple(stats), views=views))


def region_answer(
    request: Request[Any, Any, Any], stats: RegionStats, views: Freshness
) -> Response[RegionAnswer]:
    """Answer with a region's statistics, or with 304 when the caller has them."""
    tag = f'W/"{stats.updated_ms:x}-{stats.sample_count:x}-{stats.device_count:x}"'
    return _unless_known(request, tag, RegionAnswer(*astuple(stats), views=views))


def _unless_known(request: Request[Any, Any, Any], tag: str, answer: A) -> Response[A]:
    """The tag is weak, as `views` changes without it; so a 304 says in a header how current the views are."""
    headers = {"etag": tag, "cache-control": "no-cache"}
    known = request.headers.get("if-none-match")
    if known is None or not _names(known, tag):
        return Response(answer, headers=headers)
    views = answer.views
    headers["views"] = (
        f'as_of="{views.as_of or ""}", behind_rows={views.behind_rows}, '
        f"behind_seconds={views.behind_seconds:.3f}"
    )
    return Response(cast("A", None), status_code=HTTPStatus.NOT_MODIFIED, headers=headers)


def _names(condition: str, tag: str) -> bool:
    """Whether `If-None-Match` names a tag, compared weakly (RFC 9110 §13.1.2)."""
    tags = [each.strip().removeprefix("W/") for each in condition.split(",")]
    return "*" in tags or tag.removeprefix("W/") in tags
