"""Redis' users, each with what it needs and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contract.redis_rights import REDIS_USERS
from gateway.init import words

if TYPE_CHECKING:
    from collections.abc import Mapping


def users(given: Mapping[str, str], prefix: str) -> str:
    """`users.acl`; `given` is user → password, `prefix` that of all keys."""
    lines = ["user default off"]
    lines += [
        f"user {name} on {words.for_redis(given[name])} {rights.rules(prefix)}"
        for name, rights in REDIS_USERS.items()
    ]
    return "".join(f"{line}\n" for line in lines)
