"""The engine around DeepSpeed: what it leaves out where there is nothing to do, and where restored moments lie."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmark.launch_plan import plan_launch
from benchmark.training.engine import ParameterGroup, TrainingEngine, deepspeed_config, named_moments, restore_moments


def test_one_worker_averages_with_nobody(group_of_one: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Averaging copies all gradients into a bucket and back."""
    model = nn.Linear(3, 2)
    engine = TrainingEngine(model, [ParameterGroup(list(model.parameters()), 0.0, None)], "fp32", plan_launch(4))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("gradients were averaged")

    monkeypatch.setattr(engine._deepspeed_engine, "allreduce_gradients", refuse)
    before = model.weight.detach().clone()
    engine.accumulate(nn.functional.cross_entropy(engine(torch.ones(4, 3)), torch.zeros(4, dtype=torch.int64)))
    engine.step([0.1])
    engine.close()
    assert not torch.equal(model.weight, before)


def test_parameter_without_a_gradient_is_updated_as_among_several_workers(group_of_one: None) -> None:
    """There DeepSpeed averages zeros in its place, so weight decay moves it."""
    model = nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2)])
    model.forward = model[0].forward  # type: ignore[assignment]
    engine = TrainingEngine(model, [ParameterGroup(list(model.parameters()), 0.5, 1.0)], "fp32", plan_launch(4))
    before = model[1].weight.detach().clone()
    engine.accumulate(nn.functional.cross_entropy(engine(torch.ones(4, 3)), torch.zeros(4, dtype=torch.int64)))
    engine.step([0.1])
    engine.close()
    assert torch.allclose(model[1].weight, before * (1 - 0.1 * 0.5))


def test_no_timer_waits_for_the_device() -> None:
    assert deepspeed_config("fp32", plan_launch(4))["timers"]["throughput"]["enabled"] is False


def test_restored_moments_lie_where_their_parameter_is() -> None:
    """On a GPU the fused optimiser refuses moments, step counts included, that came from a file into memory."""
    parameter = nn.Parameter(torch.ones(3, device="meta"))
    optimizer = torch.optim.AdamW([parameter])
    saved = {"step/w": torch.tensor(2.0), "exp_avg/w": torch.ones(3), "exp_avg_sq/w": torch.ones(3)}
    restore_moments(optimizer, {"w": parameter}, saved)
    moments = named_moments(optimizer, {"w": parameter})
    assert moments.keys() == saved.keys()
    assert {value.device.type for value in moments.values()} == {"meta"}
