"""Guards one whole trial in one process: deterministic, resumable to the bit, sealed, and honest about failure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from benchmark.backbones.contract import tensors_sha256
from benchmark.backbones.vit_nano import read_bundled_tensors
from benchmark.errors import DivergedError, TrialError
from benchmark.launch_plan import LaunchPlan, plan_launch
from benchmark.request import resolve_trial
from benchmark.result import TrialOutcome, TrialStatus
from benchmark.spec import TrialSpec
from benchmark.standalone import run_trial
from benchmark.training import images, open_trial, pack
from benchmark.training.open_trial import OpenTrial
from benchmark.training.process_group import join, leave
from benchmark.training.trial import EpochReport, trial_steps


@pytest.fixture(autouse=True, scope="module")
def group() -> Iterator[None]:
    join(0, 1)
    yield
    leave()


def _spec(request: dict[str, Any]) -> tuple[TrialSpec, LaunchPlan]:
    spec = resolve_trial(request)
    return spec, plan_launch(spec.training.global_batch_images)


def _run(request: dict[str, Any], resume_from: bytes | None = None) -> tuple[list[EpochReport], TrialOutcome]:
    *reports, outcome = trial_steps(*_spec(request), resume_from)
    return reports, outcome  # type: ignore[return-value]


def _without_times(outcome: TrialOutcome) -> dict[str, Any]:
    result = outcome.result.model_dump(exclude={"cost", "provenance", "test_read_at"})
    for record in result["epochs"]:
        del record["train_seconds"], record["evaluation_seconds"]
    return result


def test_result_is_equal_to_the_bit_when_the_trial_is_repeated(tiny_request: dict[str, Any]) -> None:
    (_, first), (_, second) = _run(tiny_request), _run(tiny_request)
    assert _without_times(first) == _without_times(second)
    assert first.checkpoint == second.checkpoint


def test_second_trial_of_a_process_equals_the_first_when_each_joins_a_group(tiny_request: dict[str, Any]) -> None:
    spec, plan = _spec(tiny_request)
    leave()
    try:
        first, second = (run_trial(spec, plan) for _ in range(2))
    finally:
        join(0, 1)
    assert _without_times(first) == _without_times(second)


@pytest.mark.parametrize("num_epochs_before", [0, 1, 2])
def test_result_is_equal_to_the_bit_when_resumed(tiny_request: dict[str, Any], num_epochs_before: int) -> None:
    reports, whole = _run(tiny_request)
    _, resumed = _run(tiny_request, reports[num_epochs_before].checkpoint)
    assert _without_times(resumed) == _without_times(whole)
    assert resumed.checkpoint == whole.checkpoint


def test_result_is_equal_to_the_bit_when_resumed_with_random_masks(tiny_request: dict[str, Any]) -> None:
    masked = {**tiny_request, "method": {"name": "adapter_plus", "rank": 4, "dropout": 0.3, "drop_path": 0.3}}
    reports, whole = _run(masked)
    _, resumed = _run(masked, reports[1].checkpoint)
    assert resumed.checkpoint == whole.checkpoint


def test_masks_change_the_training_when_asked_for(tiny_request: dict[str, Any]) -> None:
    plain = {**tiny_request, "method": {"name": "adaptertune", "rank": 4, "init": "small"}}
    masked = {**plain, "method": {**plain["method"], "drop_path": 0.3}}
    (_, first), (_, second) = _run(plain), _run(masked)
    assert first.result.first_step_losses != second.result.first_step_losses
    assert first.result.epochs[0].validation_loss == second.result.epochs[0].validation_loss


def test_checkpoint_is_refused_when_it_belongs_to_another_trial(tiny_request: dict[str, Any]) -> None:
    reports, _ = _run(tiny_request)
    with pytest.raises(TrialError, match="belongs to trial"):
        _run({**tiny_request, "seed": 1}, reports[1].checkpoint)


def test_result_is_complete_when_the_trial_ends(tiny_request: dict[str, Any]) -> None:
    reports, outcome = _run(tiny_request)
    result = outcome.result
    assert [report.record.epoch for report in reports] == [0, 1, 2]
    assert result.status is TrialStatus.COMPLETED
    assert result.epochs[0].feature_drift == 0.0  # the zero initialisation starts at the pretrained features
    assert result.provenance is not None
    assert result.provenance.frozen_sha256_before == result.provenance.frozen_sha256_after
    assert result.provenance.weights_sha256 == tensors_sha256(read_bundled_tensors())
    assert result.provenance.backbone_licence == "Apache-2.0"
    assert result.cost is not None
    assert result.cost.num_adapter_parameters == 6 * (2 * 64 * 4 + 4 + 64)


def test_selected_epoch_is_the_best_on_validation_when_the_protocol_says_so(tiny_request: dict[str, Any]) -> None:
    result = _run(tiny_request)[1].result
    best = max(record.validation_top1 for record in result.epochs[1:])
    assert result.validation is not None
    assert result.validation.top1 == best


def test_selected_epoch_is_the_last_when_the_protocol_says_so(tiny_request: dict[str, Any]) -> None:
    request = {**tiny_request, "protocol": {"name": "fair", "selection": "last_epoch"}}
    assert _run(request)[1].result.selected_epoch == 2


def test_test_split_is_opened_once_and_last_when_a_trial_runs(
    tiny_request: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def recording(dataset: Any, split: Any, presentation: Any) -> Any:
        opened.append(split)
        return images.open_images(dataset, split, presentation)

    monkeypatch.setattr(open_trial, "open_images", recording)
    steps = trial_steps(*_spec(tiny_request))
    before_the_end = [next(steps) for _ in range(3)]
    assert opened == ["train", "validation"]
    next(steps)
    assert opened == ["train", "validation", "test"]
    assert len(before_the_end) == 3


def test_trial_diverges_with_its_step_when_the_learning_rate_is_absurd(tiny_request: dict[str, Any]) -> None:
    training = {**tiny_request["training"], "learning_rate": 1e30, "gradient_clip_norm": None}
    with pytest.raises(DivergedError, match="optimiser step"):
        _run({**tiny_request, "method": "full_finetune", "training": training})


def test_trial_is_refused_when_the_frozen_backbone_was_touched(
    tiny_request: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[OpenTrial] = []
    monkeypatch.setattr(pack, "OpenTrial", lambda *given: opened.append(OpenTrial(*given)) or opened[-1])
    steps = trial_steps(*_spec(tiny_request))
    next(steps)
    next(iter(opened[0].model.frozen.values())).data.add_(1.0)
    with pytest.raises(TrialError, match="frozen backbone's bytes changed"):
        list(steps)


def test_result_is_equal_to_the_bit_when_bf16_is_repeated(tiny_request: dict[str, Any]) -> None:
    request = {**tiny_request, "training": {**tiny_request["training"], "precision": "bf16"}}
    (_, first), (_, second) = _run(request), _run(request)
    assert _without_times(first) == _without_times(second)


def test_trial_has_one_epoch_without_losses_when_the_head_is_fitted_in_closed_form(
    tiny_request: dict[str, Any],
) -> None:
    reports, outcome = _run({**tiny_request, "method": "lda_head"})
    result = outcome.result
    assert [report.record.epoch for report in reports] == [0, 1]
    assert (result.first_step_losses, result.epochs[1].train_loss, result.selected_epoch) == ([], None, 1)
    assert result.cost is not None
    assert result.cost.num_adapter_parameters == 0
    assert result.test is not None
    assert result.test.top1 > result.epochs[0].validation_top1
    assert _run({**tiny_request, "method": "lda_head"}, reports[0].checkpoint)[1].checkpoint == outcome.checkpoint


def test_result_is_equal_to_the_bit_when_the_start_comes_from_images(tiny_request: dict[str, Any]) -> None:
    pytest.importorskip("peft", reason="the extra `peft` is not installed")
    request = {**tiny_request, "method": {"name": "peft", "r": 4, "init_lora_weights": "eva"}}
    reports, whole = _run(request)
    _, resumed = _run(request, reports[1].checkpoint)
    assert whole.result.epochs[0].feature_drift == 0.0
    assert _without_times(resumed) == _without_times(whole)
    assert resumed.checkpoint == whole.checkpoint


def test_head_starts_at_the_closed_form_and_trains_on_when_asked_for_lda(tiny_request: dict[str, Any]) -> None:
    fitted = _run({**tiny_request, "method": "lda_head"})[1].result
    training = {**tiny_request["training"], "head_init": "lda"}
    for seed in (0, 1):
        result = _run({**tiny_request, "method": "head_only", "training": training, "seed": seed})[1].result
        assert fitted.validation is not None
        assert result.epochs[0].validation_top1 == fitted.validation.top1
        assert result.epochs[0].validation_loss == pytest.approx(fitted.validation.loss, rel=1e-5)
        assert result.epochs[1].validation_loss != result.epochs[0].validation_loss


def test_start_from_images_is_computed_once_for_all_seeds(
    tiny_request: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft", reason="the extra `peft` is not installed")
    from benchmark.methods.parts import peft_bridge

    computed = []
    really = peft_bridge.start_at_singular_vectors
    monkeypatch.setattr(peft_bridge, "start_at_singular_vectors", lambda *given: (computed.append(1), really(*given)))
    request = {**tiny_request, "method": {"name": "peft", "r": 3, "init_lora_weights": "eva"}}
    first, again = (_run({**request, "seed": seed})[1] for seed in (0, 0))
    other = _run({**request, "seed": 1})[1]
    assert len(computed) == 1
    assert first.checkpoint == again.checkpoint != other.checkpoint


def test_frozen_bytes_are_those_after_attaching_when_the_method_rewrites_them(tiny_request: dict[str, Any]) -> None:
    pytest.importorskip("peft", reason="the extra `peft` is not installed")
    request = {**tiny_request, "method": {"name": "peft", "r": 4, "init_lora_weights": "pissa"}}
    provenance = _run(request)[1].result.provenance
    assert provenance is not None
    assert provenance.frozen_sha256_before == provenance.frozen_sha256_after
    assert provenance.frozen_sha256_before != provenance.weights_sha256
