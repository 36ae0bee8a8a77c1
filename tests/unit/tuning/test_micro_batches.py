"""Guards that a trial short of memory goes on with smaller micro-batches and the same global batch."""

from __future__ import annotations

import pytest

from benchmark.launch_plan import LaunchPlan, plan_launch, reduced
from tests.trials import make_spec
from tuning.micro_batches import MicroBatches


@pytest.mark.parametrize(
    ("micro_batch_images", "smaller"), [(256, 128), (2, 1), (15, 5), (7, 1)], ids=["even", "two", "odd", "prime"]
)
def test_global_batch_stays_when_the_micro_batch_is_made_smaller(micro_batch_images, smaller):
    plan = plan_launch(2 * micro_batch_images, num_workers=2)
    less = reduced(plan)
    assert less is not None
    assert (less.micro_batch_images, less.num_reductions) == (smaller, 1)
    assert less.global_batch_images == plan.global_batch_images
    assert less.prefix_cache_bytes == plan.prefix_cache_bytes // 2


def test_nothing_is_left_to_reduce_when_the_micro_batch_is_one_image():
    assert reduced(plan_launch(4, accumulation_steps=4)) is None


def plan_of(sizes: MicroBatches, seed: int, **options) -> LaunchPlan:
    plan_json = plan_launch(8).model_dump_json()
    return LaunchPlan.model_validate_json(sizes.plan_of(make_spec(seed, **options).model_dump_json(), plan_json))


def test_other_seeds_of_the_condition_begin_smaller_when_one_ran_out_of_memory():
    sizes = MicroBatches()
    assert plan_of(sizes, 0).micro_batch_images == 8
    assert sizes.reduce()
    assert plan_of(sizes, 0).micro_batch_images == plan_of(sizes, 1).micro_batch_images == 4
    assert plan_of(sizes, 1, kind="other").micro_batch_images == 8


def test_reduction_is_refused_when_one_image_was_too_many():
    sizes = MicroBatches()
    assert not sizes.reduce(), "no trial has begun"
    plan_of(sizes, 0)
    assert [sizes.reduce() and plan_of(sizes, 0).micro_batch_images for _ in range(4)] == [4, 2, 1, False]
    assert sizes.story() == " (with a micro-batch of 1, made smaller 3 times)"
