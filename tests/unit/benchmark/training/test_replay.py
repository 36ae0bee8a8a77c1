"""What is recorded for a GPU is the pack's own pass, on the parameters' own memory; recording itself needs a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmark.launch_plan import ComputeOptions, plan_launch
from benchmark.request import resolve_trial
from benchmark.training.model import assemble
from benchmark.training.packed_model import PackedClassifier, share_frozen
from benchmark.training.replay import MOST_REPLAYED_VALUES, ReplayedClassifier, replayed_where_it_pays

ADAPTER = {"name": "adaptertune", "rank": 4}


def pack_of(*methods: Any) -> PackedClassifier:
    requests = [{"backbone": "vit_nano", "dataset": "digits", "method": method} for method in methods]
    models = [assemble(resolve_trial(request), 10) for request in requests]
    for other in models[1:]:
        share_frozen(models[0], other)
    return PackedClassifier(models)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, ...]]:
    """What was given to be recorded, each time; it runs as it is instead."""
    samples: list[tuple[Tensor, ...]] = []

    def record(function: Callable[..., Any], given: tuple[Tensor, ...], **_: Any) -> Callable[..., Any]:
        samples.append(given)
        return function

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", record)
    return samples


def gradients_of(packed: PackedClassifier, logits: list[Tensor]) -> dict[str, Tensor]:
    sum(one.logsumexp(1).sum() for one in logits).backward()  # type: ignore[union-attr]
    gradients = {name: p.grad for name, p in packed.named_parameters() if p.grad is not None}
    packed.zero_grad(set_to_none=True)
    return gradients


def test_recorded_pass_gives_the_packs_logits_and_gradients(recorded: list[Any]) -> None:
    packed = pack_of(ADAPTER, {**ADAPTER, "rank": 8, "placement": "last:2"}, "head_only")
    first, second = torch.randn(2, 4, 3, 18, 18).unbind()
    inputs = [first, second, first]
    expected = packed(inputs)
    expected_gradients = gradients_of(packed, expected)
    logits = ReplayedClassifier(packed)(inputs)
    gradients = gradients_of(packed, logits)
    assert all(torch.equal(a, b) for a, b in zip(logits, expected, strict=True))
    assert gradients.keys() == expected_gradients.keys()
    assert all(torch.equal(gradients[name], expected_gradients[name]) for name in gradients)


def test_pass_is_recorded_on_each_input_once_and_on_the_parameters_own_memory(recorded: list[Any]) -> None:
    packed = pack_of(ADAPTER, "head_only")
    replayed, shared = ReplayedClassifier(packed), torch.randn(4, 3, 18, 18)
    for _ in range(2):
        replayed([shared, shared])
    (samples,) = recorded
    trained = [parameter for parameter in packed.parameters() if parameter.requires_grad]
    assert len(samples) == 1 + len(trained)
    assert samples[0].data_ptr() != shared.data_ptr()
    assert [leaf.data_ptr() for leaf in samples[1:]] == [parameter.data_ptr() for parameter in trained]
    assert all(leaf is not parameter for leaf, parameter in zip(samples[1:], trained, strict=True))


def test_pass_is_recorded_again_when_inputs_change_shape_or_owners(recorded: list[Any]) -> None:
    replayed = ReplayedClassifier(pack_of(ADAPTER, "head_only"))
    first, second = torch.randn(2, 4, 3, 18, 18).unbind()
    for inputs in ([first, first], [first, second], [first[:2], second[:2]], [second, first]):
        replayed(inputs)
    assert len(recorded) == 3
    replayed.forget()
    replayed([first, first])
    assert len(recorded) == 4


def test_lack_of_memory_is_told_when_ending_the_recording_fails_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def record(*_: Any, **__: Any) -> None:
        try:
            raise torch.OutOfMemoryError("CUDA out of memory")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", record)
    with pytest.raises(torch.OutOfMemoryError):
        ReplayedClassifier(pack_of(ADAPTER))([torch.randn(4, 3, 18, 18)])


@pytest.mark.parametrize(
    ("method", "batch", "how", "is_replayed"),
    [
        (ADAPTER, 64, {}, True),
        (ADAPTER, 64, {"device": "cpu"}, False),
        (ADAPTER, 64, {"accumulation_steps": 2}, False),
        (ADAPTER, 64, {"compute": ComputeOptions(cuda_graphs=False)}, False),
        ({**ADAPTER, "dropout": 0.1}, 64, {}, False),
        (ADAPTER, MOST_REPLAYED_VALUES // (9 * 64), {}, True),
        (ADAPTER, MOST_REPLAYED_VALUES // (9 * 64) + 1, {}, False),
    ],
)
def test_passes_are_replayed_only_where_that_is_possible_and_pays(
    method: Any, batch: int, how: dict[str, Any], is_replayed: bool
) -> None:
    plan = plan_launch(batch, **{"device": "cuda", **how})
    assert isinstance(replayed_where_it_pays(pack_of(method), plan), ReplayedClassifier) == is_replayed
