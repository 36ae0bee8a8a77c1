from reports.analysis import analyse
from reports.figures.placement_map import draw_placement_map
from tests.unit.reports.synthetic import completed, make_spec, make_study, no_curves


def placed(scores, backbone="vit_nano"):
    trials = [
        completed(make_spec("adaptertune", seed, backbone, rank=4, placement=placement), score + seed / 100)
        for placement, score in scores.items()
        for seed in range(2)
    ]
    return analyse(make_study(trials), no_curves)


def test_rows_are_ranked_and_name_their_blocks_when_drawn():
    table = draw_placement_map(placed({"all": 0.8, "every:2": 0.9, "last:2": 0.7, "blocks:0,2-3": 0.6})).table
    rows = [[cell.text for cell in row] for row in table.rows]
    # The bundled backbone has six blocks; mean of s and s + 0.01, standard deviation 0.0071.
    assert [row[1:] for row in rows] == [
        ["0 2 4", "3", "90.50 ± 0.71"],
        ["0 1 2 3 4 5", "6", "80.50 ± 0.71"],
        ["4 5", "2", "70.50 ± 0.71"],
        ["0 2 3", "3", "60.50 ± 0.71"],
    ]


def test_figure_is_vectors_with_words_when_drawn():
    drawing = draw_placement_map(placed({"all": 0.8, "every:2": 0.9, "last:2": 0.7}))
    assert b"<image" not in drawing.files["svg"]
    assert "best first: every 2nd block: 90.50 %; all blocks: 80.50 %; last 2 blocks: 70.50 %" in drawing.alternative


def test_map_is_left_out_when_the_backbones_blocks_are_unknown():
    drawing = draw_placement_map(placed({"all": 0.8, "every:2": 0.9, "last:2": 0.7}, "my_backbone"))
    assert "number of blocks is known" in drawing.left_out


def test_map_is_left_out_when_only_two_placements_have_completed():
    assert draw_placement_map(placed({"all": 0.8, "every:2": 0.9})).left_out is not None
