"""Every method can be counted on a model without values, and takes there what it takes with values."""

from __future__ import annotations

from typing import Any

import pytest

from benchmark.launch_plan import plan_launch
from benchmark.methods.contract import find_method, method_names
from benchmark.request import resolve_trial
from benchmark.training.footprint import step_footprint
from benchmark.training.model import assemble
from benchmark.training.valueless import valueless_model

IMAGES = 4

CASES = [
    pytest.param({"name": name, **find_method(name).certified[0]}, id=name)
    for name in method_names()
    if not find_method(name).fits_head
]
# It computes with the weights when it is attached, so it is attached to weights, and their values are dropped after.
CASES += [pytest.param({"name": "peft", "r": 4, "init_lora_weights": "pissa"}, id="peft-pissa")]


@pytest.mark.parametrize("method", CASES)
def test_step_takes_the_same_when_the_model_has_no_values(method: dict[str, Any]) -> None:
    training = {"global_batch_images": IMAGES, "epochs": 2, "warmup_epochs": 0}
    spec = resolve_trial({"backbone": "vit_nano", "dataset": "digits", "method": method, "training": training})
    plan, size = plan_launch(IMAGES), spec.backbone.image_size_pixels
    with valueless_model(spec, num_classes=10) as model:
        found = step_footprint(model, "fp32", plan, size)
    assert found == step_footprint(assemble(spec, 10), "fp32", plan, size)
