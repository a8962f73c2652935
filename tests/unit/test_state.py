"""What a projector remembers is bounded."""

from __future__ import annotations

from projector.views.state import RUN, VIEW, Shelf, View, metric


def use(shelf: Shelf, run: int, id_: str, *names: str) -> View:
    """A view, with metrics that a run touches and that are read when they are not remembered."""
    view = shelf.get(id_)
    known = view.places.keys() if view else ()
    if view is None or not set(names) <= set(known):
        read = View(id_)
        read.know({name: metric(fresh=True) for name in names if name not in known})
        shelf.learn(read)
    view = shelf[id_]
    for name in names:
        view.cells[view.places[name] + RUN] = run
    return view


def test_what_is_used_stays() -> None:
    """Views that no run has touched for long go; one that is used by every run does not."""
    shelf = Shelf(100)
    for run in range(1, 200):
        shelf.turn(run)
        use(shelf, run, "constant", "t").count = run
        use(shelf, run, f"d{run}", "t")
    assert len(shelf) <= 20
    constant = shelf.get("constant")
    assert constant is not None
    assert constant.count == 199


def test_metrics_of_a_view_in_constant_use_go() -> None:
    """A region with new names in every run keeps those that are used."""
    shelf = Shelf(100)
    for run in range(1, 500):
        shelf.turn(run)
        view = use(shelf, run, "region", "t", *(f"m{run}-{i}" for i in range(10)))
    assert len(view.places) <= 100
    assert "t" in view.places


def test_marks_of_metrics_count_too() -> None:
    """Views whose newest messages lack most of what they ever sent are as large as their marks."""
    shelf = Shelf(1000)
    for run in range(1, 200):
        shelf.turn(run)
        shelf.learn(View(f"d{run}", others={f"m{i}": "k" for i in range(46)}))
    assert len(shelf) <= 1000 / 50 + 2


def test_a_fleet_that_fits_stays() -> None:
    """Devices that all send in turn are read once each; of twice as many some are held."""
    shelf, run, missed = Shelf(1000), 0, 0
    for _ in range(5):
        for i in range(190):  # a view with a metric is 5
            run += 1
            shelf.turn(run)
            missed += shelf.get(f"d{i}") is None
            use(shelf, run, f"d{i}", "t")
    assert missed == 190
    for _ in range(2000):
        run += 1
        shelf.turn(run)
        use(shelf, run, f"d{run % 400}", "t")
        assert len(shelf) < 1600 / 5


def test_marks_of_a_topic_for_each_metric_are_counted() -> None:
    """A device whose messages carry a metric each has a mark for each of the others; these take room too."""
    shelf = Shelf(1000)
    for run in range(1, 2000):
        shelf.turn(run)
        name = f"m{run // 40 % 20}"
        view = use(shelf, run, f"d{run % 40}", name)
        view.reshape([name])
        view.mark = f"{run:04d}"
    views = [view for view in (shelf.get(f"d{device}") for device in range(40)) if view]
    assert len(views) > 10
    assert sum(VIEW + len(view.places) + len(view.others) for view in views) < 1000
