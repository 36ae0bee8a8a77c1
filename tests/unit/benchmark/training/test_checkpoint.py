"""Guards that what a trial resumes from survives its bytes, and carries no code."""

from __future__ import annotations

import pytest
import torch

from benchmark.result import EpochRecord
from benchmark.training.checkpoint import TrialState, restore

RECORD = EpochRecord(
    epoch=1,
    train_loss=0.1 + 0.2,
    validation_loss=1 / 3,
    validation_top1=0.5,
    feature_drift=0.0,
    learning_rate=1e-3,
    train_seconds=1.0,
    evaluation_seconds=0.5,
)


def test_state_is_equal_when_read_back_from_its_bytes() -> None:
    state = TrialState(
        trial_id="abc",
        records=[RECORD],
        first_step_losses=[2.0, 0.1 + 0.2],
        selected_epoch=1,
        selected={"head.weight": torch.randn(3, 2)},
        model={"head.weight": torch.randn(3, 2)},
        moments={"step/head.weight": torch.tensor(3.0)},
    )
    read = TrialState.from_bytes(state.to_bytes())
    assert (read.trial_id, read.records, read.first_step_losses, read.selected_epoch) == (
        state.trial_id,
        state.records,
        state.first_step_losses,
        state.selected_epoch,
    )
    assert torch.equal(read.model["head.weight"], state.model["head.weight"])
    assert torch.equal(read.selected["head.weight"], state.selected["head.weight"])
    assert read.moments["step/head.weight"] == 3.0


def test_restoring_is_refused_when_the_parameters_are_others() -> None:
    with pytest.raises(ValueError, match="other parameters"):
        restore({"a": torch.nn.Parameter(torch.zeros(1))}, {"b": torch.zeros(1)})
