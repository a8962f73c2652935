"""Topic templates: MQTT topic filters whose wildcards may have names.

`sites/{region}/devices/{device_id}/telemetry` subscribes `sites/+/devices/+/telemetry`. A name may stand in
a level beside other text, `sensor_{device_id}`; of two in a level the first takes as little as it can. A name
with three dots, `{device_id...}`, takes one level or more; there may be two of them, or one and `#`, with a
level between them that is or has plain text, and the first takes as much as it can; after the second no
level may have text. `{properties&}` is a level that lists names and values, as the query of a URL does. `+`,
and `#` at the end,
match without a name (MQTT5 §4.7); `$share/<group>/` in front makes the subscription a shared one
(MQTT5 §4.8.2) and is no part of a topic.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from runtime.errors import ConfigurationError

_NAME: Final = re.compile(r"\{([^{}]*?)(\.\.\.|&)?\}")
MEANT: Final = ("device_id", "region", "metric")
_MOST_OPEN: Final = 2  # names of several levels: of three it would take long to tell that a topic is none
_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


class Template(NamedTuple):
    """A template, compiled.

    Attributes:
        topic_filter: what covers it.
        pattern: matches topics whole and takes the names out of them; no group but the names.
        names: in their order.
        loose: whether topics of one device can differ: something else than `{device_id}` varies.
        lists: which of the names are levels that list others.
    """

    topic_filter: str
    pattern: str
    names: tuple[str, ...]
    loose: bool
    lists: frozenset[str]


def compile_template(text: str, where: str) -> Template:  # noqa: C901  # the kinds of levels, one after the other
    """Check and compile a template.

    Raises:
        ConfigurationError: with its place in the file and what is wrong with it.
    """
    share, levels = _shared(text, where)
    filters: list[str] = []
    patterns: list[str] = []
    names: list[str] = []
    loose = open_ended = fixed = False
    opened = 0
    for i, level in enumerate(levels):
        last = i == len(levels) - 1
        if level == "#":
            if not last:
                raise ConfigurationError(f"{where}: # is only allowed as the last level")
            opened += 1
            if open_ended and (not fixed or opened > _MOST_OPEN):
                raise ConfigurationError(f"{where}: # and a name with ... both take all that follows")
            filters.append("#")
            loose = open_ended = True
        elif level == "+":
            filters.append("+")
            patterns.append("[^/]*")
            loose = True
        else:
            pattern, found, several = _level(level, where)
            for name in found:
                if name in names:
                    raise ConfigurationError(f"{where}: {{{name}}} appears twice")
                names.append(name)
            opened += several
            if several and ((open_ended and not fixed) or opened > _MOST_OPEN):
                raise ConfigurationError(
                    f"{where}: only one name may have ..., or two with a level of plain text between them"
                )
            if opened == _MOST_OPEN and not several and not _NAME.fullmatch(level):
                raise ConfigurationError(
                    f"{where}: {level!r} stands after a second name with ..., and no text may follow that"
                )
            fixed = not several and (fixed or not _NAME.fullmatch(level))
            open_ended = open_ended or several
            filters.append("#" if several else "+" if found else level)
            patterns.append(pattern)
    if "#" in filters:  # a name of several levels ends what a filter can say
        filters = filters[: filters.index("#") + 1]
    body = "/".join(patterns)
    if levels[-1] == "#":
        body = f"{body}(?:/.*)?" if patterns else ".*"  # a filter a/# matches a itself as well
    lists = frozenset(name for name, kind in _NAME.findall(text) if kind == "&")
    return Template(share + "/".join(filters), body, tuple(names), loose or names != ["device_id"], lists)


def _shared(text: str, where: str) -> tuple[str, list[str]]:
    levels = text.split("/")
    if levels[0] != "$share":
        return "", levels
    if len(levels) < 3 or not levels[1] or not "".join(levels[2:]):  # noqa: PLR2004  # $share, group, filter
        raise ConfigurationError(f"{where}: a shared subscription is $share/<group>/<topic>")
    if any(sign in levels[1] for sign in "+#{}"):
        raise ConfigurationError(f"{where}: the group of $share/<group>/ is plain text")
    return f"$share/{levels[1]}/", levels[2:]


def _level(level: str, where: str) -> tuple[str, list[str], bool]:
    """The pattern of a level with text and names, its names, and whether it takes several levels."""
    names: list[str] = []
    parts: list[str] = []
    end, several = 0, False
    for found in _NAME.finditer(level):
        name, kind = found.groups()
        if not _WORD.fullmatch(name):
            raise ConfigurationError(
                f"{where}: {found.group()} is no name; names are letters, digits and _, as {{device_id}}"
            )
        if kind == "&" and (found.group() != level or name in MEANT):
            raise ConfigurationError(
                f"{where}: {found.group()} is a whole level that lists names and values, as {{properties&}}"
            )
        if names and found.start() == end:
            raise ConfigurationError(f"{where}: {level!r} does not say where {{{names[-1]}}} ends")
        parts.append(_literal(level[end : found.start()], level, where))
        if names:  # takes what stands before it at its first place, for good: a topic is hostile, and long
            parts[-2:] = [f"(?>{''.join(parts[-2:])})"]
        if kind == "...":
            several = True
            if found.group() != level:
                raise ConfigurationError(
                    f"{where}: {found.group()} takes whole levels, {level!r} has more in it"
                )
            parts.append(f"(?P<{name}>.+)")
        elif found.group() == level:
            parts.append(f"(?P<{name}>[^/]*)")
        else:
            parts.append(f"(?P<{name}>[^/]+?)")
        names.append(name)
        end = found.end()
    parts.append(_literal(level[end:], level, where))
    return "".join(parts), names, several


def _literal(text: str, level: str, where: str) -> str:
    if any(sign in text for sign in "+#{}\x00"):
        raise ConfigurationError(
            f"{where}: level {level!r} mixes a wildcard with other text, or a brace is alone"
        )
    return re.escape(text)
