"""Devices at the broker: a name and a password each, given and taken later."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway.init import broker, words
from gateway.init.site import PASSWORDS
from runtime.errors import ConfigurationError, Stop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.init.folder import Folder

_RESERVED: Final = ("gateway", "projector")
_LONGEST: Final = 200


def give(folder: Folder, names: Sequence[str]) -> dict[str, str]:
    """New passwords for devices, by name; a device that had one has the new one.

    Raises:
        ConfigurationError: a name cannot be one, or the folder is no site.
    """
    for name in names:
        _refuse(name)
    given = {name: words.new_word() for name in names}
    with folder.locked():
        hashes = _read(folder) | {name: words.for_mosquitto(word) for name, word in given.items()}
        _write(folder, hashes)
    return given


def take(folder: Folder, names: Sequence[str]) -> None:
    """Let devices in no more. Who is connected stays until the broker reads its file again.

    Raises:
        ConfigurationError: the folder is no site.
        Stop: one of them has no password.
    """
    with folder.locked():
        hashes = _read(folder)
        if unknown := [name for name in names if name in _RESERVED or name not in hashes]:
            raise Stop(f"{', '.join(unknown)}: no device with a password")
        _write(folder, {name: hashed for name, hashed in hashes.items() if name not in names})


def _refuse(name: str) -> None:
    """A name is a level of a topic, a name in mosquitto's file, and its client id."""
    if not name or len(name) > _LONGEST or not name.isprintable() or any(sign in name for sign in "/+#: "):
        raise ConfigurationError(
            f"{name!r}: a device's name is a level of a topic without / + # : and spaces"
        )
    if name.startswith("$") or name.lower().startswith(_RESERVED):
        raise ConfigurationError(f"{name!r}: names that begin with $, gateway or projector are no device's")


def _read(folder: Folder) -> dict[str, str]:
    text = folder.read(PASSWORDS)
    if text is None:
        raise ConfigurationError(f"{folder.path}: no site of `gateway init`: there is no {PASSWORDS}")
    return broker.read_passwords(text)


def _write(folder: Folder, hashes: dict[str, str]) -> None:
    folder.private(PASSWORDS, broker.passwords(hashes))
    folder.write()
    hang_up(folder.path / "mosquitto/mosquitto.conf")


def hang_up(configuration: Path) -> None:
    """Have a mosquitto of this machine that runs with this configuration read its files again."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            called = (process / "cmdline").read_bytes().split(b"\0")
            if os.fsencode(configuration) in called and called[0].endswith(b"mosquitto"):
                os.kill(int(process.name), signal.SIGHUP)
