import math

import pytest

from reports.analysis import analyse
from reports.figures.initialisation import draw_initialisation, first_losses
from tests.unit.reports.synthetic import completed, curves_of, losses_of, make_spec, make_study, no_curves


@pytest.fixture
def study():
    specs = [make_spec("adaptertune", seed, rank=4, init=init) for init in ("zero", "small") for seed in range(2)]
    return make_study([completed(spec, 0.9, 0.9) for spec in specs])


def test_loss_is_told_by_step_when_the_first_steps_were_stored(study):
    drawing = draw_initialisation(analyse(study, curves_of(study), losses_of(study)))
    told = {column.key: cell.value for column, cell in zip(drawing.table.columns, drawing.table.rows[0], strict=True)}
    # 2.3 at the first step and 2.3 exp(-99 / 50) at the hundredth, and half of seed 1's hundredth more.
    assert told["train_loss_step_1"] == pytest.approx(2.305)
    assert told["train_loss_step_100"] == pytest.approx(2.3 * math.exp(-1.98) + 0.005)
    assert "first optimiser steps" in drawing.caption


def test_steps_are_left_out_when_none_were_stored(study):
    drawing = draw_initialisation(analyse(study, curves_of(study)))
    assert drawing.files is not None
    assert "optimiser steps" not in drawing.caption


def test_seeds_count_as_far_as_they_went_when_some_broke_off(study):
    analysis = analyse(study, no_curves, lambda run_ids: {run_ids[0]: [2.0, math.nan], run_ids[1]: [3.0]})
    assert first_losses(analysis, analysis.conditions[0]) == {1: [2.0, 3.0]}
