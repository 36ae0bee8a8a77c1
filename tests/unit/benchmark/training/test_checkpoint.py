"""Guards that what a trial resumes from survives its bytes, and carries no code."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from benchmark.export import TrainedTrial
from benchmark.result import EpochRecord, TrialOutcome, TrialResult, TrialStatus
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


class _Marker:
    """Makes a folder when it is unpickled, as a malicious checkpoint might run anything."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


def _saved_by_torch(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("write", [pickle.dumps, _saved_by_torch])
def test_pickled_code_does_not_run_when_a_checkpoint_is_one(write: Callable[[Any], bytes], tmp_path: Path) -> None:
    content = write(_Marker(tmp_path / "ran"))
    with pytest.raises(SafetensorError):
        TrialState.from_bytes(content)
    with pytest.raises(SafetensorError):
        TrainedTrial.of(_completed_with(content))
    assert not (tmp_path / "ran").exists()
    # The check is real: unpickled, the same bytes make the folder.
    torch.load(io.BytesIO(_saved_by_torch(_Marker(tmp_path / "ran"))), weights_only=False)
    assert (tmp_path / "ran").exists()


def _completed_with(checkpoint: bytes) -> TrialOutcome:
    result = TrialResult(trial_id="0", condition_id="0", spec={}, status=TrialStatus.COMPLETED)
    return TrialOutcome(result, checkpoint=checkpoint)
