"""Whatever outages there are, nobody who goes on sending is called silent; and who stops is."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from contract.events import Event
from projector.watch.pace import PAUSES, UNKNOWN_S
from projector.watch.silence import AGAIN_S, FIRST_S, Silence

START = 1_795_945_200
MINUTE, HOUR, DAY = 60, 3600, 86_400
SPAN = 4 * DAY


class Sender(NamedTuple):
    """Sends at an interval, in seconds, a little late at times; at some time no more."""

    interval: int
    phase: int
    jitter: int
    stops: int


class Outage(NamedTuple):
    """Nothing is received for so long; then all that waited."""

    since: int
    length: int

    @property
    def until(self) -> int:
        return self.since + self.length


senders = st.builds(
    Sender,
    st.sampled_from([60, 90, 300, 900, HOUR, 6 * HOUR]),
    st.integers(0, HOUR),
    st.integers(0, 8),
    st.just(SPAN),
)
outage = st.builds(Outage, st.integers(DAY, 3 * DAY), st.sampled_from([60, 600, HOUR, 9 * HOUR, 20 * HOUR]))
outages = st.lists(outage, max_size=6)


def received(sent: list[Sender], breaks: list[Outage]) -> list[tuple[int, list[str]]]:
    """When which devices' messages come."""
    rows: defaultdict[int, list[str]] = defaultdict(list)
    for number, sender in enumerate(sent):
        for n, due in enumerate(range(sender.phase, sender.stops, sender.interval)):
            at = due + (n * 7) % (sender.jitter + 1)
            for outage in sorted(breaks):
                if outage.since <= at < outage.until:
                    at = outage.until
            rows[at].append(str(number))
    return sorted(rows.items())


def told(rows: list[tuple[int, list[str]]]) -> list[tuple[str, bool, int]]:
    """Who is told of, looked at after each row, at most once in ten seconds."""
    silence = Silence({})
    found: list[tuple[str, bool, int]] = []
    looked = heard = 0
    arrivals: defaultdict[str, list[int]] = defaultdict(list)
    for at, devices in rows:
        silence.hear(0, START + at, [Event(id_, None, "", "", "", {}) for id_ in devices])
        for id_ in devices:
            arrivals[id_].append(START + at)
        heard += len(devices)
        if at < looked + 10:
            continue
        looked = at
        silence.turn()
        silence.learn({id_: arrivals[id_][-500:] for id_ in list(silence.unsure)})
        found += [
            (change.device_id, change.silent, change.at - START) for change in silence.take_pending(1000)
        ]
    assert sum(map(sum, silence.counts.values())) == len(silence.devices) == len(arrivals)
    return found


@settings(max_examples=40)
@given(st.lists(senders, min_size=1, max_size=4), outages)
def test_who_goes_on_sending_is_never_silent(sent: list[Sender], breaks: list[Outage]) -> None:
    """However few there are, however they are mixed, and whatever the broker holds back."""
    assert told(received(sent, breaks)) == []


@settings(max_examples=40)
@given(
    st.lists(senders, min_size=1, max_size=3),
    senders,
    st.lists(outage, max_size=1),
    st.integers(2 * DAY, 3 * DAY),
)
def test_who_stops_is_silent(others: list[Sender], dead: Sender, breaks: list[Outage], stops: int) -> None:
    """Once, and once its time is over by what others sent, and an outage may excuse it once.

    Several long ones would be taken for the usual pause of all: it is told later then.
    """
    steady = Sender(5 * MINUTE, 0, 0, 8 * DAY)
    alive = [each._replace(interval=max(each.interval, 300), stops=8 * DAY) for each in (steady, *others)]
    rows = received([dead._replace(stops=stops), *alive], breaks)
    found = told(rows)
    assert [(id_, silent) for id_, silent, _ in found] == [("0", True)]
    last = max(at for at, devices in rows if "0" in devices)
    limit = min(UNKNOWN_S, 2 * PAUSES * max(dead.interval, MINUTE)) + FIRST_S
    excused = sum(outage.length for outage in breaks) + 3 * limit
    assert limit / 3 < found[0][2] - last <= limit + excused + AGAIN_S
