from reports.analysis import analyse
from reports.figures.drawing import (
    MOST_MARKED_SEEDS,
    MOST_PANELS,
    SeedMark,
    SeedMarks,
    first_panels,
    panels,
    render,
    report_style,
)
from reports.figures.option import draw_rank
from tests.unit.reports.synthetic import completed, make_spec, make_study, no_curves


def ranks_on(num_datasets):
    specs = [
        make_spec("lora", 0, dataset=f"data{index}", rank=rank) for index in range(num_datasets) for rank in (4, 8)
    ]
    return analyse(make_study([completed(spec, 0.9, 0.9) for spec in specs]), no_curves)


def test_only_the_first_panels_are_drawn_when_there_are_too_many():
    drawn, said = first_panels(list(range(MOST_PANELS + 1)))
    assert drawn == list(range(MOST_PANELS))
    assert said == f" The first {MOST_PANELS} of {MOST_PANELS + 1} panels; the table holds all."
    assert first_panels([1, 2]) == ([1, 2], "")


def test_seeds_open_their_runs_when_tracking_is_a_server():
    drawing = draw_rank(ranks_on(1))
    svg = drawing.svg(lambda run_id: f"https://host/{run_id}?a&b")
    first = drawing.marks["seed-0"]
    assert f'data-run="{first.run_id}" data-href="https://host/{first.run_id}?a&amp;b"' in svg
    # Validation and test of two ranks.
    assert svg.count('class="seed"') == 4


def test_seeds_share_one_mark_when_there_are_too_many():
    from matplotlib.figure import Figure

    seeds = [(0.0, float(index), SeedMark("a", "b")) for index in range(MOST_MARKED_SEEDS + 1)]
    marks = SeedMarks(len(seeds))
    with report_style():
        axes = Figure().subplots()
        marks.scatter(axes, seeds)
    assert (len(marks), len(axes.lines)) == (0, 1)
    # Some of them, at even distances in their order: 401 by nines.
    assert len(axes.lines[0].get_ydata()) == 45


def test_notebooks_backend_stays_when_a_report_is_drawn():
    import matplotlib

    matplotlib.use("svg", force=True)
    try:
        with report_style():
            render(panels(1)[0])
        assert matplotlib.get_backend() == "svg"
    finally:
        matplotlib.use("agg", force=True)
