"""The pure parts of `gateway tail` and `projector top`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import pytest
from rich.console import Console

from contract.events import Event, EventBatch
from contract.signature import seal
from gateway.tail.filters import Filters
from gateway.tail.items import Measurement, Missed
from gateway.tail.lines import coloured, plain
from gateway.tail.measurements import Rows
from gateway.tail.quiet import Heard
from gateway.tail.rejections import Seen
from gateway.trace.facts import key_names, names_key
from projector.top.keys import Controls
from projector.top.picture import Picture
from projector.top.screen import draw
from runtime.settings import Route
from runtime.terminal import span
from tests.support.write_side import Delivered

if TYPE_CHECKING:
    from gateway.tail.items import Item

NOW = datetime(2026, 11, 23, 9, 0, 1, tzinfo=UTC)


class Kept:
    """An output that keeps what it is given."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.notes: list[str] = []

    def put(self, item: Item, size: int) -> None:
        assert size >= 0
        self.items.append(item)

    def note(self, text: str) -> None:
        self.notes.append(text)


def row(n: int, epoch: str = "e", time: str = "2026-11-23T09:00:00.000000Z") -> EventBatch:
    return EventBatch(1, 0, n, epoch, time, [Event("a1", None, time, time, f"k{n}", {"x": n})])


def test_rows_are_shown_once_and_gaps_told() -> None:
    """A row that comes again is nothing new, missing ones are told, and a new history begins anew."""
    kept = Kept()
    rows = Rows(Filters(), kept, {}, Heard())  # type: ignore[arg-type]  # an output without a thread
    for each in (row(5), row(6), row(5), row(6), row(9), row(2, "f")):
        rows.take(each, 100, NOW)
    shown = [item.n if isinstance(item, Measurement) else item for item in kept.items]
    assert shown == [5, 6, Missed(0, 7, 8), 9, 2]


@pytest.mark.parametrize("odd", ["yesterday", "2026-11-23T09:00:00"])
def test_an_odd_message_is_noted_and_the_next_is_shown(odd: str) -> None:
    """Times that are none, or have no zone, and what is no batch at all, do not end it."""
    kept = Kept()
    rows = Rows(Filters(), kept, {}, Heard())  # type: ignore[arg-type]  # the same
    messages = [
        b"{",
        b"[" * 100_000,
        *(msgspec.json.encode(each) for each in (row(1), row(2, time=odd), row(3))),
    ]
    for payload in messages:
        rows.read(Delivered("events\x1b[2J/0", payload), NOW)
    assert [item.n for item in kept.items if isinstance(item, Measurement)] == [1, 3]
    assert len(kept.notes) == 3
    assert all(note.startswith("events\\x1b[2J/0: no event batch: ") for note in kept.notes)


def test_what_nobody_signed_is_left_out() -> None:
    """Of a stream whose key is known only signed rows are shown, and that others come is said once."""
    kept, key = Kept(), bytes(32)
    rows = Rows(Filters(), kept, {0: key}, Heard())  # type: ignore[arg-type]  # the same
    body = msgspec.json.encode(row(1))[1:]
    forged = msgspec.json.encode(row(10**9))
    for payload in (forged, b"[" * 100_000, seal(b"k", body) + body, seal(key, body) + body, forged):
        rows.read(Delivered("events/0", payload), NOW)
    assert [item.n for item in kept.items if isinstance(item, Measurement)] == [1]
    rows.read(Delivered("events/77", forged), NOW)  # a stream that nobody has
    assert [item.n for item in kept.items if isinstance(item, Measurement)] == [1]
    assert kept.notes == ["events/0: what no gateway has signed is left out"]


def test_letters_behind_later_ones_are_asked_for() -> None:
    """For half a minute the floor stays below what was shown, then it follows; a flood moves it sooner."""
    seen = Seen(100)
    seen.add(103, 0.0)
    seen.add(102, 1.0)
    assert (seen.floor, seen.ids) == (100, [103, 102])
    seen.add(110, 30.5)
    assert (seen.floor, seen.ids) == (103, [102, 110])
    for id_ in range(111, 10_200):
        seen.add(id_, 31.0)
    assert len(seen.ids) == 10_000
    assert seen.floor == 199


def test_a_line_says_without_colours_what_colours_say() -> None:
    """Colours only repeat what the words say, and nothing of a stranger's text reaches the terminal."""
    time = "2026-11-23T09:00:00.000000Z"
    item = Measurement("a\x1b[2J", "é", time, time, -7200, 0.04, {"x": 1.5, "y": True}, "k\n", 0, 1)
    text = plain(item)
    assert text == "09:00:00.000Z  a\\x1b[2J  é  x=1.5 y=true  2.0h ahead, here in 40ms  key=k\\n"
    for code in (0, 2, 33, 35, 36):
        assert f"\x1b[{code}m" in coloured(item)


@pytest.mark.parametrize(
    ("seconds", "spelt"), [(0.0401, "40ms"), (-1.25, "1.2s"), (90, "1.5min"), (7200, "2.0h"), (2e5, "2.3d")]
)
def test_spans(seconds: float, spelt: str) -> None:
    """Durations are told in a few signs."""
    assert span(seconds) == spelt


@pytest.mark.parametrize(
    ("payload", "found"),
    [
        (b'{"id": "k"}', True),
        (b'[{"id": "j"}, {"message_id": "k"}]', True),
        (b'{"id": null, "idempotency_key": "k"}', True),
        (b'{"id": 17, "note": "k"}', False),
        (b'{"id": "j", "message_id": "k"}', False),
        (b'["k"]', False),
        (b'{"id": "k', None),
    ],
)
def test_whether_a_payload_has_a_key(payload: bytes, found: bool | None) -> None:  # noqa: FBT001  # a parameter
    """The key is looked for where the decoder would; bytes that nobody can read leave it open."""
    assert names_key(payload, "k", key_names([Route()])) is found


def test_keys_of_routes() -> None:
    """A key is a field that a route names, wherever it stands; an expression leaves it open."""
    names = key_names([Route(key="meta.seq | nr"), Route(key="")])
    assert names_key(b'{"data":[{"meta":{"seq":7}}]}', "7", names) is True
    assert names_key(b'{"data":[{"meta":{"count":7}}]}', "7", names) is False
    assert names_key(b'{"nr":7}', "7", key_names([Route(), Route(key="max(nr)")])) is None
    assert names_key(b'{"nr":7}', "7", key_names([Route(each="*", key="$1")])) is None


def test_keys() -> None:
    """While a filter is typed, letters are letters; Esc ends it."""
    controls = Controls()
    for key in "x/qs\x7f\x1b":
        controls = controls.press(key)
    assert controls == Controls()
    for key in "/qs\x7f\n":
        controls = controls.press(key)
    assert controls == Controls(part="q")
    assert controls.press("s").order == "fresh"
    assert controls.press("q").quits


@pytest.mark.parametrize(
    ("silent", "unknown", "said", "colour"),
    [
        (0, 0, "0 silent", "32"),
        (0, None, "0 silent", "32"),
        (0, 5, "0 silent, 5 not known yet", "32"),
        (0, 50, "0 silent, 50 not known yet", "33"),
        (1, 0, "1 silent", "33"),
        (None, 50, "silence is not known yet", "33"),
    ],
)
def test_none_silent_is_green_where_most_are_known(
    silent: int | None, unknown: int | None, said: str, colour: str
) -> None:
    """As on the page: while more than one in ten is not known yet nobody says that all is well."""
    console = Console(force_terminal=True, color_system="standard", width=120)
    with console.capture() as captured:
        picture = Picture(at="2026-11-23T09:00:00Z", devices=50, silent=silent, unknown=unknown)
        console.print(draw(picture, Controls(), width=120, height=20))
    assert f"\x1b[1;{colour}m   {said}\x1b[0m" in captured.get().splitlines()[0]
