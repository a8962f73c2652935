"""Who said that it is offline, beside who is silent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from contract.events import Event, format_time
from projector.levels import ToldLevel
from projector.watch.care import Care
from projector.watch.said import Watch
from projector.watch.silence import Silence

START = 1_795_945_200
MINUTE, HOUR = 60, 3600
STATES = {"ok": 0, "silent": 1, "unknown": 2, "muted": 3, "retired": 4, "offline": 5}


def us(minute: float) -> int:
    return int((START + minute * MINUTE) * 1_000_000)


def event(device: str, minute: float, *, online: bool | None = None, changes: bool = False) -> Event:
    """A message of a minute, as the gateway sends it out, which decides whether it changes something."""
    at = format_time(datetime.fromtimestamp(START + minute * MINUTE, UTC))
    return Event(device, "north", at, at, "k", {}, None, online, at if changes else None)


class Site:
    """Devices a and b that send each minute, or only b; what is told of silence and presence."""

    def __init__(self, silence: Silence | None = None) -> None:
        self.silence = Silence({}) if silence is None else silence
        self.told: list[tuple[str, str]] = []

    def hear(self, minute: float, *events: Event) -> None:
        self.silence.hear(0, int(START + minute * MINUTE), events)
        self.silence.turn()
        self.silence.learn({id_: [] for id_ in list(self.silence.unsure)})
        for change in self.silence.take_pending(100):
            if change.is_news:
                self.told.append((change.device_id, "silent" if change.silent else "ok"))
        for said in self.silence.presences.take_pending(100):
            if said.is_news:
                self.told.append((said.device_id, "online" if said.online else "offline"))

    def run(self, since: int, until: int, *devices: str) -> None:
        for minute in range(since, until):
            self.hear(minute, *(event(device, minute) for device in devices))

    def state(self, device: str) -> str:
        watch = Watch()
        watch.begins(self.silence)
        counts = watch.counts()
        assert counts is not None
        assert counts.offline == len(watch.offline())
        return watch.of(device).state


def test_offline_is_not_silent() -> None:
    """A device that said so is offline until it says otherwise; nothing else is told of it."""
    site = Site()
    site.run(0, 60, "a", "b")
    site.hear(60, event("a", 60, online=False, changes=True))
    assert site.state("a") == "offline"
    site.run(60, 120, "b")
    assert site.told == [("a", "offline")]
    site.hear(120, event("a", 120, online=True, changes=True))
    assert site.state("a") == "ok"
    site.run(120, 140, "b")
    assert site.told == [("a", "offline"), ("a", "online"), ("a", "silent")]


def test_silent_first_and_then_a_will() -> None:
    """A will after the device is called silent makes it offline; the silence is over without a word."""
    site = Site()
    site.run(0, 60, "a", "b")
    site.run(60, 70, "b")
    assert (site.state("a"), site.told) == ("silent", [("a", "silent")])
    site.hear(70, event("a", 70, online=False, changes=True))
    assert (site.state("a"), list(site.silence.silent)) == ("offline", [])
    site.run(71, 90, "b")
    assert site.told == [("a", "silent"), ("a", "offline")]


def test_a_will_is_no_sign_of_life() -> None:
    """Neither one that changes something nor a repeat moves the time at which a device was heard."""
    site = Site()
    site.run(0, 60, "a", "b")
    heard = site.silence.devices["a"].at
    site.hear(61, event("a", 61, online=False, changes=True), event("b", 61))
    site.hear(65, event("a", 65, online=False), event("b", 65))
    assert site.silence.devices["a"].at == heard
    site.hear(66, event("a", 66, online=True, changes=True))
    assert site.silence.devices["a"].at == START + 66 * MINUTE


def test_a_repeat_after_a_return_is_no_news() -> None:
    """What the gateway says changes nothing does not, nor an older change of another stream."""
    site = Site()
    site.run(0, 10, "a", "b")
    site.hear(11, event("a", 11, online=True, changes=True))
    site.hear(12, event("a", 12, online=False))
    site.silence.hear(1, START + 13 * MINUTE, [event("a", 10.5, online=False, changes=True)])
    assert (site.state("a"), site.told) == ("ok", [])


def test_what_was_told_before() -> None:
    """After a start only what happened meanwhile is told, and not what was so before there was a watch."""
    told = {"a": ToldLevel(1, us(1)), "b": ToldLevel(1, us(1)), "gone": ToldLevel(1, us(1))}
    site = Site(Silence({}, told_offline=told, begun=START))
    for device in ("a", "b", "c", "d"):
        site.silence.know(device, None)
    assert sorted(site.silence.presences.told) == ["a", "b", "gone"]
    site.silence.know_presence("a", us(1), us(1), online=False)
    site.silence.know_presence("b", us(30), us(30), online=True)
    site.silence.know_presence("c", us(20), us(20), online=False)
    site.silence.know_presence("d", us(-5), us(-5), online=False)
    site.silence.know_presence("strange", us(5), us(5), online=False)
    site.silence.all_known()
    assert "gone" in site.silence.left
    site.hear(31, event("e", 31))
    assert sorted(site.told) == [("b", "online"), ("c", "offline")]
    assert [site.state(each) for each in "abcd"] == ["offline", "unknown", "offline", "offline"]
    assert site.silence.presences.levels().keys() == {"a", "c", "d"}


def test_of_a_muted_one_nothing_is_told() -> None:
    """That it is offline is told once the mute is over, if it still is."""
    site = Site()
    site.run(0, 60, "a", "b", "c")
    at = datetime.fromtimestamp(START + HOUR, UTC)
    for device in ("a", "c"):
        site.silence.take_care(Care(device, "muted", at, at + timedelta(days=1), "ann", "", 1, told=True))
        site.hear(60, event(device, 60, online=False, changes=True))
    site.hear(61, event("c", 61, online=True, changes=True))
    assert (site.state("a"), site.told) == ("muted", [])
    for device in ("a", "c"):
        site.silence.take_care(Care(device, "unmuted", at, None, "ann", "", 2, told=True))
    site.hear(62, event("b", 62))
    assert [each for each in site.told if each[1] in {"offline", "online"}] == [("a", "offline")]
    assert (site.state("a"), site.state("c")) == ("offline", "ok")


def test_who_was_offline_for_long_is_forgotten() -> None:
    """As those who are silent; and of a full house they make room after these."""
    site = Site(Silence({}, forget_after_s=10 * HOUR, most=2))
    site.run(0, 10, "a", "b")
    site.hear(10, event("a", 10, online=False, changes=True))
    site.hear(11, event("c", 11))
    assert set(site.silence.devices) == {"b", "c"}
    site.hear(12, event("c", 12, online=False, changes=True))
    for minute in range(12, 700, 10):
        site.hear(minute, event("b", minute))
    assert set(site.silence.devices) == {"b"}
    assert site.silence.presences.offline == {}
    assert site.silence.counts["north"][STATES["offline"]] == 0


def test_who_is_offline_at_a_start_is_kept_for_as_long_as_others() -> None:
    """A start does not forget who is offline and was not heard since; its time runs from what it said."""
    site = Site(Silence({}, forget_after_s=10 * HOUR, begun=START))
    site.silence.know("a", "north")
    site.silence.know_presence("a", us(-9 * 60), us(-9 * 60), online=False)
    site.silence.all_known()
    site.run(0, 30, "b")
    assert (site.state("a"), list(site.silence.left)) == ("offline", [])
    site.run(30, 90, "b")
    assert (site.state("a"), list(site.silence.left)) == ("unknown", ["a"])


def test_two_changes_at_one_time() -> None:
    """A device whose times are whole seconds may go and come in one: the message that came last counts."""
    site = Site()
    site.run(0, 60, "a", "b")
    first, second = (
        msgspec.structs.replace(
            event("a", 60, online=online, changes=True),
            received_at=format_time(datetime.fromtimestamp(START + HOUR + i / 10, UTC)),
        )
        for i, online in ((0, False), (1, True))
    )
    site.hear(60, first, second)
    assert (site.state("a"), site.told) == ("ok", [])
    site.silence.hear(1, START + HOUR, [first])
    assert site.state("a") == "ok"


def test_back_at_the_very_time_at_which_it_went() -> None:
    """What ends what was told is later than that: of two things of one time others take none for news."""
    site = Site(Silence({}, told_offline={"a": ToldLevel(1, us(5))}, begun=START))
    site.silence.know("a", "north")
    site.silence.know_presence("a", us(5), us(6), online=True)
    site.silence.all_known()
    (change,) = site.silence.presences.take_pending(10)
    assert (change.online, change.since, change.was_told) == (True, us(5) + 1, True)
