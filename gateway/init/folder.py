"""The folder of a site: gathered, then written as a whole.

Nothing is overwritten unless that was asked for, and a secret that is there stays all the same. Files are
made beside their places and moved there: none is ever half written or, for a moment, open to all.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from runtime.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ACCOUNTS: Final[Mapping[str, str]] = {
    "gateway": "mqtt-edge-gateway",
    "projector": "mqtt-edge-projector",
    "mosquitto": "mosquitto",
    "redis": "redis",
}
"""Folder → the account that its server or program runs under, where a package has made one."""

_OPEN: Final = 0o755
_CLOSED: Final = 0o700
_PUBLIC: Final = 0o644
_SECRET: Final = 0o600


class _File(NamedTuple):
    text: str
    mode: int
    kept: bool


class Folder:
    """What is to be in a folder, gathered first and then written.

    Args:
        path: absolute.
        force: whether files that hold no secret may be replaced; the old ones are kept as `NAME.old`.
        anew: whether passwords that are there are replaced too.
        accounts: folder in it → the account that reads it, for root; one that is not there is passed over.
    """

    def __init__(
        self,
        path: Path,
        *,
        force: bool = False,
        anew: bool = False,
        accounts: Mapping[str, str] = ACCOUNTS,
    ) -> None:
        self.path = path
        self._force = force
        self._anew = anew
        self._accounts = accounts if os.geteuid() == 0 else {}
        self._files: dict[str, _File] = {}
        self._folders: list[str] = []

    def public(self, name: str, text: str) -> None:
        """A file that everybody may read."""
        self._files[name] = _File(text, _PUBLIC, kept=False)

    def private(self, name: str, text: str) -> None:
        """A file that is made of secrets and can be made of them again."""
        self._files[name] = _File(text, _SECRET, kept=False)

    def secret(self, name: str, make: Callable[[], str], *, lasting: bool = False) -> str:
        """A secret: the one that is there, or a new one.

        Args:
            name: of its file.
            make: makes a new one.
            lasting: whether it stays when passwords are made anew.
        """
        found = None if self._anew and not lasting else self.read(name)
        text = make() if found is None else found
        self._files[name] = _File(text, _SECRET, kept=found is not None)
        return text

    def folder(self, name: str) -> None:
        """An empty folder."""
        self._folders.append(name)

    def read(self, name: str) -> str | None:
        """A file that is there; None when it is not.

        Raises:
            ConfigurationError: it is there and cannot be read.
        """
        try:
            with open(self.path / name, encoding="utf-8", opener=self._opens) as file:
                return file.read()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else error.reason
            raise ConfigurationError(f"{self.path / name}: cannot be read: {reason}") from None

    def write(self) -> list[str]:
        """Write what was gathered; returns the names of files written.

        Raises:
            ConfigurationError: a file is there, or cannot be written; nothing was replaced then.
        """
        new = {name: file for name, file in self._files.items() if not file.kept}
        if not self._force and (there := [name for name in self._files if (self.path / name).exists()]):
            raise ConfigurationError(
                f"{self.path / there[0]} is there already, and nothing is overwritten: give another folder, "
                "or --force, which makes all files anew and keeps passwords, keys and certificates"
            )
        try:
            _make(self.path, _OPEN)
            for name in [*self._folders, *new]:
                self._make_folders(name, is_folder=name in self._folders)
            for name, file in new.items():
                self._put(name, file)
        except OSError as error:
            where = error.filename or self.path
            raise ConfigurationError(f"{where}: cannot be written: {error.strerror}") from None
        return list(new)

    def unreachable(self) -> str | None:
        """Why servers cannot read what is theirs; None when they can."""
        readers = [account for account in self._accounts.values() if is_there(account)]
        closed = next((each for each in self.path.parents if not _passable(each)), None)
        if closed is None or not readers:
            return None
        return (
            f"{closed} is closed to {', '.join(readers)}, and servers read files in {self.path} under such "
            "accounts: choose another folder"
        )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Have nobody else read and write it for as long as the block lasts, who asks for it so too.

        Raises:
            ConfigurationError: there is no such folder.
        """
        try:
            found = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise ConfigurationError(f"{self.path}: no site of `gateway init`: {error.strerror}") from None
        try:
            fcntl.flock(found, fcntl.LOCK_EX)
            yield
        finally:
            os.close(found)

    def _make_folders(self, name: str, *, is_folder: bool) -> None:
        parts = Path(name).parts if is_folder else Path(name).parts[:-1]
        for depth in range(1, len(parts) + 1):
            folder = self.path.joinpath(*parts[:depth])
            if _make(folder, _CLOSED):
                self._give(folder, name)

    def _put(self, name: str, file: _File) -> None:
        path = self.path / name
        beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        with open(beside, "x", encoding="utf-8", opener=_opener(file.mode)) as out:
            os.fchmod(out.fileno(), file.mode)
            out.write(file.text)
            out.flush()
            os.fsync(out.fileno())
        try:
            self._give(beside, name)
            if file.mode == _PUBLIC and path.exists() and path.read_text(encoding="utf-8") != file.text:
                path.replace(path.with_name(f"{path.name}.old"))
            beside.replace(path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise

    def _opens(self, path: str, flags: int) -> int:
        """For root follows no link: in its folder a server's account could lead it to any file."""
        return os.open(path, flags | (os.O_NOFOLLOW if self._accounts else 0))

    def _give(self, path: Path, name: str) -> None:
        account = self._accounts.get(Path(name).parts[0])
        with contextlib.suppress(KeyError):  # there is no such account
            if account is not None:
                owner = pwd.getpwnam(account)
                os.chown(path, owner.pw_uid, owner.pw_gid, follow_symlinks=False)


def is_there(account: str) -> bool:
    """Whether this machine has an account."""
    try:
        pwd.getpwnam(account)
    except KeyError:
        return False
    return True


def _passable(folder: Path) -> bool:
    """Whether everybody passes through a folder; one that is not there yet will be open."""
    try:
        return bool(folder.stat().st_mode & stat.S_IXOTH)
    except OSError:
        return True


def _make(path: Path, mode: int) -> bool:
    """Make a folder, and an open one's parents as open; returns whether it was not there."""
    if mode == _OPEN and not path.parent.exists():
        _make(path.parent, mode)
    try:
        path.mkdir(mode)
    except FileExistsError:
        if not path.is_dir():
            raise
        return False
    path.chmod(mode)
    return True


def _opener(mode: int) -> Callable[[str, int], int]:
    return lambda path, flags: os.open(path, flags, mode)
