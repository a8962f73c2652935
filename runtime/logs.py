"""Structured logs: one pipeline for our own events and for the libraries' `logging`, always on stderr.

An event is a snake_case name with fields. On a terminal it is a coloured line, elsewhere one JSON object a
line. Standard output stays free for results. Passwords inside URLs and connection strings are masked before
anything is written, because they come in through libraries' error messages however careful our own code is.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec
import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from structlog.typing import Processor

Format = Literal["auto", "console", "json"]
Level = Literal["debug", "info", "warning", "error"]

# Everything from the first ":" up to the token's last "@" counts as password, because people forget to encode
# one.
_USERINFO = re.compile(r"([a-zA-Z][\w+.-]{0,30}://[^\s:/]*:)\S*@")
_PASSWORD = re.compile(r"(password|passwd|pwd)(\s*=\s*)('[^']*'|[^\s&;,]+)", re.IGNORECASE)
_TOKEN = re.compile(r"\bedge_[A-Za-z0-9_-]{43}|(?<=\bBearer )[^\s\"']+")
_SECRET_FIELDS = frozenset({"password", "secret", "token", "dsn", "url", "api_url"})
_MASK = "***"
_METHODS = {name.lower(): number for name, number in logging.getLevelNamesMapping().items()} | {
    "exception": logging.ERROR,
    "msg": logging.INFO,
}

_encoder = msgspec.json.Encoder(enc_hook=str, decimal_format="number")


def configure(format: Format = "auto", level: str = "info") -> None:  # noqa: A002  # the option's own name
    """Set up structlog and `logging` for this process. Calling it again replaces the former set-up.

    Args:
        format: `auto` is `console` when stderr is a terminal and `json` elsewhere.
        level: lowest level of our own events. Libraries are heard from `warning` on, or from `info` when this
            is `debug`.
    """
    _Level.asked = level
    terminal = sys.stderr.isatty()
    console = format == "console" or (format == "auto" and terminal)
    debug = level == "debug"
    exceptions: Processor = structlog.processors.format_exc_info if debug else one_line_exception
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        exceptions,
        mask_secrets,
    ]
    render: Processor = (
        structlog.dev.ConsoleRenderer(colors=terminal, exception_formatter=structlog.dev.plain_traceback)
        if console
        else render_json
    )
    structlog.configure(
        processors=[drop_below, *shared, render],
        # A logger keeps this class, and the level may change: `drop_below` looks at what it is now.
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    set_level(level)
    logging.captureWarnings(True)  # noqa: FBT003  # the standard library's signature


class _Level:
    """The lowest that is written: as the command line has it, and as it is now."""

    asked = "info"
    now = logging.INFO


def set_level(level: str) -> None:
    """Write from this level on, from now on; "" is what `configure` was asked for."""
    _Level.now = _number(level or _Level.asked)
    libraries = logging.INFO if _Level.now == logging.DEBUG else max(logging.WARNING, _Level.now)
    logging.getLogger().setLevel(libraries)


def is_heard(level: str) -> bool:
    """Whether what is of this level is written: for what is said so often that saying it to nobody costs."""
    return _METHODS.get(level, logging.CRITICAL) >= _Level.now


def drop_below(_logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Processor: leave out what is below the level of now."""
    if not is_heard(method):
        raise structlog.DropEvent
    return event


def mask(text: str) -> str:
    """Replace the password of every URL, `password=…` and tokens in a text by `***`."""
    if "://" in text:
        text = _USERINFO.sub(rf"\1{_MASK}@", text)
    text = _TOKEN.sub(_MASK, text)
    return _PASSWORD.sub(rf"\1\2{_MASK}", text)


def one_line(error: BaseException) -> str:
    """Say an exception in one line, without secrets; of a group, each of its leaves."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(one_line(each) for each in error.exceptions)
    text = " ".join(str(error).split())
    return mask(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def one_line_exception(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Processor: turn `exc_info` into `error` and `error_at`, the place that raised it."""
    exc_info = event.pop("exc_info", None)
    if not exc_info:
        return event
    error = exc_info if isinstance(exc_info, BaseException) else sys.exc_info()[1]
    if isinstance(exc_info, tuple):
        error = exc_info[1]
    if error is not None:
        event["error"] = one_line(error)
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if frames := traceback.extract_tb(error.__traceback__):
            event["error_at"] = f"{frames[-1].filename}:{frames[-1].lineno}"
    return event


def mask_secrets(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Processor: mask passwords in string values, and fields that are secrets by their name altogether."""
    for key, value in event.items():
        if isinstance(value, BaseException):
            event[key] = one_line(value)
        elif isinstance(value, str):
            event[key] = mask(value) if key not in _SECRET_FIELDS or "://" in value else _MASK
    return event


def render_json(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    """Processor: one JSON object, time, level and event first. Never raises: no line may end a process."""
    head = {key: event.pop(key) for key in ("timestamp", "level", "event") if key in event}
    try:
        return _encoder.encode(head | dict(event)).decode()
    except (TypeError, ValueError, RecursionError):
        return json.dumps(head | {key: repr(value) for key, value in event.items()})


class Emit(Protocol):
    """A bound log method such as `log.warning`."""

    def __call__(self, event: str, **fields: Any) -> Any:  # noqa: ANN401  # structlog's own signature
        """Write one event."""


@dataclass(slots=True)
class _Window:
    started_at: float
    written: int = 0
    suppressed: int = 0


class RateLimit:
    """Writes at most so many lines of one event and `reason` an interval, then one that counts the rest.

    Events and reasons are words of the program, so the number of windows is bounded. Not for use from several
    threads.

    Example:
        rejected = RateLimit(log.warning)
        rejected("message_rejected", reason="malformed_json", topic=topic)
    """

    def __init__(
        self,
        emit: Emit,
        *,
        lines: int = 5,
        interval_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._emit = emit
        self._lines = lines
        self._interval_s = interval_s
        self._clock = clock
        self._windows: dict[tuple[str, str | None], _Window] = {}

    def __call__(self, event: str, *, reason: str | None = None, **fields: object) -> None:
        """Write the event, or count it when its interval is full already."""
        now = self._clock()
        window = self._windows.get((event, reason))
        if window is None or now - window.started_at >= self._interval_s:
            self._close(event, reason, window)
            window = self._windows[event, reason] = _Window(now)
        if window.written < self._lines:
            window.written += 1
            self._emit(event, **({"reason": reason} if reason is not None else {}), **fields)
        else:
            window.suppressed += 1

    def flush(self) -> None:
        """Write what the intervals that are over suppressed; to be called every few seconds."""
        now = self._clock()
        for (event, reason), window in list(self._windows.items()):
            if now - window.started_at >= self._interval_s:
                self._close(event, reason, self._windows.pop((event, reason)))

    def close(self) -> None:
        """Write what every interval suppressed, whether it is over or not."""
        for event, reason in list(self._windows):
            self._close(event, reason, self._windows.pop((event, reason)))

    def _close(self, event: str, reason: str | None, window: _Window | None) -> None:
        if window is not None and window.suppressed:
            self._emit(
                "lines_suppressed",
                of=event,
                reason=reason,
                lines=window.suppressed,
                interval_s=self._interval_s,
            )


def _number(level: str) -> int:
    return int(logging.getLevelNamesMapping()[level.upper()])
