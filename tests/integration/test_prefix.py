"""Starting behind the frozen part changes the time, never the result: equal to the bit with the switch on and off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.cache_folder import ROOT_VARIABLE, list_entries
from benchmark.launch_plan import DEFAULT_PREFIX_CACHE_BYTES, ComputeOptions, plan_launch
from benchmark.request import resolve_trial
from benchmark.result import TrialOutcome
from benchmark.standalone import run_trial
from benchmark.training.images import _kept_images
from benchmark.training.model import AdaptedClassifier, Depth, assemble
from benchmark.training.prefix import CACHE, frozen_depth

LARGE = 2**30
TIMES = {"train_seconds", "evaluation_seconds", "wall_seconds", "train_images_per_second", "peak_memory_bytes"}


def adapter(**options: Any) -> dict[str, Any]:
    return {"name": "adaptertune", "rank": 4, **options}


def shown(augmentation: str) -> dict[str, Any]:
    """Return how digits are shown: only the paper's protocol mirrors them."""
    name = "paper" if augmentation == "flip" else "fair"
    return {"protocol": {"name": name, "augmentation": augmentation}, "dataset": {"name": "digits", "split": "fixed"}}


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    CACHE.clear()


@pytest.fixture
def num_computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each run of a frozen prefix was given."""
    counts: list[int] = []
    really = AdaptedClassifier.prefix

    def counted(self: AdaptedClassifier, pixels: torch.Tensor, depth: Depth) -> torch.Tensor:
        counts.append(len(pixels))
        return really(self, pixels, depth)

    monkeypatch.setattr(AdaptedClassifier, "prefix", counted)
    return counts


def build(method: Any) -> AdaptedClassifier:
    return assemble(resolve_trial({"backbone": "vit_nano", "dataset": "digits", "method": method}), 10)


def run(request: dict[str, Any], budget: int, file_budget: int = 0) -> TrialOutcome:
    spec = resolve_trial(request)
    compute = ComputeOptions(prefix_cache_bytes=budget, prefix_file_bytes=file_budget)
    return run_trial(spec, plan_launch(spec.training.global_batch_images, compute=compute))


def without_times(outcome: TrialOutcome) -> dict[str, Any]:
    document = outcome.result.model_dump()
    for record in (*document["epochs"], document["cost"]):
        for name in TIMES & record.keys():
            del record[name]
    del document["provenance"], document["test_read_at"], document["cost"]["energy_joules"]
    return document


@pytest.mark.parametrize(
    "method",
    [
        "head_only",
        "lda_head",
        adapter(placement="last:1"),
        adapter(placement="blocks:2,4", dropout=0.1),
        adapter(placement="last:2", site="mlp", form="parallel"),
        {"name": "lora", "rank": 4, "placement": "last:2"},
        adapter(placement="all"),
    ],
)
@pytest.mark.parametrize("augmentation", ["none", "flip", "shift"])
def test_result_is_equal_to_the_bit_when_the_prefix_is_kept(
    method: Any, augmentation: str, tiny_request: dict[str, Any]
) -> None:
    request = {**tiny_request, "method": method, **shown(augmentation)}
    kept, plain = run(request, DEFAULT_PREFIX_CACHE_BYTES), run(request, 0)
    assert without_times(kept) == without_times(plain)
    assert kept.checkpoint == plain.checkpoint
    assert kept.predictions == plain.predictions


def test_result_is_equal_to_the_bit_when_images_are_resampled_on_demand_and_the_model_computes_in_bf16(
    tiny_request: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmark.training.images.LARGEST_PREPARED_BYTES", 0)
    _kept_images.cache_clear()
    training = {**tiny_request["training"], "precision": "bf16"}
    request = {**tiny_request, "method": adapter(placement="last:1"), "training": training}
    kept, plain = run(request, DEFAULT_PREFIX_CACHE_BYTES), run(request, 0)
    _kept_images.cache_clear()
    assert without_times(kept) == without_times(plain)
    assert kept.predictions == plain.predictions


@pytest.mark.parametrize(
    ("method", "depth"),
    [
        ("head_only", Depth(6, is_pooled=True)),
        (adapter(placement="last:1"), Depth(5, with_next_block=True)),
        (adapter(placement="all"), Depth(0, with_next_block=True)),
        (adapter(placement="last:2", form="parallel"), Depth(4)),
        (adapter(placement="last:2", site="mlp", residual_add="before"), Depth(4)),
        (adapter(placement="all", site="mlp", residual_add="before"), None),
        ({"name": "lora", "rank": 2, "placement": "last:3"}, Depth(3)),
        ({"name": "peft", "peft_type": "LORA", "r": 2}, None),
        ({"name": "vpt_shallow", "num_prompts": 2}, None),
        ("full_finetune", None),
        ("bitfit", None),
        ("ssf", None),
    ],
)
def test_frozen_part_ends_at_the_first_trained_tensor(method: Any, depth: Depth | None) -> None:
    assert frozen_depth(build(method)) == depth


def test_frozen_part_ends_where_something_looks_on() -> None:
    model = build(adapter(placement="last:1"))
    handle = model.backbone.blocks[2].register_forward_hook(lambda *_: None)  # type: ignore[index, union-attr]
    assert frozen_depth(model) == Depth(2)
    handle.remove()
    assert frozen_depth(model) == Depth(5, with_next_block=True)


def test_trials_share_what_one_of_them_computed(tiny_request: dict[str, Any], num_computed: list[int]) -> None:
    for seed in (0, 1):
        run({**tiny_request, "method": "head_only", "seed": seed}, DEFAULT_PREFIX_CACHE_BYTES)
        if seed == 0:
            first = len(num_computed)
    assert 0 < len(num_computed) == first
    run({**tiny_request, "method": adapter(placement="last:1")}, DEFAULT_PREFIX_CACHE_BYTES)
    assert len(num_computed) > first, "another depth is another output"


def test_mirrored_images_are_run_through_the_prefix_once_for_all_epochs_and_seeds(
    tiny_request: dict[str, Any], num_computed: list[int]
) -> None:
    flipped = {**tiny_request, "method": adapter(placement="last:1"), **shown("flip")}
    run(flipped, DEFAULT_PREFIX_CACHE_BYTES)
    num_train, num_validation, num_test, num_tried = 1257, 180, 360, 4
    assert sum(num_computed) == 2 * num_train + num_validation + num_test + num_tried
    run({**flipped, "seed": 1, "training": {**flipped["training"], "epochs": 3}}, DEFAULT_PREFIX_CACHE_BYTES)
    assert sum(num_computed) == 2 * num_train + num_validation + num_test + num_tried
    num_computed.clear()
    run({**flipped, "method": adapter(placement="all")}, DEFAULT_PREFIX_CACHE_BYTES)
    assert sum(num_computed) == num_validation + num_test + 2, "one block saves less than twice the outputs cost"


def test_split_that_does_not_fit_the_budget_is_read_as_pixels(tiny_request: dict[str, Any]) -> None:
    request = {**tiny_request, "method": "head_only"}
    assert without_times(run(request, 1000)) == without_times(run(request, 0))
    assert not CACHE._outputs


def test_outputs_used_longest_ago_go_when_the_budget_is_full(tiny_request: dict[str, Any]) -> None:
    validation_and_test = (180 + 360) * 64 * 4
    shifted = {**tiny_request, "protocol": {"name": "fair", "augmentation": "shift"}}
    run({**shifted, "method": "head_only"}, validation_and_test)
    kept = set(CACHE._outputs)
    assert len(kept) == 2
    run(
        {**shifted, "method": "lda_head", "training": {**shifted["training"], "precision": "bf16"}}, validation_and_test
    )
    assert len(CACHE._outputs) == 2
    assert not kept & set(CACHE._outputs)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_result_is_equal_to_the_bit_when_outputs_lie_in_a_file(
    precision: str, tiny_request: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    training = {**tiny_request["training"], "precision": precision}
    request = {**tiny_request, "method": adapter(placement="last:1"), "training": training}
    written, plain = run(request, 0, LARGE), run(request, 0)
    assert without_times(written) == without_times(plain)
    assert written.predictions == plain.predictions
    assert {entry.kind for entry in list_entries()} == {"prefix"}
    assert len(list_entries()) == 4, "training, validation and test images, and what the start is compared with"


@pytest.mark.parametrize("method", ["head_only", adapter(placement="last:1")])
def test_on_cpus_what_takes_long_to_compute_lies_in_files_and_no_later_process_computes_it_again(
    method: Any, tiny_request: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, num_computed: list[int]
) -> None:
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    monkeypatch.setattr("benchmark.training.prefix.LEAST_SHARED_FLOPS", 0)
    request = {**tiny_request, "method": method}
    expected = run(request, 0)
    shared = run(request, LARGE, LARGE)
    assert without_times(shared) == without_times(expected)
    assert shared.predictions == expected.predictions
    assert not CACHE._outputs
    CACHE.clear()
    num_computed.clear()
    assert without_times(run(request, LARGE, LARGE)) == without_times(expected)
    assert num_computed == [1, 1, 1], "one image a split tells the outputs' size"


def test_on_a_full_disk_what_fits_stays_in_memory(
    tiny_request: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    monkeypatch.setattr("benchmark.training.prefix.LEAST_SHARED_FLOPS", 0)
    monkeypatch.setattr("benchmark.cache_folder._SPARE_BYTES", 2**60)
    run({**tiny_request, "method": "head_only"}, LARGE, LARGE)
    assert CACHE._outputs
    assert not [entry for entry in list_entries() if entry.kind == "prefix"]


def test_file_is_read_by_another_process_of_the_node(
    tiny_request: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, num_computed: list[int]
) -> None:
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    request = {**tiny_request, "method": "head_only"}
    expected = run(request, 0, LARGE)
    CACHE.clear()  # what another process would not have
    num_computed.clear()
    assert without_times(run(request, 0, LARGE)) == without_times(expected)
    assert num_computed == [1, 1, 1], "one image a split tells the outputs' size"
