from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from runtime import tokens
from runtime.errors import ConfigurationError
from runtime.logs import mask
from runtime.tokens import Token, Tokens

if TYPE_CHECKING:
    from pathlib import Path

HASH = tokens.hash_of("a")


class Clock:
    """Time as a test has it."""

    now = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


def test_a_token_is_added_and_found(tmp_path: Path) -> None:
    """What `add` gives out is found with its name and scopes; the file holds nothing that opens anything."""
    file = tmp_path / "tokens"
    file.write_text("# who may look", encoding="utf-8")  # without an end of line
    wall = tokens.add(file, "wall", ("read",))
    both = tokens.add(file, "both", ("read", "metrics"))
    assert wall != both
    assert (len(wall), wall[:5]) == (48, "edge_")
    text = file.read_text(encoding="utf-8")
    assert text.startswith("# who may look\nwall ")
    assert wall not in text
    known = Tokens(str(file), setting="s")
    assert known.find(wall) == Token("wall", frozenset({"read"}), tokens.hash_of(wall))
    found = known.find(both)
    assert found is not None
    assert found.scopes == {"read", "metrics"}
    for stranger in ("", "x", wall[:-1], tokens.hash_of(wall), tokens.new(), "ü"):
        assert known.find(stranger) is None


def test_a_new_file_is_readable_by_the_service(tmp_path: Path) -> None:
    """Hashes of chance tell nobody anything, so a service with a user of its own reads what root made."""
    tokens.add(tmp_path / "tokens", "a", ("read",))
    assert stat.S_IMODE((tmp_path / "tokens").stat().st_mode) & 0o444 == 0o444


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("wall read", "line 1: expected a name, scopes and a hash, such as projector token NAME writes"),
        (f"wall read,write {HASH}", "line 1: no scope 'write'; there are read and metrics"),
        (f"\n#\nwall read {HASH}\nwall read {HASH}", "line 4: wall is there twice"),
        (f"w/x read {HASH}", "line 1: a name has letters, digits and . _ -, 64 at most"),
        (
            "wall read edge_abc",
            "line 1: expected sha256: and 64 hexadecimal digits, of a token and not itself",
        ),
    ],
)
def test_a_wrong_file_names_its_line(tmp_path: Path, text: str, reason: str) -> None:
    """The key, the file, the line and what is wrong; never what might be a token."""
    file = tmp_path / "tokens"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        Tokens(str(file), setting="projector.tokens_file")
    assert str(caught.value) == f"projector.tokens_file: {file}, {reason}"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Named with its key."""
    with pytest.raises(ConfigurationError, match=r"^g\.tokens_file: cannot read .*/none: No such file"):
        Tokens(str(tmp_path / "none"), setting="g.tokens_file")


def test_names_are_given_once(tmp_path: Path) -> None:
    """Whose a token is has to be clear when it is to be revoked."""
    file = tmp_path / "tokens"
    tokens.add(file, "wall", ("read",))
    with pytest.raises(ValueError, match=r"wall is in .* already: choose another name, or delete its line"):
        tokens.add(file, "wall", ("metrics",))
    with pytest.raises(ValueError, match="a name has letters"):
        tokens.add(file, "a b", ("metrics",))


def test_changes_count_within_a_second(tmp_path: Path) -> None:
    """A line that came counts, one that went does not; a file that is wrong meanwhile changes nothing."""
    file, clock = tmp_path / "tokens", Clock()
    first = tokens.add(file, "first", ("read",))
    known = Tokens(str(file), setting="s", clock=clock)
    found = known.find(first)
    assert found is not None
    second = tokens.add(file, "second", ("read",))
    assert known.find(second) is None
    clock.now = 1.0
    assert known.find(second) is not None
    assert known.holds(found)
    with capture_logs() as logs:
        file.write_text("rubbish", encoding="utf-8")
        clock.now = 2.0
        assert known.find(first)
        clock.now = 3.0
        assert known.find(first)
        file.write_text("", encoding="utf-8")
        clock.now = 4.0
        assert known.find(first) is None
        assert not known.holds(found)
    assert [line["event"] for line in logs] == ["tokens_refused", "tokens_read"]


def test_a_token_in_a_text_is_masked() -> None:
    """Whatever brings one into a log."""
    assert mask(f"x {tokens.new()} y") == "x *** y"
    assert mask("Authorization: Bearer abc.def y") == "Authorization: Bearer *** y"
