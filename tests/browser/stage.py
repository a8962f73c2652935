"""The page without a site behind it: a test says what comes, what is answered, and what time it is."""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlsplit

from msgspec.structs import replace

from projector.live.frames import Frames
from projector.live.state import Devices, Letters, Rates, Row, State

if TYPE_CHECKING:
    from playwright.async_api import Page, Route

BASE: Final = "http://edge.test/"
AT_MS: Final = 1_795_000_000_000
STATE: Final = State(
    at_ms=AT_MS,
    views_at_ms=AT_MS,
    letters_at_ms=AT_MS,
    problems={},
    rates=Rates(None, 0, []),
    streams=[],
    regions=[],
    devices=Devices(0, 0, 0, 0, []),
    letters=Letters([], 0, more=False, reasons={}, constant_keys=[]),
    rows={},
    sparks={},
)
_FILES: Final = resources.files("projector.live").joinpath("page")
_TYPES: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_SOURCE: Final = """
delete globalThis.SharedWorker;
globalThis.opened = [];
globalThis.EventSource = class {
  static CONNECTING = 0;
  static CLOSED = 2;
  readyState = 0;
  constructor() { opened.push(this); }
  addEventListener() {}
  close() { this.closed = true; }
};
AbortSignal.timeout = (ms) => { // by the test's clock
  const giving = new AbortController();
  setTimeout(() => giving.abort(new DOMException("", "TimeoutError")), ms);
  return giving.signal;
};
globalThis.looking = (seen) => {
  Object.defineProperty(document, "hidden", { value: !seen, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
};"""


def row(id_: str, *, seen_ms: int = AT_MS, **values: float | str) -> Row:
    """A device's row."""
    return Row(
        *(id_, "ok", None, {}, seen_ms, None),
        clock_wrong=False,
        clock_error_s=None,
        rejected=0,
        reason=None,
        values=values,
    )


class Stage:
    """One page, and what stands where its site would be.

    Attributes:
        answers: path → what is answered: an object, a status alone, nothing when it is None, or what a
            function says of the query.
        asked: path and query of what was asked for.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.answers: dict[str, Any] = {"live/site": {"units": {}, "grafana": ""}}
        self.asked: list[str] = []
        self._state = STATE
        self._frames = Frames()

    async def open(self, hash_: str = "") -> None:
        """Open the page; its clock stands at `AT_MS` and goes by itself."""
        await self.page.clock.install(time=AT_MS / 1000)
        await self.page.add_init_script(_SOURCE)
        await self.page.route("**/*", self._answer)
        await self.page.goto(f"{BASE}{hash_}")

    async def show(self, *rows: Row, **parts: Any) -> None:  # noqa: ANN401  # parts of the state
        """A frame comes, with these devices if there are any; other parts of the state are as before."""
        if rows:
            order = [each.id for each in rows]
            parts = {"devices": Devices(len(rows), len(rows), 0, 0, order), **parts}
            parts["rows"] = {each.id: each for each in rows}
        self._state = replace(self._state, **parts)
        frame = self._frames.next(self._state).full.decode()
        await self.page.evaluate("(data) => opened.at(-1).onmessage({ data })", frame)

    async def pass_s(self, seconds: float) -> None:
        """Let time pass at once, with all timers that are due meanwhile."""
        await self.page.clock.run_for(int(seconds * 1000))

    async def _answer(self, route: Route) -> None:
        url = urlsplit(route.request.url)
        path = url.path.removeprefix("/") or "index.html"
        name = path.removeprefix("live/")
        kind = name.rpartition(".")[2]
        if kind in _TYPES:
            await route.fulfill(body=_FILES.joinpath(name).read_bytes(), content_type=_TYPES[kind])
            return
        self.asked.append(f"{path}?{url.query}")
        answer = self.answers.get(path, 404)
        if callable(answer):
            answer = await answer(dict(parse_qsl(url.query)))
        if isinstance(answer, int):
            await route.fulfill(status=answer)
        elif answer is not None:
            await route.fulfill(body=json.dumps(answer), content_type="application/json")
