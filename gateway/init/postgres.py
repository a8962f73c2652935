"""PostgreSQL's file: the roles of a site, and exactly their rights, out of the list of `contract.rights`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contract.rights import ROLES
from gateway.init import words
from gateway.init.texts import text
from runtime.rights import script

if TYPE_CHECKING:
    from collections.abc import Mapping


def role(database: str, kind: str) -> str:
    """The name of a role; those of several sites on one server differ by their databases'."""
    return f"{database}_{kind}"


def roles(database: str, given: Mapping[str, str]) -> str:
    """`roles.sql`.

    Args:
        database: its name, which needs no quotes.
        given: kind of role → its password.
    """
    variables = [f"\\set database {database}"]
    for kind in ROLES:
        variables += [
            f"\\set {kind} {role(database, kind)}",
            f"\\set {kind}_word '{words.for_postgres(given[kind])}'",
        ]
    owners = script(ROLES["owner"], role(database, "owner"), database=database)
    others = [
        statement
        for kind, rights in ROLES.items()
        if kind != "owner"
        for statement in script(rights, role(database, kind), database=database)
    ]
    return "\n".join(
        [
            "\\set ON_ERROR_STOP on",
            *variables,
            text("roles.sql"),
            *(f"{statement};" for statement in owners),
            "\\if :migrated",
            *(f"{statement};" for statement in others),
            "\\endif",
            "",
        ]
    )
