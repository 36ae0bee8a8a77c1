"""Trials in one pass give what they give alone: the same losses, scores and predictions, up to rounding."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import benchmark
from benchmark.errors import DivergedError, TrialError
from benchmark.launch_plan import ComputeOptions, LaunchPlan, plan_launch
from benchmark.request import resolve_trial
from benchmark.result import TrialOutcome
from benchmark.spec import TrialSpec
from benchmark.training import pack, packed_model
from benchmark.training.process_group import join, leave
from benchmark.training.trial import EpochReport, MemberReport, pack_steps, trial_steps
from tests.packs import MIXED, adapter, logits_of, reports_of, trial


@pytest.fixture(autouse=True, scope="module")
def group() -> Iterator[None]:
    join(0, 1)
    yield
    leave()


def plan(specs: Sequence[TrialSpec], **switches: Any) -> LaunchPlan:
    return plan_launch(specs[0].training.global_batch_images, compute=ComputeOptions(**switches))


def alone(spec: TrialSpec, **switches: Any) -> TrialOutcome:
    *_, outcome = trial_steps(spec, plan([spec], **switches))
    assert isinstance(outcome, TrialOutcome)
    return outcome


def packed(specs: list[TrialSpec], checkpoints: Any = None, **switches: Any) -> dict[str, list[Any]]:
    return reports_of(specs, plan(specs, **switches), checkpoints)


def bytes_of_one(specs: Sequence[TrialSpec]) -> int:
    """Return what a pack of the first trial alone takes."""
    return pack._taken_bytes([pack._need_of(pack.OpenTrial(specs[0], plan(specs), None), plan(specs))])


def assert_equal(found: TrialOutcome, expected: TrialOutcome) -> None:
    """fp32 losses within 1e-5 over the first 50 steps, and the same class for every test image."""
    losses = zip(found.result.first_step_losses[:50], expected.result.first_step_losses[:50], strict=True)
    assert max(abs(a - b) for a, b in losses) < 1e-5
    assert np.array_equal(logits_of(found).argmax(1), logits_of(expected).argmax(1))
    assert found.result.selected_epoch == expected.result.selected_epoch


@pytest.fixture(scope="module")
def mixed_pack(group: None) -> dict[str, list[Any]]:
    torch.set_num_threads(1)
    return packed(list(MIXED.values()))


@pytest.mark.parametrize("name", MIXED)
def test_trial_equals_itself_alone_when_it_trains_beside_others(name: str, mixed_pack: dict[str, list[Any]]) -> None:
    spec = MIXED[name]
    *epochs, found = mixed_pack[spec.trial_id]
    expected = alone(spec)
    assert [report.record.epoch for report in epochs] == list(range(spec.training.epochs + 1))
    assert_equal(found, expected)
    assert found.result.provenance.frozen_sha256_after == expected.result.provenance.frozen_sha256_after
    assert found.result.provenance.pack_size == len(MIXED)


def test_trials_equal_themselves_alone_when_all_switches_are_on_and_images_are_not_augmented() -> None:
    methods = (adapter(), adapter(placement="last:2"), adapter(placement="last:1"), "head_only")
    specs = [trial(method, augmentation="none", global_batch_images=64) for method in methods]
    found = packed(specs)
    for spec in specs:
        assert_equal(found[spec.trial_id][-1], alone(spec, prefix_cache_bytes=0, cast_frozen_weights=False))


def test_trials_equal_themselves_alone_to_the_bit_when_their_tokens_are_too_many_to_be_stacked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packed_model, "LEAST_APART_VALUES", 1)
    specs = [MIXED[name] for name in ("all blocks", "inside the branches", "the head alone, smoothed labels")]
    found = packed(specs)
    for spec in specs:
        outcome, expected = found[spec.trial_id][-1], alone(spec)
        assert outcome.result.first_step_losses == expected.result.first_step_losses
        assert outcome.predictions == expected.predictions


def test_as_many_trials_are_open_at_once_as_keep_activations_within_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [trial(adapter(rank=rank), global_batch_images=256) for rank in (1, 2, 3, 4)]

    def lots(pack_bytes: int) -> list[int]:
        return [len(lot) for lot in pack.opened(specs, plan(specs, pack_bytes=pack_bytes), [None] * len(specs))]

    room_for_two = bytes_of_one(specs) * 5 // 2
    assert lots(room_for_two) == [2, 2]
    monkeypatch.setattr(packed_model, "LEAST_APART_VALUES", 1)
    assert lots(room_for_two) == [4], "apart, they keep those of one"


def test_trial_that_diverges_leaves_the_others_as_they_are() -> None:
    lost = trial("head_only", learning_rate=1e30, gradient_clip_norm=None, global_batch_images=64)
    kept = [
        trial(adapter(placement="last:2"), epochs=2, global_batch_images=64),
        trial(adapter(), seed=1, global_batch_images=64),
    ]
    found = packed([kept[0], lost, kept[1]])
    assert isinstance(found[lost.trial_id][-1], DivergedError)
    assert "optimiser step" in str(found[lost.trial_id][-1])
    for spec in kept:
        assert_equal(found[spec.trial_id][-1], alone(spec))


def test_trials_go_on_when_their_checkpoints_are_of_different_epochs() -> None:
    specs = [
        trial(adapter(rank=rank, placement="last:2"), seed, epochs=3, global_batch_images=256)
        for rank, seed in ((2, 0), (4, 1))
    ]
    whole = packed(specs)
    checkpoints = [whole[spec.trial_id][epoch].checkpoint for spec, epoch in zip(specs, (2, 1), strict=True)]
    resumed = packed(specs, checkpoints)
    assert [len(resumed[spec.trial_id]) for spec in specs] == [2, 3]
    for spec in specs:
        assert_equal(resumed[spec.trial_id][-1], whole[spec.trial_id][-1])


def test_trials_form_several_packs_when_memory_holds_only_one_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    really = pack.Pack.__init__

    def counted(self: pack.Pack, members: Any, how: LaunchPlan) -> None:
        sizes.append(len(members))
        really(self, members, how)

    monkeypatch.setattr(pack.Pack, "__init__", counted)
    specs = [trial(adapter(), seed, global_batch_images=256) for seed in range(3)]
    needed = bytes_of_one(specs)
    packed(specs, pack_bytes=2 * needed)
    packed(specs, pack_bytes=0)
    assert sizes == [2, 1, 1, 1, 1]


def test_pack_is_refused_when_frozen_weights_differ() -> None:
    request = {"backbone": {"name": "vit_nano", "weights": "random"}, "dataset": "digits", "method": "head_only"}
    specs = [resolve_trial({**request, "seed": seed}) for seed in (0, 1)]
    with pytest.raises(TrialError, match="different frozen weights"):
        next(pack_steps(specs, plan_launch(specs[0].training.global_batch_images), [None, None]))


def test_rank_zero_hands_over_a_checkpoint_of_each_member_after_each_epoch() -> None:
    specs = [trial(adapter(), seed, global_batch_images=256) for seed in (0, 1)]
    steps = list(pack_steps(specs, plan(specs), [None, None]))
    assert all(isinstance(step, MemberReport) for step in steps)
    epochs = [step.report for step in steps if isinstance(step.report, EpochReport)]
    assert [report.record.epoch for report in epochs] == [0, 0, 1, 1]
    assert all(report.checkpoint for report in epochs)


def test_there_is_one_training_loop() -> None:
    """Backward passes and optimiser steps are called for at one place each: `loop.py`, through the engine."""
    callers = {"accumulate": set(), "backward": set()}
    for path in Path(benchmark.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in callers:
                callers[node.func.attr].add(path.relative_to(Path(benchmark.__file__).parent).as_posix())
    assert callers["accumulate"] == {"training/loop.py"}
    counting = {"training/operations.py", "training/footprint.py"}
    assert callers["backward"] - counting - {"certificate.py", "pretraining/pretrain.py"} == {"training/engine.py"}
