from __future__ import annotations

import msgspec
import pytest

from projector.repair.compare import Difference, View, compare, compare_marks, compare_member

STATISTICS = {"sum_t": "100", "count_t": "10", "avg_t": "10", "min_t": "9", "max_t": "11", "last_t": "10"}
FIELDS = {"device_id": "d", **STATISTICS}


def view(**fields: str) -> View:
    """A device's view with fields put over the usual ones."""
    return View({**FIELDS, **fields}, None, None)


def same_marks(one: tuple[object, ...], other: tuple[object, ...], *, region: bool = True) -> bool:
    """Whether marks, packed one value after the other, are found equal."""
    fields = {"device_id": "d"} | ({"region": "north"} if region else {})
    views = [View(fields, None, b"".join(map(msgspec.msgpack.encode, values))) for values in (one, other)]
    return not list(compare_marks("k", "d", *views))


@pytest.mark.parametrize(
    ("field", "found", "equal"),
    [
        ("sum_t", "100.00000005", True),
        ("sum_t", "100.000001", False),
        ("avg_t", "10.000000005", True),
        ("avg_t", "10.1", False),
        ("sum_t", "much", False),
        ("sum_t", "nan", False),
        ("last_t", "10.000000000001", False),
        ("min_t", "9.0", False),
        ("device_id", "D", False),
    ],
)
def test_only_sums_may_differ(field: str, found: str, *, equal: bool) -> None:
    """Sums and averages may differ by 1e-9, everything else is compared to the letter."""
    differences = list(compare("k", view(), view(**{field: found})))
    assert differences == ([] if equal else [Difference("differs", "k", field, FIELDS[field], found)])


def test_sums_that_cancel_out() -> None:
    """What is left of readings that cancel each other out is measured by all of them: a sine of two days."""
    waves = {"min_t": "-100", "max_t": "100", "count_t": "172800"}
    assert not list(compare("k", view(sum_t="0", **waves), view(sum_t="1.2e-06", **waves)))
    assert list(compare("k", view(sum_t="0", **waves), view(sum_t="0.02", **waves)))
    assert list(compare("k", view(avg_t="0", **waves), view(avg_t="1.2e-06", **waves)))


def test_time_of_writing_is_not_compared() -> None:
    """When a view was written is not what it says; that it has such a time is."""
    assert not list(compare("k", view(updated_ms="1"), view(updated_ms="2")))
    assert list(compare("k", view(updated_ms="1"), view())) == [
        Difference("differs", "k", "updated_ms", "1", None)
    ]


def test_whole_keys() -> None:
    """A key that is missing, extra or something else than a hash is one difference."""
    nothing = View(None, None, None)
    assert [each.kind for each in compare("k", view(), nothing)] == ["missing"]
    assert [each.kind for each in compare("k", nothing, view())] == ["extra"]
    (other,) = compare("k", view(), View("WRONGTYPE", None, None))
    assert (other.kind, other.field, other.found) == ("differs", None, "WRONGTYPE")
    assert not list(compare("k", nothing, nothing))
    kinds = [next(compare_member("k", "m", *pair)).kind for pair in (("1", None), (None, "1"), ("1", "2"))]
    assert kinds == ["missing", "extra", "differs"]


def test_marks_are_compared_by_what_they_mean() -> None:
    """However marks came to be packed, equal ones are equal and others are not."""
    short = (7, "k", '["a","b"]')
    assert same_marks(short, (7, "k", '["b","a"]', 7, "k"))
    assert same_marks(short, (7, "k", '["a"]', 7, "k", {"b": [7, "k"]}))
    assert not same_marks(short, (7, "k", '["a","b"]', 6, "k"))
    assert not same_marks(short, (7, "k", '["a"]', 7, "k", {"b": [6, "k"]}))
    assert not same_marks(short, ("rubbish",))
    assert same_marks((7, "k", "[]"), (7, "k", "[]", 1, ""), region=False)
    assert not list(compare_marks("k", "d", View({}, None, None), View({}, None, None)))
