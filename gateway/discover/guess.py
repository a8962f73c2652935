"""What a shape of topics seems to send, as the words of a route. Pure."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from gateway.discover.columns import Row, columns_of
from gateway.discover.elements import by_name, elements_of, split_names
from gateway.discover.fields import (
    SURE_DEVICES,
    chosen,
    common,
    device_words,
    find_device,
    find_key,
    find_region,
    find_time,
    names_the_same,
    renamed,
    said_of_weak,
    says_one,
    single,
)
from gateway.discover.levels import meaning_of
from gateway.discover.looks import GENERAL
from gateway.discover.own_words import BY_DIALECT, by_dialect
from gateway.discover.readings import at_path, in_expression
from gateway.discover.shapes import VARIES
from gateway.discover.texts import packed_in, read_texts
from gateway.discover.tried import Guess, tried

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gateway.discover.columns import Columns
    from gateway.discover.heard import Sample
    from gateway.discover.readings import Elements
    from gateway.discover.shapes import Levels
    from gateway.discover.sniff import Sniffed

_NO_METRICS: Final = GENERAL | {"all"}
"""What topics end in that say nothing of what is measured."""

_OFTEN: Final = 0.25  # of messages, more of which do not come late or twice
_MANY_TOPICS: Final = 500
_COUNTED: Final = 3  # numbers one after the other, that count
_SETTINGS: Final = frozenset({"config", "set", "settings", "setup", "parameters", "params", "command", "cmd"})


def guess(
    shape: Levels, samples: Sequence[Sample], sniffed: Sequence[Sniffed], *, apart: bool = False
) -> Guess:
    """Say what messages seem to be.

    Args:
        shape: of their topics.
        samples: the messages, by topic and in the order in which they came.
        sniffed: what each of them is, all of one format.
        apart: whether the last level of the topic tells kinds of messages apart, rather than metrics.
    """
    words = dict(sniffed[0].words)
    topics = sorted({sample.topic for sample in samples})
    if words["format"] == "value":
        found = _scalars(shape, topics, samples, sniffed)
    elif words["format"] in BY_DIALECT:
        found = by_dialect(shape, topics, sniffed)
    else:
        found = _objects(shape, topics, samples, sniffed, apart=apart)
    found.samples = samples
    if all(sample.retained for sample in samples):
        found.unsure.append(_kept_only(topics))
    return tried(found)


def _kept_only(topics: Sequence[str]) -> str:
    said = "heard only as what the broker had kept, so nobody knows how often it comes, and when it was sent"
    if all(topic.rpartition("/")[2].lower() in _SETTINGS for topic in topics):
        said += "; these seem to be settings: ignore = true leaves them out"
    return said


def _scalars(
    shape: Levels, topics: Sequence[str], samples: Sequence[Sample], sniffed: Sequence[Sniffed]
) -> Guess:
    words = dict(sniffed[0].words)
    if "presence" in words:
        meaning = meaning_of(shape, topics, named=False)
        unsure = [
            *meaning.unsure,
            "says whether a device is online; presence_words has more words than usual",
        ]
        return Guess({"topic": meaning.topic, **words, "metric": "online"}, unsure)
    meaning = meaning_of(shape, topics, named=True)
    words = {"topic": meaning.topic, **words}
    if not meaning.metric:
        words["metric"] = meaning.metric_name or "value"
    unsure = list(meaning.unsure)
    values = [(sample.topic, each.values) for sample, each in zip(samples, sniffed, strict=True)]
    read_texts(
        words,
        {topic: [v for t, v in values if t == topic] for topic in topics}
        if len(topics) < _MANY_TOPICS
        else {"": [v for _, v in values]},
        unsure,
    )
    unsure += packed_in({"": [value for _, value in values]})
    return Guess(words, unsure)


def _objects(  # noqa: C901  # what a field can be, one after the other
    shape: Levels,
    topics: Sequence[str],
    samples: Sequence[Sample],
    sniffed: Sequence[Sniffed],
    *,
    apart: bool,
) -> Guess:
    once = {
        (sample.topic, sample.payload): (sample, each) for sample, each in zip(samples, sniffed, strict=True)
    }
    messages = [
        Row(sample.topic, sample.at, i, each.values, not sample.retained)
        for i, (sample, each) in enumerate(once.values())
    ]
    elements = elements_of(messages)
    columns, around = columns_of(elements.rows), columns_of(elements.around)
    words: dict[str, Any] = {"topic": "", **sniffed[0].words, **elements.words}
    unsure: list[str] = list(elements.unsure)
    for setting in ("each", "name", "value"):
        if getattr(elements, setting):
            words[setting] = getattr(elements, setting)
    taken = {elements.name, elements.value, *elements.used} - {""}
    every = common(around, len(elements.around)) | common(columns, len(elements.rows))
    every = single(every)
    time, apart_of = find_time(every, unsure)
    taken |= {time.name, *apart_of} if time else set()
    device = elements.device or find_device(every, taken, unsure)
    values = {str(cell.value) for cell in every.get(device, ())}
    named = elements.named or says_one(columns, taken | {device})
    meaning = meaning_of(
        shape,
        topics,
        named=bool(named) and not apart and not {_last(topic) for topic in topics} <= _NO_METRICS,
        devices=values,
        elsewhere=bool(device) and chosen(every.get(device, ()), device),
        region=not (region := find_region(every, taken | {device})),
        counting=_counting(shape, samples),
    )
    if meaning.device and device and not elements.device and not values <= meaning.devices:
        _topic_counts(device, names_the_same(values, meaning.devices), unsure)
        device = ""
    taken.add(device)
    key, counts = "", False
    if not _said_again(samples):
        key, counts = find_key(every, taken | {region}, unsure, timed=time is not None)
    taken |= {key, region}
    words |= {
        "topic": meaning.topic,
        "device": device,
        "key": key,
        "time": time.name if time else "",
        "region": region,
    }
    if device and not elements.device:
        words |= device_words(device, every[device], unsure)
    if time:
        words |= time.words
        unsure += time.unsure
        words |= {"ignore": [*words.get("ignore", ()), *apart_of]} if apart_of else {}
    if counts and time:
        words["identity"] = "key+time"
    unsure += meaning.unsure
    if elements.name and not device and not meaning.varies:
        _split(words, elements, unsure)
    left = {name: cells for name, cells in columns.items() if name not in taken}
    _tagged(words, elements, around, taken, unsure)
    if "metrics" in words:
        _kept(words, columns, elements, taken)
    elif short := renamed(left, named, taken, by_topic=meaning.metric):
        words["rename"] = short
    texts = {name: [cell.value for cell in cells] for name, cells in left.items()} | by_name(elements)
    read_texts(words, texts, unsure)
    unsure += packed_in(texts)
    unsure += _of_format(words)
    if not key and not time:
        unsure.append("without key and time each delivery is stored, a repeated one too")
    return Guess({name: each for name, each in words.items() if name != "value" or elements.name}, unsure)


def _topic_counts(device: str, same: bool, unsure: list[str]) -> None:  # noqa: FBT001  # of one caller
    """Say of a field that it does not name the device, unless it says the same, written otherwise."""
    unsure[:] = [each for each in unsure if each != said_of_weak(device)]
    if device in SURE_DEVICES and not same:
        unsure.append(f"the topic names the device, and {device} something else: the topic counts")


def _last(topic: str) -> str:
    return topic.rpartition("/")[2].lower()


def _said_again(samples: Sequence[Sample]) -> bool:
    """Whether messages come again after others, so that nothing in them tells them apart."""
    seen: dict[str, set[bytes]] = defaultdict(set)
    last: dict[str, bytes] = {}
    again = 0
    for sample in samples:
        again += sample.payload in seen[sample.topic] and sample.payload != last[sample.topic]
        seen[sample.topic].add(sample.payload)
        last[sample.topic] = sample.payload
    return again > _OFTEN * len(samples)


def _split(words: dict[str, Any], elements: Elements, unsure: list[str]) -> None:
    """Let names that are of a device and its metric in one say both, where the topic is of all of them."""
    if found := split_names(elements):
        more, _, said = found
        words |= more
        levels = words["topic"].split("/")
        at = next((i for i, level in enumerate(levels) if level == "{device_id}"), None)
        if at is not None:
            words["topic"] = elements.rows[0].topic
            unsure[:] = [each for each in unsure if "taken for the device's name" not in each]
        unsure.append(said)


def _tagged(
    words: dict[str, Any], elements: Elements, around: Columns, taken: set[str], unsure: list[str]
) -> None:
    """Keep as tags what stands around an array, and would be left out."""
    names = [name for name in around if name not in taken and name.partition(".")[0] not in elements.used]
    tags = [name for name in names if at_path(name)]
    if elements.each and tags:
        words["tags"] = tags
        unsure.append(f"{', '.join(tags[:5])} beside {elements.each} would be left out, and is kept as tags")


def _kept(words: dict[str, Any], columns: Columns, elements: Elements, taken: set[str]) -> None:
    """Keep what stands beside two lists: metrics that are named by a path are all that there are."""
    beside = [name for name in elements.beside & columns.keys() if at_path(name) and name not in taken]
    if beside:
        kept = ", ".join(f'"{name}": {in_expression(name)}' for name in sorted(beside))
        words["metrics"] = f"merge({{{kept}}}, {words['metrics']})"


def _of_format(words: dict[str, Any]) -> Iterator[str]:
    if words["format"] == "bytes":
        yield "the bytes are read as Cayenne LPP; others can look like it by chance"
    if words["format"] == "csv" and words["csv"].get("columns"):
        yield "columns have no names: csv.columns is to say what they are"


def _counting(shape: Levels, samples: Sequence[Sample]) -> int | None:
    """The level that is another number with each message, and goes up: it counts, and names nothing."""
    topics = [sample.topic.split("/") for sample in sorted(samples, key=lambda each: each.at)]
    if len({tuple(levels) for levels in topics}) < len(topics):
        return None
    for i, level in enumerate(shape):
        if level is not VARIES or not all(levels[i].isascii() and levels[i].isdigit() for levels in topics):
            continue
        groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for levels in topics:
            groups[*levels[:i], *levels[i + 1 :]].append(int(levels[i][:18]))
        if all(
            len(group) >= _COUNTED and all(0 < b - a <= len(group) for a, b in pairwise(group))
            for group in groups.values()
        ):
            return i
    return None
