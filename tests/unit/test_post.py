"""What is told on a topic, and what becomes of it while the broker does not take it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from projector import post as post_module
from projector.post import Post
from runtime.mqtt import Disconnected, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runtime.mqtt import Message, Session


class Broker:
    """Takes what is published, or raises."""

    def __init__(self) -> None:
        self.trouble: Exception | None = None
        self.taken: list[bytes] = []

    async def publish(self, messages: Sequence[Message]) -> None:
        """Take all, or none of it."""
        if self.trouble:
            raise self.trouble
        self.taken += [message.payload for message in messages]


class Kept:
    """A post of three messages, and what it lost."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(post_module, "KEPT", 3)
        self.broker = Broker()
        self.lost: list[tuple[int, str, str]] = []
        self.post = Post(cast("Session", self.broker), "topic", lost=lambda *what: self.lost.append(what))


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    """With room for three."""
    return Kept(monkeypatch)


async def test_what_the_broker_has_not_taken_goes_again(kept: Kept) -> None:
    """In order, and there is room for as much as has gone."""
    kept.broker.trouble = Disconnected("away", 1)
    for payload in (b"a", b"b", b"c"):
        kept.post.add(payload)
    assert kept.post.room == 0
    assert not await kept.post.publish()
    assert kept.post.room == 1
    kept.broker.trouble = None
    assert await kept.post.publish()
    assert (kept.broker.taken, kept.post.room, kept.lost) == ([b"b", b"c"], 3, [])


async def test_what_the_broker_refuses_is_lost_and_counted(kept: Kept) -> None:
    """It would be refused again; the others have gone."""
    kept.broker.trouble = Refused(2, "not authorized (and 1 more)")
    for payload in (b"a", b"b", b"c"):
        kept.post.add(payload)
    assert await kept.post.publish()
    assert kept.lost == [(2, "refused_by_broker", "not authorized (and 1 more)")]
    assert kept.post.room == 3


@pytest.mark.parametrize("is_there", [True, False])
async def test_at_the_end_all_goes_or_is_lost(kept: Kept, *, is_there: bool) -> None:
    """Nothing is left that nobody has heard of."""
    kept.broker.trouble = None if is_there else Disconnected("away")
    kept.post.add(b"a")
    await kept.post.close()
    assert (kept.broker.taken, kept.lost) == (([b"a"], []) if is_there else ([], [(1, "stopped", "")]))
    await kept.post.close()
    assert len(kept.lost) == (0 if is_there else 1)
