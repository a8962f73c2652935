"""What the levels of a topic mean: device, region, metric; others are tags. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.discover.looks import (
    DEVICE_WORDS,
    GENERAL,
    METRIC_WORDS,
    REGION_WORDS,
    dates_in,
    look_of,
    looks_like_id,
    word_set,
    words_of,
)
from gateway.discover.shapes import VARIES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from gateway.discover.shapes import Levels

_ENDS: Final = word_set("value state get status reading data now current")
_SHARED: Final = 0.1  # of the names of devices, that many may come twice by chance
_MOST_REGIONS: Final = 50
_CHANNEL: Final = 3  # digits, that number a channel rather than a device; letters of words such as gas
_SHOWN: Final = 4
_BAD: Final = re.compile(r"[+#{}\x00]")


class Meaning(NamedTuple):
    """Of a topic's levels.

    Attributes:
        topic: the template.
        device, metric: whether it names one.
        region: likewise.
        devices: the names of its devices.
        metric_name: of a topic whose one metric is a constant.
        varies: whether the level of the device does.
    """

    topic: str
    device: bool
    metric: bool
    region: bool
    devices: frozenset[str]
    metric_name: str
    unsure: list[str]
    varies: bool


def meaning_of(
    shape: Levels,
    topics: Sequence[str],
    *,
    named: bool,
    devices: Collection[str] = (),
    elsewhere: bool = False,
    region: bool = True,
    counting: int | None = None,
) -> Meaning:
    """Say what the levels are.

    Args:
        shape: of the topics.
        topics: of this shape.
        named: whether the topic has to name the metric.
        devices: names of devices, when messages say them too.
        elsewhere: whether messages name the device, so that the topic need not.
        region: whether the topic may name one.
        counting: the level that numbers messages.
    """
    split = [topic.split("/") for topic in topics]
    names = [{levels[i] for levels in split} for i in range(len(shape))]
    fixed = _dates(split) | ({counting: "number"} if counting is not None else {})
    roles: dict[int, str] = {}
    unsure: list[str] = []
    metric = _metric(shape, names, fixed) if named else None
    if metric is not None and (shape[metric] is VARIES or len(shape) > 1):
        roles[metric] = "metric"
    varying = [i for i, level in enumerate(shape) if level is VARIES and i not in roles and i not in fixed]
    device = _device(shape, names, varying, devices)
    if device is None and not elsewhere:
        device = _constant(shape, names, taken=roles.keys() | fixed.keys())
        if device is not None and len(shape) > 1:
            unsure.append(
                f"{shape[device]!r} of the topic is taken for the device's name, as nothing else names one"
            )
    if elsewhere and device is not None and devices and not names[device] & set(devices):
        device = None
    if device is not None:
        roles[device] = "device_id"
    several = _levels_of_device(split, device, varying)
    place = (
        None
        if not region or several is not None
        else _region(
            shape, names, [i for i in varying if i not in roles and _of_one(split, device, i)], device
        )
    )
    if place is not None:
        roles[place] = "region"
        if not REGION_WORDS & set(words_of(shape[place - 1] or "" if place else "")):
            unsure.append(f"level {place + 1} of the topic is taken for the region: {_some(names[place])}")
    tags = [i for i in varying if i not in roles and (several is None or i < several or i > (device or 0))]
    unsure += _mixed(split, device, metric, tags, names)
    parts = _template(shape, roles, several, device, fixed)
    constant = metric is not None and shape[metric] is not VARIES and "metric" not in roles.values()
    if device is not None and len(varying) > 1:
        unsure.append(f"level {device + 1} of the topic is taken for the device: {_some(names[device])}")
    if several is not None:
        unsure.append(
            "the same device names come under several others, so all of these levels are the device"
        )
    return Meaning(
        "/".join(parts),
        device is not None,
        "metric" in roles.values(),
        place is not None,
        frozenset(names[device]) if device is not None else frozenset(),
        str(shape[metric]) if constant and metric is not None else "",
        unsure,
        device is not None and shape[device] is VARIES,
    )


def _dates(split: Sequence[Sequence[str]]) -> dict[int, str]:
    """The levels that are dates by all topics, and what of them each is."""
    first, *others = map(dates_in, split)
    return {i: of for i, of in first.items() if all(other.get(i) == of for other in others)}


def _of_one(split: Sequence[Sequence[str]], device: int | None, level: int) -> bool:
    """Whether each device comes under one name of a level only, as it is in one region."""
    seen: dict[str, set[str]] = defaultdict(set)
    for levels in split if device is not None else ():
        seen[levels[device or 0]].add(levels[level])
    return all(len(each) == 1 for each in seen.values())


def _mixed(
    split: Sequence[Sequence[str]],
    device: int | None,
    metric: int | None,
    tags: Sequence[int],
    names: Sequence[set[str]],
) -> Iterator[str]:
    """What to say of tags by which metrics of one device and name come together."""
    for tag in tags:
        seen: dict[tuple[str, str], set[str]] = defaultdict(set)
        for levels in split:
            whose = levels[device] if device is not None else ""
            seen[whose, levels[metric] if metric is not None else ""].add(levels[tag])
        if any(len(each) > 1 for each in seen.values()):
            yield (
                f"level {tag + 1} of the topic is kept as a tag: {_some(names[tag])}; what one device sends "
                f"by several of them are the same metrics of it"
            )


def _metric(shape: Levels, names: Sequence[set[str]], fixed: Collection[int]) -> int | None:
    last: int = max((i for i in range(len(shape)) if i not in fixed), default=0)
    if last > 1 and shape[last] is not VARIES and str(shape[last]).lower() in _ENDS:
        last -= 1
    order: list[int] = [i for i in (last, *range(last - 1, 0, -1)) if i not in fixed]
    known: list[int] = [
        i for i in order if {word for name in names[i] for word in words_of(name)} & METRIC_WORDS
    ]
    for i in known or order:
        if not all(looks_like_id(name) for name in names[i]):
            return i
    return last


def _device(
    shape: Levels, names: Sequence[set[str]], varying: Sequence[int], devices: Collection[str]
) -> int | None:
    best: tuple[float, int] | None = None
    for i in varying:
        score = 10.0 * (sum(map(looks_like_id, names[i])) * 2 > len(names[i]))
        score += 3.0 * (sum(look_of(name) != name for name in names[i]) * 2 > len(names[i]))
        before = set(words_of(shape[i - 1] or "")) if i else set()
        score += 6.0 * bool(before & DEVICE_WORDS) - 6.0 * bool(before & REGION_WORDS)
        score += 20.0 * bool(devices and len(names[i] & set(devices)) * 2 > len(names[i]))
        score += len(bin(len(names[i]))) / 2 + 0.6 * i
        score -= 8.0 * all(name.isdigit() and len(name) <= _CHANNEL for name in names[i])
        if best is None or score > best[0]:
            best = score, i
    return best[1] if best else None


def _constant(shape: Levels, names: Sequence[set[str]], taken: Collection[int]) -> int | None:
    free = [i for i in range(len(shape)) if i not in taken and shape[i]]
    ids = [i for i in free if any(looks_like_id(name) and len(name) > _CHANNEL for name in names[i])]
    numbered = [
        i for i in free if look_of(str(shape[i])) != shape[i] and str(shape[i]).lower() not in GENERAL
    ]
    words = [i for i in free if str(shape[i]).lower() not in GENERAL and not str(shape[i]).isdigit()]
    return next((each[-1] for each in (ids, numbered, words, free) if each), None)


def _levels_of_device(
    split: Sequence[Sequence[str]], device: int | None, varying: Sequence[int]
) -> int | None:
    """From which level on the device's name goes, when the last of them alone is not one device."""
    before = [i for i in varying if device is not None and i < device]
    if device is None or not before:
        return None
    seen: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for levels in split:
        seen[levels[device]].add(tuple(levels[i] for i in before))
    shared = sum(len(each) > 1 for each in seen.values())
    return before[0] if shared > len(seen) * _SHARED else None


def _region(
    shape: Levels, names: Sequence[set[str]], varying: Sequence[int], device: int | None
) -> int | None:
    hinted = [i for i in varying if i and REGION_WORDS & set(words_of(shape[i - 1] or ""))]
    if hinted:
        return hinted[0]
    before = [
        i
        for i in varying
        if device is not None and i < device and len(names[i]) <= min(len(names[device]), _MOST_REGIONS)
        and not any(map(looks_like_id, names[i]))
    ]  # fmt: skip
    return before[0] if before else None


def _template(
    shape: Levels, roles: dict[int, str], several: int | None, device: int | None, fixed: dict[int, str]
) -> list[str]:
    parts: list[str] = []
    used: set[str] = set(roles.values())
    for i, level in enumerate(shape):
        if several is not None and device is not None and several <= i <= device:
            if i == several:
                parts.append("{device_id...}")
        elif i in roles:
            parts.append(f"{{{roles[i]}}}")
        elif level is VARIES:
            name = fixed.get(i) or _tag(shape[i - 1] if i else None, i)
            while name in used:
                name += "_"
            used.add(name)
            parts.append(f"{{{name}}}")
        else:
            parts.append("+" if _BAD.search(level) else level)
    return parts


def _tag(before: str | None, at: int) -> str:
    word = "_".join(words_of(before or ""))
    if (
        not word
        or not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", word)
        or word in GENERAL | {"device_id", "region", "metric", "claimed_ts"}
    ):
        return f"level{at + 1}"
    return word.removesuffix("s") if len(word) > _CHANNEL and not word.endswith("ss") else word


def _some(names: Collection[str]) -> str:
    shown = ", ".join(sorted(names)[:_SHOWN])
    return f"{shown}, …" if len(names) > _SHOWN else shown
