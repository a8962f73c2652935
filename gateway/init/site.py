"""A site put together: which files there are, and which secrets are in them.

| folder | for | holds |
|---|---|---|
| `gateway/`, `projector/` | that program | passwords, certificate, and URLs with passwords |
| `owner/` | whoever makes tables and certificates | the owner's URL, the authority's key |
| `mosquitto/`, `redis/`, `postgres/` | that server | its files: hashes of passwords, no password |
| `grafana/`, `api/` | Grafana; programs that read the views | passwords and URLs |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from contract.redis_rights import REDIS_USERS
from contract.rights import ROLES
from gateway.init import broker, certificates, pages, postgres, redis, words
from gateway.init.answers import Answers, check
from gateway.init.certificates import Pair
from runtime import tokens
from runtime.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from gateway.init.folder import Folder

ANSWERS: Final = "answers.json"
PASSWORDS: Final = "mosquitto/passwords"
CA: Final = "ca.crt"
SERVER: Final = ("mosquitto/server.crt", "mosquitto/server.key")
_MEMBERS: Final = ("gateway", "projector")
_ALLOWED: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+@")
_CA_KEY: Final = "owner/ca.key"
_OUR_CA: Final = "mosquitto/ca.crt"
_HTTP: Final = ("projector/http.crt", "projector/http.key")
_TOKENS: Final = "projector/tokens"


class Given(NamedTuple):
    """A certificate of the broker that somebody else made, in PEM.

    Attributes:
        authority: what clients trust; None when it is what their systems trust anyway.
    """

    certificate: str
    key: str
    authority: str | None


def refuse_name(path: Path) -> None:
    """Refuse a folder whose name means something else in one of the files.

    Raises:
        ConfigurationError: it says what may be in it.
    """
    if not set(str(path)) <= _ALLOWED:
        raise ConfigurationError(
            f"{path}: a folder's name of letters, digits and / . _ - + @, for shells to take"
        )


def read_answers(folder: Folder) -> Answers | None:
    """What was answered when the folder was made; None when it was not.

    Raises:
        ConfigurationError: it has been changed to something else.
    """
    text = folder.read(ANSWERS)
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=Answers)
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"{folder.path / ANSWERS}: {error}") from None


def lay_out(
    folder: Folder,
    answers: Answers,
    now: datetime,
    *,
    programs: Mapping[str, str],
    spool: str,
    given: Given | None = None,
) -> None:
    """Gather all files of a site.

    Args:
        folder: what is in it already stays, if it is a secret.
        answers: checked here.
        now: when certificates begin to be valid.
        programs: how `gateway` and `projector` are called.
        spool: where the gateway keeps what PostgreSQL does not take.
        given: the broker's certificate, when it is not of the site's own authority.

    Raises:
        ConfigurationError: an answer cannot be.
    """
    check(answers)
    where = str(folder.path)
    _certificates(folder, answers, now, given)
    _broker(folder, answers, f"{where}/mosquitto")
    roles = {kind: folder.secret(f"{kind}/postgres_password", words.new_word) for kind in ROLES}
    for kind in ("owner", *_MEMBERS):
        user = postgres.role(answers.database, kind)
        folder.private(f"{kind}/postgres_dsn", _with_user(answers.postgres, user, roles[kind]))
    folder.private("postgres/roles.sql", postgres.roles(answers.database, roles))
    users = {name: folder.secret(f"{name}/redis_password", words.new_word) for name in REDIS_USERS}
    for name in ("projector", "api"):
        folder.private(f"{name}/redis_url", _with_user(answers.redis, name, users[name]))
    # That of a folder which the projector's account may read: by it answers questions.
    folder.private("projector/redis_api_url", _with_user(answers.redis, "api", users["api"]))
    folder.private("redis/users.acl", redis.users(users, answers.redis_prefix))
    if answers.redis_here:
        folder.private("redis/redis.conf", pages.redis_configuration(answers, f"{where}/redis"))
    for data in ("mosquitto/data", *(("redis/data",) if answers.redis_here else ())):
        folder.folder(data)
    if answers.is_open:
        _tokens(folder)
    folder.public("edge.toml", pages.configuration(answers, where, spool))
    for name, text in pages.others(answers, where, programs).items():
        folder.public(name, text)
    folder.public(ANSWERS, msgspec.json.format(msgspec.json.encode(answers)).decode() + "\n")


def renew(folder: Folder, answers: Answers, now: datetime) -> None:
    """Gather new certificates of the site's authority, with new keys.

    Raises:
        ConfigurationError: the authority's key is not here.
    """
    authority = _authority(folder)
    if authority is None:
        raise ConfigurationError(f"{folder.path / _CA_KEY}: needed for certificates, and not there")
    _issue(folder, authority, answers, now)


def _certificates(folder: Folder, answers: Answers, now: datetime, given: Given | None) -> None:
    authority, there = _authority(folder), folder.read(_OUR_CA)
    wanted = there is None or _wanted(folder, answers)
    if there is None:
        name = f"MQTT edge gateway at {answers.hosts[0]}"
        authority = certificates.make_authority(name, now, folder.read(_CA_KEY))
    elif authority is None and wanted:
        raise ConfigurationError(f"{folder.path / _CA_KEY}: needed for certificates, and not there")
    if authority is not None:
        folder.secret(_CA_KEY, lambda: authority.key, lasting=True)
    ours = folder.secret(_OUR_CA, lambda: authority.certificate if authority else "", lasting=True)
    trusted = ours if given is None else given.authority
    if trusted is not None:
        folder.public(CA, trusted)
    if given is not None:
        folder.private(SERVER[0], given.certificate)
        folder.private(SERVER[1], given.key)
    if authority is not None and wanted:
        _issue(folder, authority, answers, now)
    else:
        for name in _issued(answers):
            folder.secret(name, str, lasting=True)


def _wanted(folder: Folder, answers: Answers) -> bool:
    """Whether one of our certificates is not there, or is for other names."""
    found = {name: folder.read(name) for name in _issued(answers)}
    return any(
        text is None or (name in {SERVER[0], _HTTP[0]} and not certificates.is_for(text, answers.names))
        for name, text in found.items()
    )


def _authority(folder: Folder) -> Pair | None:
    certificate, key = folder.read(_OUR_CA), folder.read(_CA_KEY)
    return None if certificate is None or key is None else Pair(certificate, key)


def _issued(answers: Answers) -> list[str]:
    own = [f"{member}/broker.{end}" for member in _MEMBERS for end in ("crt", "key")]
    return [*own, *(() if answers.given else SERVER), *(_HTTP if answers.is_open else ())]


def _issue(folder: Folder, authority: Pair, answers: Answers, now: datetime) -> None:
    for member in _MEMBERS:
        pair = certificates.issue(authority, member, now)
        folder.private(f"{member}/broker.crt", pair.certificate)
        folder.private(f"{member}/broker.key", pair.key)
    if answers.is_open:
        pair = certificates.issue(authority, answers.hosts[0], now, hosts=answers.names)
        folder.private(_HTTP[0], pair.certificate)
        folder.private(_HTTP[1], pair.key)
    if not answers.given:
        pair = certificates.issue(authority, answers.hosts[0], now, hosts=answers.names)
        folder.private(SERVER[0], pair.certificate)
        folder.private(SERVER[1], pair.key)


def _broker(folder: Folder, answers: Answers, where: str) -> None:
    folder.private("mosquitto/mosquitto.conf", broker.configuration(answers, where))
    folder.private("mosquitto/acl", broker.rules(answers))
    hashes = broker.read_passwords(folder.read(PASSWORDS) or "")
    for member in _MEMBERS:
        hashes[member] = words.for_mosquitto(folder.secret(f"{member}/broker_password", words.new_word))
    folder.private(PASSWORDS, broker.passwords(hashes))


def _tokens(folder: Folder) -> None:
    """One token for the site's programs; those that were made since stay."""
    token = folder.secret("api/token", tokens.new)
    lines = (folder.read(_TOKENS) or "").splitlines(keepends=True)
    others = [line for line in lines if not line.startswith("site ")]
    folder.private(_TOKENS, "".join([*others, tokens.line_of("site", tokens.SCOPES, token)]))


def _with_user(url: str, user: str, word: str) -> str:
    """A URL with a user and a password, neither of which needs to be escaped."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{user}:{word}@{rest}"
