"""What people say devices are, and how silence goes by how often one should send."""

from __future__ import annotations

import io

from rich.console import Console

from projector.devices.listing import Listed, cells
from projector.lag import DeviceCounts
from projector.live.index import Index, has
from projector.names.book import NOBODY, Known, Names
from projector.names.reader import read_known
from projector.top.keys import Controls
from projector.top.picture import DeviceLine, Picture
from projector.top.screen import draw
from projector.watch.said import Watch
from projector.watch.silence import Silence
from tests.unit.test_watch import HOUR, MINUTE, START, Site


def saying(**known: Known) -> Names:
    names = Names()
    for id_, each in known.items():
        names.take(id_, each)
    return names


def site(names: Names) -> Site:
    """A site whose devices should send as these say."""
    return Site(Silence({}, expected_s=names.expected_s))


# -- what is said --------------------------------------------------------------------------------------------


def test_what_is_said_of_a_device() -> None:
    """Something else is a change, the same is none, and nothing any more is forgotten."""
    names = Names()
    pump = Known("Pump", '{"site": "north"}', 900)
    assert [names.take("a1", each) for each in (pump, pump, NOBODY, NOBODY)] == [True, False, True, False]
    assert (len(names), names.called, names.of("a1")) == (0, {}, NOBODY)
    names.take("a1", pump)
    assert names.called == {"a1": "Pump"}
    assert (names.of("a1").label, names.expected_s("a1"), names.expected_s("b1")) == (
        {"site": "north"},
        900,
        None,
    )


def test_who_was_never_heard_is_known_until_it_is() -> None:
    """With its first message, or when it is not to send any more."""
    names = saying(a1=Known(never_heard=True), b1=Known("B", never_heard=True))
    assert list(names.never_heard) == ["a1", "b1"]
    names.take("a1", NOBODY)
    names.take("b1", Known("B"))
    assert list(names.never_heard) == []


def test_there_is_room_for_so_many() -> None:
    """Who comes when there is none is left out and counted; who is known stays known, and may change."""
    names = Names(most=2)
    for id_ in ("a1", "b1", "c1"):
        names.take(id_, Known(id_))
    names.take("a1", Known("other"))
    assert (list(names), names.left_out, names.of("a1").name, names.of("c1")) == (
        ["a1", "b1"],
        1,
        "other",
        NOBODY,
    )


def test_labels_put_there_by_hand_are_texts() -> None:
    """Whatever JSON somebody made of them."""
    assert Known(labels='{"a": 1, "b": {"c": [null]}, "d": "e"}').label == {
        "a": "1",
        "b": '{"c":[null]}',
        "d": "e",
    }


def test_who_has_a_label() -> None:
    """By name and value, of many that have the same ones."""
    north, south = '{"site": "north", "line": "3"}', '{"site": "south"}'
    names = saying(a1=Known(labels=north), b1=Known(labels=south), c1=Known(labels=north), d1=Known("north"))
    assert names.labelled("site", "north") == {"a1", "c1"}
    assert names.labelled("site", "") == set()


def test_what_is_not_ours_in_redis_says_nothing() -> None:
    """Neither does what is not there."""
    assert [read_known(raw) for raw in (None, b"", b"[", b'{"name": "x"}', b"\xff")] == [NOBODY] * 5


async def test_a_device_is_found_by_its_name_too() -> None:
    """Whatever the case, once, and in the order of the list; what stands between two is in neither."""
    called = {"a1": "Kühlung Süd", "b1": "pump"}
    index = Index(["PUMP-0", "a1", "b1", "c1"], called)
    assert await index.having("pump") == ["PUMP-0", "b1"]
    assert await index.having("KÜHLUNG") == ["a1"]
    assert await index.having("a1\0Kühl") == []
    assert has(called, "a1", "süd")
    assert not has(called, "c1", "süd")


# -- where it is shown ---------------------------------------------------------------------------------------

HOSTILE = Known("\x1b]0;owned\x07", '{"\\u001b[31m": "\\u202egnp.exe"}', 60)


def test_no_name_reaches_a_terminal_unescaped() -> None:
    """Wherever it comes from: somebody may have put it into the table, or into Redis, by hand."""
    line = DeviceLine("a1", None, 0, 1.0, 1, None, name=HOSTILE.name, labels=HOSTILE.label)
    console = Console(file=io.StringIO(), width=200, force_terminal=False)
    picture = Picture("2026-11-23T09:00:00.000000Z", listed=[line], never_heard=3)
    console.print(draw(picture, Controls(), width=200, height=None))
    drawn = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert "\\x1b]0;owned\\x07" in drawn
    assert "3 never heard" in drawn
    assert not {"\x1b", "\x07"} & set(drawn)
    about = (None, None, None, None, None, None, None)
    listed = Listed("a1", None, "never-heard", *about, HOSTILE.name, HOSTILE.label, 60)
    assert all(cell.isprintable() for cell in cells(listed))


def test_a_terminal_without_names_has_no_column_for_them() -> None:
    """Whoever names no devices sees what was there before."""
    console = Console(file=io.StringIO(), width=200, force_terminal=False)
    picture = Picture("2026-11-23T09:00:00.000000Z", listed=[DeviceLine("a1", None, 0, 1.0, 1, None)])
    console.print(draw(picture, Controls(), width=200, height=None))
    assert "name" not in console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO


# -- silence by it -------------------------------------------------------------------------------------------


def test_who_should_send_seldom_is_not_silent_before() -> None:
    """Three times what people say, also of one that showed to send each minute."""
    plant = site(saying(slow=Known(expected_s=HOUR)))
    plant.every(MINUTE, "slow", "fast", "beat", since=0, until=HOUR)
    plant.every(MINUTE, "beat", since=HOUR, until=3 * HOUR + 30 * MINUTE)
    assert plant.silent == ["fast"]
    plant.every(MINUTE, "beat", since=3 * HOUR + 30 * MINUTE, until=4 * HOUR + 30 * MINUTE)
    assert plant.silent == ["fast", "slow"]


def test_who_should_send_often_is_silent_soon() -> None:
    """Also before it has shown a pace, where a day is waited for else; three minutes are the least."""
    plant = site(saying(new=Known(expected_s=MINUTE), quick=Known(expected_s=1)))
    plant.hear(0, "new", "quick", "other", "beat")
    plant.every(MINUTE, "beat", since=MINUTE, until=20 * MINUTE)
    assert sorted(plant.silent) == ["new", "quick"]
    assert min(at for _, _, at in plant.told) > 3 * MINUTE


def test_what_people_say_holds_at_once() -> None:
    """Who is silent and is not by what they say is back; who is by it is silent, before it was due."""
    names = Names()
    plant = site(names)
    plant.every(MINUTE, "a1", "b1", "beat", since=0, until=HOUR)
    plant.every(10 * MINUTE, "b1", since=HOUR, until=5 * HOUR)
    plant.every(MINUTE, "beat", since=5 * HOUR, until=5 * HOUR + 20 * MINUTE)
    assert list(plant.silence.silent) == ["a1"]
    plant.told.clear()
    names.take("a1", Known(expected_s=24 * HOUR))
    names.take("b1", Known(expected_s=2 * MINUTE))
    plant.silence.expect_anew(["a1", "b1", "nobody"])
    plant.turn()
    assert sorted((id_, silent) for id_, silent, _ in plant.told) == [("a1", False), ("b1", True)]
    assert list(plant.silence.silent) == ["b1"]


def test_nobody_is_back_before_anything_came() -> None:
    """As long as no stream has a time nobody can say for how long a device has been silent."""
    names = Names()
    silence = Silence({"a1": START}, now=START + HOUR, expected_s=names.expected_s)
    silence.know("a1", None)
    names.take("a1", Known(expected_s=24 * HOUR))
    silence.expect_anew(["a1"])
    assert list(silence.silent) == ["a1"]


def test_what_others_are_told_of_names() -> None:
    """Also before there is a watch; who was never heard is counted beside all others."""
    names = saying(a1=Known("Pump", never_heard=True))
    watch = Watch(names)
    assert (watch.of("a1").known.name, watch.of("a1").state) == ("Pump", "unknown")
    watch.begins(Silence({}, expected_s=names.expected_s))
    assert watch.counts() == DeviceCounts(0, 0, 0, never_heard=1)
